# SPDX-License-Identifier: MIT
"""The PCI subsystem in the first kernel: the list of devices, prepare, freeze, cancel.

A known bug of the list A.9 (docs/liveupdate.md) is added to the trace when it occurs. With `is_fixed` the behaviour is
what the series promises: all bridges up to the root are preserved, and after an undo nothing is left over.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from luoser.liveupdate.subsystems.folio import Entry, ListFolio
from luoser.liveupdate.subsystems.side import DEPENDED, PREFIX, REQUESTED, KernelSide
from luoser.liveupdate.trace import Failure
from luoser.liveupdate.tree import Bus, HostBridge, PciDevice

__all__ = ["Outgoing"]

_NAME_SIZE = 63
_REASONS = {
    errno.ENOENT: "no driver",
    errno.EPERM: "driver does not support liveupdate",
    errno.ENXIO: "save device state failed",
    errno.ENOSPC: "save device state failed",
    errno.EOVERFLOW: "save device state failed",
}
_NO_BRIDGE, _HOST_BRIDGE, _PCI_BRIDGE = 0, 1, 2


@dataclass(slots=True, kw_only=True)
class Outgoing(KernelSide):
    """The outgoing side of the PCI subsystem.

    preserved: prepared devices, in the order of the list.
    buses:     in the list, from v1 patch 19 on.
    folio:     the list. None: no list.
    """

    preserved: list[PciDevice] = field(default_factory=list)
    buses: list[Bus] = field(default_factory=list)
    folio: ListFolio | None = None

    # -- the list --

    def collect(self) -> list[PciDevice]:
        """Mark the bridges and PFs that other devices need. Returns all marked devices, children first."""
        found: list[PciDevice] = []
        for bus in self.tree.buses():
            listed = len(found)
            for device in reversed(bus.devices):
                if device.flags & (REQUESTED | (DEPENDED if self.series.marks_all or self.is_fixed else 0)):
                    self._mark_needed(device)
                if device.flags:
                    found.append(device)
                    self.log_device(device, f"collect liveupdate device:{self._marks(device)}")
            if self.series.has_buses and (len(found) > listed or bus.is_depended):
                self._collect_bus(bus)
        self._show_unmarked(found)
        return found

    def _marks(self, device: PciDevice) -> str:
        if self.series.posting == 2:
            return f" flags {device.flags:x}"
        return "".join(
            word for bit, word in ((DEPENDED, " [depended]"), (REQUESTED, " [requested]")) if device.flags & bit
        )

    def _mark_needed(self, device: PciDevice) -> None:
        if self.series.marks_all and device.physfn is not None:
            device.physfn.flags |= DEPENDED
        parent = device.parent
        if not isinstance(parent, HostBridge):
            parent.flags |= DEPENDED
        elif not self.is_fixed:
            parent.flags |= DEPENDED
            self.trace.bug(2, f"{parent.name} is marked for {device.name}, is not a PCI device, and is never cleared")

    def _collect_bus(self, bus: Bus) -> None:
        bus.is_depended = True
        if bus.parent is not None:
            bus.parent.is_depended = True
        self.buses.append(bus)
        self.trace.log(f"pci_bus {bus.name}: {PREFIX} collect liveupdate bus {bus.name}")

    def _show_unmarked(self, devices: list[PciDevice]) -> None:
        for device in devices:
            missing = [bridge.name for bridge in device.above if not bridge.flags]
            if missing and device.flags & REQUESTED:
                self.trace.bug(1, f"{', '.join(missing)} above {device.name} is not marked")

    def _clean_buses(self) -> None:
        for bus in self.buses:
            bus.is_depended = False
        self.buses.clear()

    # -- prepare --

    def prepare(self) -> int:
        """Make the list and prepare its devices. Returns its physical address. Raises Failure; then nothing is left."""
        if not self.series.collects:
            self.log("prepare data[0]")
            return 0
        if self.series.form is None:  # the series builds the list, but does not write it yet
            self.log("prepare data[0]")
            self.clean(self.collect())
            return 0
        devices = self.collect()
        try:
            folio = ListFolio.create(self.pages, self.series.form, len(devices), len(self.buses))
        except Failure:
            self.clean(devices)
            self._clean_buses()
            raise
        self._prepare_devices(folio, devices)
        if self.series.has_buses:
            folio.write_buses([self._bus_values(bus) for bus in self.buses])
        self.folio = folio
        self.log(f"prepare data[{folio.address:x}]")
        return folio.address

    def _prepare_devices(self, folio: ListFolio, devices: list[PciDevice]) -> None:
        for index, device in enumerate(devices):
            is_checked = False
            try:
                self._check(device)
                is_checked = True
                self._prepare_device(folio, index, device)
            except Failure as failure:
                reason = "prepare() failed" if is_checked else _REASONS[failure.code]
                self.log_device(device, f"luo prepare failed {-failure.code} ({reason})")
                if is_checked and device.driver is not None and device.driver.has("cancel"):
                    self.trace.bug(7, f"{device.name} gets no cancel for its own failed prepare")
                self._cancel_walk(folio)
                self._drop(folio)
                self.clean(devices[index:])
                self._clean_buses()
                raise

    def _check(self, device: PciDevice) -> None:
        """Raises Failure for a device that cannot be preserved. Its entry stays empty."""
        driver = device.driver
        if driver is None:
            raise Failure(errno.ENOENT)
        if not self.has_ops(device):
            raise Failure(errno.EPERM)
        if self.series.has_names and not driver.name:
            raise Failure(errno.ENXIO)
        if self.series.has_names and len(driver.name) >= _NAME_SIZE:
            raise Failure(errno.ENOSPC)
        if device.domain > 0xFFFF:
            if self.is_fixed:
                raise Failure(errno.EOVERFLOW)
            self.trace.bug(10, f"{device.name} is written with the path {device.path:#x}")

    def _prepare_device(self, folio: ListFolio, index: int, device: PciDevice) -> None:
        entry = self._values(folio, device)
        folio.write(index, entry)
        if self.calls(device, "prepare"):
            self.call("prepare", device)
            assert device.driver is not None
            folio.write(index, {**entry, "driver_data": device.driver.prepare(device)})
        self.preserved.append(device)

    def _values(self, folio: ListFolio, device: PciDevice) -> Entry:
        """The members of a device's entry, with a driver_data of 0."""
        assert device.driver is not None
        values: Entry = {
            **device.members,
            "path": device.path,
            "flags": device.flags,
            "requested": device.flags & REQUESTED,
            "driver_name": device.driver.name,
            "driver_data": 0,
            "num_vfs": device.num_vfs,
            "devfn": device.bdf & 0xFF,
            "resource": self._resources(device),
        }
        known = {field.name for field in folio.form.record.fields}
        return {name: value for name, value in values.items() if name in known}

    def _resources(self, device: PciDevice) -> tuple[Entry, ...]:
        """BARs and windows by slot. Slots without a name are empty. A VF has none."""
        if device.physfn is not None:
            return ()
        return tuple(
            {**slot, "name": device.name if self.series.patch < 22 else slot["name"]} if slot.get("name") else {}
            for slot in device.resources
        )

    def _bus_values(self, bus: Bus) -> Entry:
        values: Entry = {"domain": bus.domain & 0xFFFF, "number": bus.number}
        if self.series.patch < 22:
            return values
        kind = _NO_BRIDGE if bus.is_virtual else _PCI_BRIDGE if bus.parent is not None else _HOST_BRIDGE
        if bus.parent is not None:
            values |= {"parent_domain": bus.parent.domain & 0xFFFF, "parent_number": bus.parent.number}
        windows = bus.resources if kind == _HOST_BRIDGE or self.series.checks_buses else ()
        return {**values, "bridge_type": kind, "resource": tuple(slot if slot.get("name") else {} for slot in windows)}

    def _drop(self, folio: ListFolio) -> None:
        self.pages.unpreserve(folio.address)
        self.pages.free(folio.address)
        self.folio = None

    # -- cancel and freeze --

    def cancel(self, data: int) -> None:
        """Undo prepare and freeze. data: physical address of the list."""
        self.log(f"cancel data[{data:x}]")
        if self.series.form is None:
            return
        folio = self._at(data)
        self._cancel_walk(folio)
        self._clean_buses()
        self._drop(folio)

    def _at(self, address: int) -> ListFolio:
        assert self.series.form is not None
        return ListFolio(self.pages, self.series.form, address)

    def _cancel_walk(self, folio: ListFolio) -> None:
        """Cancel all prepared devices, each with the entry of the same index, as the series does."""
        for index, device in enumerate(list(self.preserved)):
            _, entry = self._entry_of(folio, index, device)
            if self.is_gone(device) or entry is None:
                continue
            if not self.is_fixed:
                self.need_ops(device, "cancel")
            if device.driver is not None and self.has_ops(device) and device.driver.has("cancel"):
                self.call("cancel", device, entry["driver_data"])
                device.driver.cancel(device, entry["driver_data"])
            self.clean([device])
        self.preserved.clear()

    def freeze(self, data: int) -> int:
        """Freeze all prepared devices. data: physical address of the list. Returns it. Raises Failure or Panic."""
        self.log(f"freeze data[{data:x}]")
        if self.series.form is None:
            return data
        folio = self._at(data)
        for index, device in enumerate(list(self.preserved)):
            place, entry = self._entry_of(folio, index, device)
            try:
                if entry is not None:
                    self._freeze_device(folio, place, device, entry)
            except Failure as failure:
                self.log_device(device, f"luo freeze failed {-failure.code}")
                self._undo_freeze(folio, index)
                raise
        return data

    def _freeze_device(self, folio: ListFolio, place: int, device: PciDevice, entry: Entry) -> None:
        if self.is_gone(device):
            return
        driver = device.driver
        if driver is None:
            if self.is_fixed:
                raise Failure(errno.ENOENT)
            self.need_ops(device, "freeze")
        assert driver is not None
        if not self.has_ops(device):
            if self.is_fixed:
                raise Failure(errno.EPERM)
            self.trace.bug(6, f"{device.name} is now bound to {driver.name}, which has no callbacks")
            raise self.trace.panic(f"{device.name}: null pointer: {driver.name} has no live-update callbacks")
        if self.calls(device, "freeze"):
            self.call("freeze", device, entry["driver_data"])
            value = driver.freeze(device, entry["driver_data"])
            if value != entry["driver_data"]:
                folio.write(place, {**entry, "driver_data": value})

    def _undo_freeze(self, folio: ListFolio, index: int) -> None:
        for place, device in enumerate(self.preserved):
            if place >= index and device.driver is not None and device.driver.has("cancel"):
                word = "for its own failed freeze" if place == index else "without having been frozen"
                self.trace.bug(7, f"{device.name} gets cancel {word}")
        self._cancel_walk(folio)
        if self.is_fixed:
            self._clean_buses()
            self._drop(folio)
            return
        self.trace.bug(5, f"{folio.address:#x} stays preserved, and LUO does not cancel the one that failed")
        if self.buses:
            self.trace.flaw(f"{len(self.buses)} buses stay marked, and will be in the next list in any case")
            self.buses.clear()

    def _entry_of(self, folio: ListFolio, index: int, device: PciDevice) -> tuple[int, Entry | None]:
        """(index, entry) that the series uses for a device: that of the same index, even if it is of another device."""
        if self.is_fixed:
            index = folio.find(device.path)
        entry = folio.read(index)
        if entry is not None and entry["path"] != device.path:
            self.trace.bug(3, f"{device.name} gets entry {index}, of path {entry['path']:#x}")
        return index, entry

    # -- removal of a device --

    def remove(self, device: PciDevice, *, unlink: bool) -> None:
        """Remove a device from the tree. The series does nothing then. unlink: remove it from its list nevertheless."""
        gone = self.tree.below(device)
        if self.is_fixed and self.folio is not None:
            for one in [one for one in gone if one in self.preserved]:
                self._cancel_removed(self.folio, one)
        if unlink or self.is_fixed:
            self.preserved = [one for one in self.preserved if one not in gone]
        self.tree.remove(device)

    def _cancel_removed(self, folio: ListFolio, device: PciDevice) -> None:
        index = folio.find(device.path)
        entry: dict[str, Any] | None = folio.read(index)
        assert entry is not None
        if device.driver is not None and device.driver.has("cancel"):
            self.call("cancel", device, entry["driver_data"])
            device.driver.cancel(device, entry["driver_data"])
        folio.write(index, {**entry, "driver_data": 0})
