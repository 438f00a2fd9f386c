# SPDX-License-Identifier: MIT
"""The PCI subsystem of the 2025 series "PCI/LUO" v2, with its known bugs or without them.

Bugs are those of the list A.9 of the ABI; each says so in the trace when it shows. `is_fixed` is the behaviour
that the series promises: all bridges up to the root are kept, and what is undone leaves nothing behind.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luoser.abi.pci import PciLayout, layout
from luoser.liveupdate.luo import Luo, LuoState
from luoser.liveupdate.memory import Pages, get_order
from luoser.liveupdate.trace import Failure, Trace
from luoser.liveupdate.tree import HostBridge, PciDevice, Tree

__all__ = ["FOLIO", "LU_BUSMASTER", "LU_BUSMASTER_BRIDGE", "SERIES", "Entry", "PciSubsystem", "Series"]

LU_BUSMASTER, LU_BUSMASTER_BRIDGE = 1, 2
FOLIO = "pci folio"
_NAME_SIZE = 63
_COMMAND_BUG = "config writes that change the bus-master bit are still suppressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """How far the series is applied.

    has_pcieport: pcieport has its empty table of callbacks; without it no bridge can be prepared. keeps_busmaster:
    the bus-master bit is left alone while flags are set.
    """

    layout: str
    has_pcieport: bool
    keeps_busmaster: bool

    @property
    def has_names(self) -> bool:
        return self.layout == "pci-lu-v2-06"


SERIES = {
    "v2-05": Series(layout="pci-lu-v2-03", has_pcieport=False, keeps_busmaster=False),
    "v2-06": Series(layout="pci-lu-v2-06", has_pcieport=False, keeps_busmaster=False),
    "v2-08": Series(layout="pci-lu-v2-06", has_pcieport=True, keeps_busmaster=False),
    "v2-10": Series(layout="pci-lu-v2-06", has_pcieport=True, keeps_busmaster=True),
    "lab": Series(layout="pci-lu-v2-03", has_pcieport=True, keeps_busmaster=False),
}
"""By the last patch that is applied. lab: the form of v2-05 with bridges, as kernels wrote it for the dumps that
luoser is tested with."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the folio."""

    path: int
    flags: int
    driver_name: str
    driver_data: int


@dataclass(slots=True, kw_only=True)
class PciSubsystem:
    """faults: errno by (callback, device); of `walk`, the driver's prepare iterates over buses."""

    trace: Trace
    pages: Pages
    luo: Luo
    tree: Tree
    series: Series
    is_fixed: bool = False
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    preserved: list[PciDevice] = field(default_factory=list)
    probed: list[PciDevice] = field(default_factory=list)
    folio: int | None = None
    name: str = "pci"

    @property
    def form(self) -> PciLayout:
        found = layout(self.series.layout)
        assert found is not None
        return found

    # -- the list --

    def collect(self) -> list[PciDevice]:
        """Mark what has to stay for its children, and list all that is marked, children first."""
        found = []
        for bus in self.tree.buses():
            for device in reversed(bus.devices):
                if device.flags & (LU_BUSMASTER | (LU_BUSMASTER_BRIDGE if self.is_fixed else 0)):
                    self._mark_parent(device)
                if device.flags:
                    found.append(device)
                    self.trace.log(f"{device.label} collect liveupdate device: flags {device.flags:x}")
        self._show_unmarked(found)
        return found

    def _mark_parent(self, device: PciDevice) -> None:
        parent = device.parent
        if isinstance(parent, HostBridge):
            if not self.is_fixed:
                parent.flags |= LU_BUSMASTER_BRIDGE
                self.trace.bug(2, f"{parent.name}, no PCI device, is marked for {device.name} and never cleared")
            return
        parent.flags |= LU_BUSMASTER_BRIDGE

    def _show_unmarked(self, devices: list[PciDevice]) -> None:
        for device in devices:
            missing = [bridge.name for bridge in device.above if not bridge.flags]
            if missing and device.flags & LU_BUSMASTER:
                self._show(1, f"nothing marks {', '.join(missing)} above {device.name}")

    # -- prepare --

    def prepare(self) -> int:
        devices = self.collect()
        try:
            address = self._new_folio(len(devices))
        except Failure as failure:
            self._clean(devices)
            self.trace.log(f"PCI liveupdate: prepare failed: {failure}")
            raise
        for index, device in enumerate(devices):
            try:
                self._prepare_device(address, index, device)
            except Failure as failure:
                self.trace.log(f"{device.label} liveupdate prepare failed: {failure}")
                if failure.code and device.driver is not None and device.driver.has("cancel"):
                    self.trace.bug(7, f"{device.name} gets no cancel for its own failed prepare")
                self._cancel_walk(address)
                self.pages.unpreserve(address)
                self.pages.free(address)
                self._clean(devices[index:])
                raise
        self.folio = address
        self.trace.log(f"PCI liveupdate: prepare data[{address:x}]")
        return address

    def _new_folio(self, count: int) -> int:
        address = self.pages.allocate(get_order(self.form.header.size + count * self.form.record.size), FOLIO)
        self.pages.write(address, 0, count.to_bytes(4, "little"), f"count = {count}")
        try:
            self.pages.preserve(address)
        except Failure:
            self.pages.free(address)
            raise
        return address

    def _prepare_device(self, address: int, index: int, device: PciDevice) -> None:
        driver = device.driver
        if driver is None:
            raise Failure(errno.ENOENT)
        if not self._has_ops(device):
            raise Failure(errno.EPERM)
        if self.series.has_names and not driver.name:
            raise Failure(errno.ENXIO)
        if self.series.has_names and len(driver.name) >= _NAME_SIZE:
            raise Failure(errno.ENOSPC)
        if self.is_fixed and device.domain > 0xFFFF:
            raise Failure(errno.EOVERFLOW)
        if device.domain > 0xFFFF:
            self.trace.bug(10, f"{device.name} is written with the path {device.path:#x}")
        name = driver.name if self.series.has_names else ""
        self._write(address, index, Entry(device.path, device.flags, name, 0))
        if self._calls(device, "prepare"):
            self._call("prepare", device, None)
            self._write(address, index, Entry(device.path, device.flags, name, driver.prepare(device)))
        self.preserved.append(device)

    def _has_ops(self, device: PciDevice) -> bool:
        if device.driver is None or (device.driver.name == "pcieport" and not self.series.has_pcieport):
            return False
        return device.driver.has_ops

    # -- cancel and freeze --

    def cancel(self, data: int) -> None:
        self._cancel_walk(data)
        self.pages.unpreserve(data)
        self.pages.free(data)
        self.folio = None

    def _cancel_walk(self, address: int) -> None:
        """Devices of the list and entries of the array, side by side."""
        for index, device in enumerate(list(self.preserved)):
            entry = self._entry_of(address, index, device)
            if self._is_gone(device) or entry is None:
                continue
            driver = device.driver
            if driver is None or not self._has_ops(device):
                if not self.is_fixed:
                    self._show(4, f"{device.name} has no driver with callbacks any more")
                    raise self.trace.panic(f"{device.name}: cancel without a driver that takes part")
            elif driver.has("cancel"):
                self._call("cancel", device, entry.driver_data)
                driver.cancel(device, entry.driver_data)
            self._clean([device])
        self.preserved.clear()

    def freeze(self, data: int) -> int:
        for index, device in enumerate(list(self.preserved)):
            entry = self._entry_of(data, index, device)
            try:
                if entry is not None:
                    self._freeze_device(data, device, entry)
            except Failure as failure:
                self.trace.log(f"{device.label} liveupdate freeze failed: {failure}")
                self._undo_freeze(data, index)
                raise
        return data

    def _freeze_device(self, data: int, device: PciDevice, entry: Entry) -> None:
        driver = device.driver
        if self._is_gone(device):
            return
        if driver is None:
            if self.is_fixed:
                raise Failure(errno.ENOENT)
            self._show(4, f"{device.name} has lost its driver since prepare")
            raise self.trace.panic(f"{device.name}: freeze without a driver")
        if not self._has_ops(device):
            if self.is_fixed:
                raise Failure(errno.EPERM)
            self._show(6, f"{device.name} is bound to {driver.name} by now, which has no callbacks")
            raise self.trace.panic(f"{device.name}: null pointer: {driver.name} has no live-update callbacks")
        if self._calls(device, "freeze"):
            self._call("freeze", device, entry.driver_data)
            value = driver.freeze(device, entry.driver_data)
            self._write(data, self._index(data, device), Entry(entry.path, entry.flags, entry.driver_name, value))

    def _undo_freeze(self, data: int, index: int) -> None:
        for place, device in enumerate(self.preserved):
            if place >= index and device.driver is not None and device.driver.has("cancel"):
                word = "for its own failed freeze" if place == index else "without having been frozen"
                self._show(7, f"{device.name} gets cancel {word}")
        self._cancel_walk(data)
        if self.is_fixed:
            self.pages.unpreserve(data)
            self.pages.free(data)
            self.folio = None
            if self.luo.tree is not None:
                self.luo.tree[self.name] = 0
        else:
            self._show(5, f"{data:#x} stays preserved, and LUO does not cancel the one that failed")

    def _entry_of(self, address: int, index: int, device: PciDevice) -> Entry | None:
        """The entry that the walk takes for a device: the one of the same number, right or not."""
        if self.is_fixed:
            index = self._index(address, device)
        entry = self.read(address, index)
        if entry is not None and entry.path != device.path:
            self._show(3, f"{device.name} is given entry {index}, of path {entry.path:#x}")
        return entry

    def _index(self, address: int, device: PciDevice) -> int:
        """The number of a device's own entry, -1 where it has none."""
        entries = self.entries(address)
        return next((index for index, entry in enumerate(entries) if entry.path == device.path), -1)

    def _is_gone(self, device: PciDevice) -> bool:
        """Whether a device was removed. The series still has it on its list then."""
        if device.is_removed and not self.is_fixed:
            self._show(3, f"{device.name} was removed and is on the list still: use after free")
            raise self.trace.panic(f"{device.name}: use after free")
        return device.is_removed

    # -- the next kernel --

    def restore(self) -> None:
        """Enumerate, and match what is found with the list."""
        if self.luo.state is not LuoState.UPDATED:
            return
        for device in self.tree.enumerate():
            self.add(device)

    def add(self, device: PciDevice) -> None:
        """One device is found. Raises Panic."""
        if self.luo.state is not LuoState.UPDATED:
            return
        if self.folio is None:
            self._restore_folio()
        assert self.folio is not None
        entries = self.entries(self.folio)
        index = next((number for number, entry in enumerate(entries) if entry.path == device.path), None)
        if index is not None and self.is_fixed and (device.domain > 0xFFFF or self._is_matched(index)):
            index = None
        if index is not None:
            if device.domain > 0xFFFF or self._is_matched(index):
                self._show(10, f"{device.name} inherits entry {index}")
            self._take_over(device, index, entries[index])
        self._probe(device)

    def _restore_folio(self) -> None:
        address = self.luo.incoming.get(self.name, 0)
        if not address:
            raise self.trace.panic("PCI liveupdate: LUO has no value of pci")
        if self.pages.restore(address) is None:
            raise self.trace.panic(f"PCI liveupdate: KHO has no folio {address:#x}")
        self.folio = address

    def _is_matched(self, index: int) -> bool:
        return any(device.entry == index for device in self.probed)

    def _take_over(self, device: PciDevice, index: int, entry: Entry) -> None:
        device.entry, device.flags = index, entry.flags
        self.probed.append(device)
        word = f" driver: {entry.driver_name} data: [{entry.driver_data:x}]" if self.series.has_names else ""
        self.trace.log(f"pci {device.name}: liveupdate restore flags {entry.flags:x}{word}")
        if self.series.has_names:
            if ("override", device.name) in self.faults:
                raise self.trace.panic(f"{device.name}: driver_override cannot be set")
            device.override = entry.driver_name
        if self.series.keeps_busmaster and not device.busmaster:
            self.trace.log(f"pci {device.name}: WARNING: bus mastering is off")

    def _probe(self, device: PciDevice) -> None:
        driver = device.driver
        if driver is None:
            return
        if device.override and driver.name != device.override:
            self._show(13, f"{device.name} waits for a driver named {device.override}; {driver.name} may not bind")
            device.driver = None
        elif device.entry is not None:
            try:
                if self._calls(device, "probe"):
                    data = self.driver_data(device)
                    self.trace.call(f"{driver.name} probe({device.name}, {data:#x})")
                    self._check_fault("probe", device)
                    driver.probe(device, data)
            except Failure as failure:
                self.trace.log(f"{device.label} probe failed: {failure}")
                device.driver = None

    def driver_data(self, device: PciDevice) -> int:
        """What a driver asks for in its probe. Raises Failure."""
        if self.luo.state is not LuoState.UPDATED or self.folio is None:
            raise Failure(errno.EINVAL)
        if device.entry is None:
            raise Failure(errno.ENOENT)
        entry = self.read(self.folio, device.entry)
        assert entry is not None
        return entry.driver_data

    def set_busmaster(self, device: PciDevice, value: bool) -> None:
        """A driver turns bus mastering on or off in the command register."""
        if self.series.keeps_busmaster and device.flags:
            if self.luo.state is LuoState.NORMAL and not self.is_fixed:
                self._show(11, f"{device.name}: {_COMMAND_BUG}")
            return
        device.busmaster = value

    def finish(self, data: int) -> None:
        self._report_unmatched(data)
        for device in self.probed:
            if self._is_gone(device):
                continue
            if device.driver is None or not self._has_ops(device):
                if self.is_fixed:
                    continue
                self._show(4, f"{device.name} has no driver with callbacks")
                raise self.trace.panic(f"{device.name}: finish without a driver that takes part")
            if device.driver.has("finish"):
                value = self.driver_data(device)
                self._call("finish", device, value)
                device.driver.finish(device, value)
        self._finish_folio(data)
        self.trace.log(f"PCI liveupdate: finish data[{data:x}]")

    def _finish_folio(self, data: int) -> None:
        for device in self.probed:
            if device.flags & LU_BUSMASTER and not self.is_fixed:
                self._show(11, f"{device.name} keeps LU_BUSMASTER after finish")
            if self.is_fixed:
                device.flags = 0
            device.override = ""
        self._clean(self.probed)
        self.probed.clear()
        if self.is_fixed:
            if self.folio is None:
                self.pages.restore(data)
        else:
            self._show(8, f"{data:#x} is un-preserved, though this kernel did not preserve it")
            self.pages.unpreserve(data)
        self.pages.free(data)
        self.folio = None

    def _report_unmatched(self, data: int) -> None:
        matched = {device.entry for device in self.probed}
        for index, entry in enumerate(self.entries(data)):
            if index not in matched:
                text = f"entry {index}, path {entry.path:#x}, was matched by no device; {entry.driver_data:#x} is lost"
                if self.is_fixed:
                    self.trace.log(f"PCI liveupdate: {text}")
                else:
                    self._show(9, text)

    def register(self) -> None:
        """At late init. Raises Panic where that fails in a kernel that was handed state."""
        if ("register", self.name) in self.faults:
            if self.luo.state is LuoState.UPDATED:
                raise self.trace.panic("PCI liveupdate: registering with LUO failed, and state is handed over")
            self.trace.log("PCI liveupdate: registering with LUO failed")
            return
        self.luo.subsystems.append(self)

    # -- parts --

    def _clean(self, devices: list[PciDevice]) -> None:
        for device in devices:
            device.flags &= ~LU_BUSMASTER_BRIDGE
            device.entry = None

    def _call(self, callback: str, device: PciDevice, data: int | None) -> None:
        """Notes a callback, and lets it fail as the scenario says."""
        assert device.driver is not None
        value = "" if data is None else f", {data:#x}"
        self.trace.call(f"{device.driver.name} {callback}({device.name}{value})")
        if ("walk", device.name) in self.faults and not self.is_fixed:
            self._show(12, f"{callback} of {device.name} iterates over buses, whose semaphore is held for writing")
            raise self.trace.panic(f"{device.name}: {callback} waits for itself")
        self._check_fault(callback, device)

    def _calls(self, device: PciDevice, callback: str) -> bool:
        """Whether there is such a callback; one that is to fail is there."""
        return (callback, device.name) in self.faults or (device.driver is not None and device.driver.has(callback))

    def _check_fault(self, callback: str, device: PciDevice) -> None:
        if callback in ("prepare", "freeze", "probe") and (callback, device.name) in self.faults:
            raise Failure(self.faults[callback, device.name])

    def _show(self, number: int, text: str) -> None:
        self.trace.bug(number, text)

    def _write(self, address: int, index: int, entry: Entry) -> None:
        values: dict[str, Any] = {name: getattr(entry, name, b"") for name in self.form.record.record_fields}
        if "driver_name" in values:
            values["driver_name"] = entry.driver_name.encode()
        record = self.form.record.record.pack(*values.values())
        word = f"entry {index}: path {entry.path:#x} flags {entry.flags:x} data {entry.driver_data:#x}"
        self.pages.write(address, self.form.header.size + index * len(record), record, word)

    def entries(self, address: int) -> list[Entry]:
        """The records of a folio."""
        count = int.from_bytes(self.pages.folios[address].data[:4], "little")
        found = [self.read(address, index) for index in range(count)]
        return [entry for entry in found if entry is not None]

    def read(self, address: int, index: int) -> Entry | None:
        """One record, None beyond the folio."""
        record, start = self.form.record, self.form.header.size + index * self.form.record.size
        data = bytes(self.pages.folios[address].data[start : start + record.size])
        if index < 0 or len(data) < record.size:
            return None
        values = dict(zip(record.record_fields, record.record.unpack(data), strict=True))
        name = values.get("driver_name", b"").rstrip(b"\0").decode()
        return Entry(values["path"], values["flags"], name, values["driver_data"])

    def remove(self, device: PciDevice, *, unlink: bool = False) -> None:
        """A device goes. The series has no hook for that; unlink: as if it were taken off the list all the same."""
        gone = self.tree.below(device)
        if self.is_fixed and self.folio is not None:
            for one in gone:
                if one in self.preserved:
                    self._cancel_removed(self.folio, one)
        if unlink or self.is_fixed:
            self.preserved = [one for one in self.preserved if one not in gone]
        self.tree.remove(device)

    def _cancel_removed(self, address: int, device: PciDevice) -> None:
        index = self._index(address, device)
        entry = self.read(address, index)
        assert entry is not None
        if device.driver is not None and device.driver.has("cancel"):
            self._call("cancel", device, entry.driver_data)
            device.driver.cancel(device, entry.driver_data)
        self._write(address, index, Entry(entry.path, entry.flags, entry.driver_name, 0))
