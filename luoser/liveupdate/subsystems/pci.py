# SPDX-License-Identifier: MIT
"""The PCI subsystem of the 2025 series, as it registers with LUO."""

from __future__ import annotations

from dataclasses import dataclass, fields

from luoser.liveupdate.subsystems.incoming import Incoming
from luoser.liveupdate.subsystems.luo import LuoState
from luoser.liveupdate.subsystems.outgoing import Outgoing
from luoser.liveupdate.subsystems.side import PREFIX, KernelSide

__all__ = ["PciSubsystem"]


@dataclass(slots=True)
class PciSubsystem:
    """The PCI subsystem of one kernel. docs/liveupdate.md has its known bugs."""

    outgoing: Outgoing
    incoming: Incoming
    name: str = "pci"

    @classmethod
    def of(cls, side: KernelSide, *, is_new: bool) -> PciSubsystem:
        """The PCI subsystem of a kernel. is_new: this is the next kernel."""
        shared = {member.name: getattr(side, member.name) for member in fields(KernelSide)}
        return cls(Outgoing(**shared), Incoming(**shared, is_new=is_new))

    def register(self) -> None:
        """Register with LUO at late init. Raises Panic if that fails in the next kernel."""
        side = self.outgoing
        fault = ("register", self.name)
        if fault not in side.faults:
            side.luo.subsystems.append(self)
        elif side.luo.state is LuoState.UPDATED:
            raise side.trace.panic(f"{PREFIX} Register subsystem failed: {-side.faults[fault]}")
        else:
            side.trace.log(f"WARNING: {PREFIX} Register subsystem failed {-side.faults[fault]}")

    def prepare(self) -> int:
        """As `Outgoing.prepare`."""
        return self.outgoing.prepare()

    def freeze(self, data: int) -> int:
        """As `Outgoing.freeze`."""
        return self.outgoing.freeze(data)

    def cancel(self, data: int) -> None:
        """As `Outgoing.cancel`."""
        self.outgoing.cancel(data)

    def finish(self, data: int) -> None:
        """As `Incoming.finish`."""
        self.incoming.finish(data)
