# SPDX-License-Identifier: MIT
"""A machine with LUO of the RFC of 2025 and its PCI subsystem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from luoser.errors import UsageError
from luoser.fdt import parse
from luoser.liveupdate.drivers import Driver, driver_named
from luoser.liveupdate.machine import Machine
from luoser.liveupdate.memory import Folio
from luoser.liveupdate.scenario import Scenario
from luoser.liveupdate.subsystems.folio import ListFolio
from luoser.liveupdate.subsystems.luo import Luo, LuoState, OtherSubsystem
from luoser.liveupdate.subsystems.pci import PciSubsystem
from luoser.liveupdate.subsystems.series import SERIES
from luoser.liveupdate.subsystems.side import DEPENDED, REQUESTED, KernelSide
from luoser.liveupdate.tree import Bus, PciDevice
from luoser.state.to_json import fdt_document
from luoser.text import bdf_text

__all__ = ["SubsystemMachine"]

_PCI = "pci"
_FIRST_WINDOW, _VF_BARS = 13, 6
"""Slots of struct pci_dev's resources: BARs and ROM, then with SR-IOV the BARs of VFs, then windows."""


class SubsystemMachine(Machine):
    """A machine with subsystems.

    luo: LUO, over both kernels.
    pci: PCI subsystem of the running kernel.
    """

    FAULTS = frozenset({"allocate", "freeze", "override", "prepare", "preserve", "probe", "register", "walk"})
    CHANGES = frozenset({"add", "bind", "remove", "unbind", "unlink"})

    pci: PciSubsystem

    def __init__(self, scenario: Scenario, *, is_fixed: bool = False, own: Mapping[str, Driver] | None = None) -> None:
        super().__init__(scenario, is_fixed=is_fixed, own=own)
        self.series = replace(SERIES[scenario.series], has_iov=scenario.has_iov)
        self._in_map: list[Folio] = []
        self.luo = Luo(self.trace, self.pages, is_rfc=not self.series.is_lab, is_fixed=is_fixed)
        self.boot()
        self.register()
        for name in scenario.requested:
            self._request(self.tree.find(name))

    def _request(self, device: PciDevice) -> None:
        """A driver requests to preserve its device. pci-lu-stub logs it when it binds."""
        device.flags |= REQUESTED
        if device.driver is not None and device.driver.name == "pci-lu-stub":
            word = "busmaster" if self.series.posting == 2 else "requested"
            kind = "" if self.series.posting == 2 else "as "
            self.trace.log(f"{device.label} Marking device {kind}liveupdate {word}")

    def boot(self) -> None:
        super().boot()
        for bus in self.tree.buses():
            bus.resources = self._windows(bus)
        self.luo.subsystems = []
        side = KernelSide(
            trace=self.trace,
            pages=self.pages,
            luo=self.luo,
            tree=self.tree,
            series=self.series,
            is_fixed=self.is_fixed,
            faults=self.faults,
        )
        self.pci = PciSubsystem.of(side, is_new=self.kernels > 1)

    def _windows(self, bus: Bus) -> tuple[Mapping[str, Any], ...]:
        """The windows of a bus: those in the scenario for a root bus, else those of the bridge above it."""
        if bus.bridge is None:
            return self.scenario.windows.get(bus.name, ())
        first = _FIRST_WINDOW if self.series.has_iov else _FIRST_WINDOW - _VF_BARS
        return bus.bridge.resources[first : first + 4]

    def register(self) -> None:
        """Register the subsystems of the scenario, in its order. Raises Panic."""
        for name in self.scenario.subsystems:
            if name == _PCI:
                self.pci.register()
            else:
                self.luo.subsystems.append(OtherSubsystem(self.trace, self.pages, name, self.faults))

    def driver_named(self, name: str) -> Driver:
        return driver_named(name, is_fixed=self.is_fixed, checks_marks=self.series.stubs_check_marks)

    # -- steps --

    def prepare(self) -> None:
        """Prepare all subsystems. KHO writes its map afterwards, and not again. Raises Failure."""
        self.luo.prepare()
        self._in_map = list(self.pages.preserved())

    def cancel(self) -> None:
        self.luo.cancel()

    def freeze(self) -> None:
        self.luo.freeze()

    def kexec(self) -> None:
        self.luo.kexec()
        self.pages.kexec()

    def restore(self) -> None:
        """Enumerate devices, then register subsystems. Raises Panic."""
        self.pci.incoming.restore()
        self.register()

    def finish(self) -> None:
        self.luo.finish()

    def added(self, device: PciDevice) -> None:
        self.pci.incoming.add(device)

    def removed(self, device: PciDevice, *, unlink: bool) -> None:
        self.pci.outgoing.remove(device, unlink=unlink)

    # -- the result --

    @property
    def handed_list(self) -> ListFolio | None:
        """The list of devices at the address in LUO's devicetree. None if there is none."""
        address = self.luo.handed_over.get(_PCI, 0)
        if self.series.form is None or address not in self.pages.folios:
            return None
        return ListFolio(self.pages, self.series.form, address)

    def carried(self) -> list[Folio]:
        return self._in_map

    def leaks(self) -> list[Folio]:
        return self.pages.left() if self.luo.state is LuoState.NORMAL else []

    def flags_left(self) -> list[str]:
        """Flags that will never be cleared, in state normal. In the first kernel the flag of a request is not one."""
        if self.luo.state is not LuoState.NORMAL:
            return []
        own = DEPENDED if self.kernels == 1 else DEPENDED | REQUESTED
        found = [f"{device.name} {device.flags & own:x}" for device in self.tree.enumerate() if device.flags & own]
        found += [f"{host.name} {host.flags:x}" for host in self.tree.hosts.values() if host.flags]
        return found + [f"bus {bus.name}" for bus in self.tree.buses() if bus.is_depended]

    def document(self) -> dict[str, Any]:
        """The state document. There is one also after a failed freeze, as the devicetree is still in memory."""
        address = self.luo.fdt or self.luo.incoming
        if not address:
            raise UsageError(f"no image: nothing is handed over in state {self.luo.state}")
        values = [{"name": name, "data": f"{value:#x}"} for name, value in self.luo.handed_over.items()]
        tree = fdt_document(parse(bytes(self.pages.folios[address].data)))
        found = self.handed_list
        handover = {
            "compatible": "kho-v1",
            "direction": "incoming" if self.luo.incoming else "outgoing",
            "scratch": None,
            "subtrees": [{"name": "LUO", "address": f"{address:#x}", "size": None, "fdt": tree}],
            "luo": {"layout": "luo-v1-subsystems", "address": f"{address:#x}", "subsystems": values},
            "pci": [self._list(found)] if found is not None else [],
        }
        return {"handovers": [handover]}

    def _list(self, found: ListFolio) -> dict[str, Any]:
        devices = [
            {"bdf": bdf_text(entry["path"] >> 16, entry["path"] & 0xFFFF), **_document_values(entry)}
            for entry in found.entries()
        ]
        buses = [{"bus": f"{bus['domain']:04x}:{bus['number']:02x}", **_document_values(bus)} for bus in found.buses()]
        return {
            "layout": found.form.name,
            "address": f"{found.address:#x}",
            "via": [f"subsystem:{_PCI}"],
            "devices": devices,
            "buses": buses,
        }


def _document_values(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a record in a state document, without those that identify the record."""
    values = {name: value for name, value in entry.items() if name not in ("path", "domain", "number")}
    if "driver_data" in values:
        values["driver_data"] = f"{values['driver_data']:#x}"
    if "resource" in values:
        values["resource"] = list(values["resource"])
    return values
