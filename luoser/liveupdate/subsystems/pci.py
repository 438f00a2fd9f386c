# SPDX-License-Identifier: MIT
"""The PCI subsystem of the 2025 series as LUO knows it, with its known bugs or without them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from luoser.liveupdate.subsystems.incoming import Incoming
from luoser.liveupdate.subsystems.luo import LuoState
from luoser.liveupdate.subsystems.outgoing import Outgoing
from luoser.liveupdate.subsystems.side import PREFIX, Side

__all__ = ["PciSubsystem"]


@dataclass(slots=True)
class PciSubsystem:
    """One kernel's PCI subsystem: what it was handed, and what it hands over."""

    outgoing: Outgoing
    incoming: Incoming
    name: str = "pci"

    @classmethod
    def of(cls, side: Side, *, is_new: bool) -> PciSubsystem:
        """is_new: whether this is the kernel that takes over."""
        shared = {member.name: getattr(side, member.name) for member in fields(Side)}
        return cls(Outgoing(**shared), Incoming(**shared, is_new=is_new))

    def register(self) -> None:
        """At late init. Raises Panic where that fails in a kernel that was handed state."""
        side = self.outgoing
        fault = ("register", self.name)
        if fault not in side.faults:
            side.luo.subsystems.append(self)
        elif side.luo.state is LuoState.UPDATED:
            raise side.trace.panic(f"{PREFIX} Register subsystem failed: {-side.faults[fault]}")
        else:
            side.trace.log(f"WARNING: {PREFIX} Register subsystem failed {-side.faults[fault]}")

    def prepare(self) -> int:
        return self.outgoing.prepare()

    def freeze(self, data: int) -> int:
        return self.outgoing.freeze(data)

    def cancel(self, data: int) -> None:
        self.outgoing.cancel(data)

    def finish(self, data: int) -> None:
        self.incoming.finish(data)
