# SPDX-License-Identifier: MIT
"""The PCI subsystem in the next kernel: devices are matched with the list when they are enumerated."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from luoser.liveupdate.subsystems.folio import Entry, ListFolio
from luoser.liveupdate.subsystems.luo import LuoState
from luoser.liveupdate.subsystems.side import DEPENDED, PREFIX, REQUESTED, KernelSide
from luoser.liveupdate.trace import Failure
from luoser.liveupdate.tree import PciDevice

__all__ = ["Incoming"]

_SUPPRESSED = "config writes that change the bus-master bit are still suppressed"
_KINDS = {0: "PCI_BUS_SER_NULL_BRIDGE", 1: "PCI_BUS_SER_PCI_HOST_BRIDGE", 2: "PCI_BUS_SER_PCI_BRIDGE"}


@dataclass(slots=True, kw_only=True)
class Incoming(KernelSide):
    """The incoming side of the PCI subsystem.

    probed: devices that match the list, in the order of enumeration.
    folio:  the list. None before it is restored.
    is_new: this kernel is the next one. The first kernel has no list.
    """

    probed: list[PciDevice] = field(default_factory=list)
    folio: ListFolio | None = None
    is_new: bool = False
    _by_entry: dict[int, list[PciDevice]] = field(default_factory=dict)

    # -- enumeration --

    def restore(self) -> None:
        """Enumerate all devices. VFs are the last ones, after the drivers of their PFs are bound. Raises Panic."""
        devices = list(self.tree.enumerate())
        for device in sorted(devices, key=lambda device: device.physfn is not None):
            self.add(device)

    def add(self, device: PciDevice) -> None:
        """A device was found: match it with the list, and probe its driver. Raises Panic."""
        if self.luo.state is not LuoState.UPDATED:
            return
        if self.series.restores and self.series.form is not None:
            if self.folio is None:
                self.folio = self._restore_folio()
            self._match(self.folio, device)
        self._probe(device)

    def _restore_folio(self) -> ListFolio:
        address = self.luo.handed_over.get("pci")
        if not address:
            code = -errno.ENOENT if address is None else 0
            raise self.trace.panic(f"{PREFIX} get subsystem data: [0] ret: {code}")
        if self.pages.restore(address) is None:
            raise self.trace.panic(f"{PREFIX} restore folio from {address:x} failed")
        assert self.series.form is not None
        return ListFolio(self.pages, self.series.form, address)

    def _match(self, folio: ListFolio, device: PciDevice) -> None:
        index = folio.find(device.path)
        entry = folio.read(index)
        if entry is None:
            return
        is_another = device.domain > 0xFFFF or any(one.entry == index for one in self._by_entry.get(index, ()))
        if is_another and self.is_fixed:
            return
        if is_another:
            self.trace.bug(10, f"{device.name} inherits entry {index}")
        self._take_over(device, index, entry)

    def _take_over(self, device: PciDevice, index: int, entry: Entry) -> None:
        device.entry = index
        device.flags = entry.get("flags", REQUESTED if entry.get("requested") else DEPENDED)
        self.probed.append(device)
        self._by_entry.setdefault(index, []).append(device)
        self.trace.log(f"pci {device.name}: {PREFIX} liveupdate restore {self._words(entry)}")
        if self.series.has_names and entry["driver_name"]:
            if ("override", device.name) in self.faults:
                raise self.trace.panic(f"PCI Liveupdate override driver failed: {device.name}")
            device.override = entry["driver_name"]
        if self.series.keeps_busmaster and not device.busmaster:
            self.trace.call(f"{device.name}: WARN_ON: bus mastering is off")
        self._take_members(device, entry)
        if self.series.checks_buses:
            self._check_bus(device)

    def _words(self, entry: Entry) -> str:
        if self.series.posting == 2:
            mark = f"flags {entry['flags']:x}"
        else:
            mark = "[requested]" if entry["requested"] else "[depended]"
        driver = f" driver: {entry['driver_name']}" if self.series.has_names else ""
        num_vfs = f" num_vfs: {entry['num_vfs']}" if "num_vfs" in entry else ""
        return f"{mark}{driver} data: [{entry['driver_data']:x}]{num_vfs}"

    def _take_members(self, device: PciDevice, entry: Entry) -> None:
        """The members of struct pci_dev that v1 restores. From patch 20 on a requested device is in D0 in any case."""
        taken = {name: entry[name] for name in sorted(self.series.saved - {"resource"})}
        if self.series.adopts and device.flags & REQUESTED:
            taken |= {"current_state": 0}
            del taken["pref_64_window"]
            self.trace.call(f"{device.name}: config writes are skipped until finish")
        if taken:
            device.members = {**device.members, **taken}
            self.trace.call(f"{device.name}: taken over: {', '.join(f'{name} {taken[name]}' for name in taken)}")
        if "resource" in self.series.saved and device.physfn is None:
            slots = [n for n, slot in enumerate(entry["resource"]) if slot["name"].startswith(device.name)]
            if slots:
                self.trace.call(f"{device.name}: resources taken over: slots {', '.join(map(str, slots))}")

    def _check_bus(self, device: PciDevice) -> None:
        """The check of v1 from patch 23 on. Raises Panic if the bus of a device has changed."""
        assert self.folio is not None
        here = (device.bus.domain & 0xFFFF, device.bus.number)
        bus = next((bus for bus in self.folio.buses() if (bus["domain"], bus["number"]) == here), None)
        if bus is None:
            raise self.trace.panic(f"The bus of PCI device {device.name} was not preserved by Liveupdate")
        above = device.bus.parent
        kind = 0 if device.bus.is_virtual else 1 if above is None else 2
        where = f"({here[0]:04x}:{here[1]:02x})"
        if bus["bridge_type"] != kind:
            was, now = (_KINDS.get(value, "PCI_BUS_SER_INVALID") for value in (bus["bridge_type"], kind))
            raise self.trace.panic(
                f"The bus {where} bridge type ({now}) of PCI device ({device.name}) is changed. "
                f"Liveupdate preserved {was}"
            )
        parent = (bus["parent_domain"], bus["parent_number"])
        if above is not None and parent != (above.domain & 0xFFFF, above.number):
            raise self.trace.panic(
                f"The parent bus ({above.domain:04x}:{above.number:02x}) of PCI device ({device.name}) is changed. "
                f"Liveupdate preserved {parent[0]:04x}:{parent[1]:02x}"
            )

    # -- drivers --

    def _probe(self, device: PciDevice) -> None:
        driver = device.driver
        if driver is None:
            return
        if device.override and driver.name != device.override:
            self.trace.bug(13, f"{device.name} needs a driver named {device.override}; {driver.name} cannot bind")
            device.driver = None
        elif device.entry is not None and self.calls(device, "probe") and self.series.has_driver_data:
            try:
                data = self.driver_data(device)
                self.call("probe", device, data)
                driver.probe(device, data)
            except Failure as failure:
                self.trace.call(f"{device.label} probe fails: {failure}")
                device.driver = None

    def driver_data(self, device: PciDevice) -> int:
        """The driver_data of a device, which its driver requests in its probe. Raises Failure."""
        if self.luo.state is not LuoState.UPDATED or self.folio is None:
            raise Failure(errno.EINVAL)
        entry = self.folio.read(device.entry) if device.entry is not None else None
        if entry is None:
            raise Failure(errno.ENOENT)
        return int(entry["driver_data"])

    def set_busmaster(self, device: PciDevice, value: bool) -> None:
        """A driver enables or disables bus mastering in the command register."""
        if self.series.keeps_busmaster and device.flags:
            if self.is_new and self.luo.state is LuoState.NORMAL and not self.is_fixed:
                self.trace.bug(11, f"{device.name}: {_SUPPRESSED}")
            return
        device.busmaster = value

    # -- finish --

    def finish(self, data: int) -> None:
        """Finish all devices and free the list. data: its physical address. Raises Panic."""
        self.log(f"finish data[{data:x}]")
        if self.series.form is None:
            return
        if not self.series.finishes:
            self.trace.flaw(f"nothing is released before the patch that forwards finish: {data:#x} is lost")
            return
        self._report_unmatched(ListFolio(self.pages, self.series.form, data))
        for device in self.probed:
            if self.is_gone(device):
                continue
            if not self.is_fixed:
                self.need_ops(device, "finish")
            if device.driver is not None and self.has_ops(device) and device.driver.has("finish"):
                value = self.driver_data(device)
                self.call("finish", device, value)
                device.driver.finish(device, value)
        self._clean_up()
        self._free(data)

    def _clean_up(self) -> None:
        for device in self.probed:
            if self.is_fixed:
                device.flags = 0
            elif device.flags & REQUESTED:
                mark = "LU_BUSMASTER" if self.series.posting == 2 else "requested"
                self.trace.bug(11, f"{device.name} keeps {mark} after finish")
            device.override = ""
        self.clean(self.probed)
        self.probed.clear()
        self._by_entry.clear()

    def _free(self, data: int) -> None:
        if self.is_fixed:
            if self.folio is None:
                self.pages.restore(data)
        else:
            self.trace.bug(8, f"{data:#x} is un-preserved, but this kernel did not preserve it")
            self.pages.unpreserve(data)
        self.pages.free(data)
        self.folio = None

    def _report_unmatched(self, folio: ListFolio) -> None:
        matched = {device.entry for device in self.probed}
        for index, entry in enumerate(folio.entries()):
            if index not in matched:
                path, data = entry["path"], entry["driver_data"]
                text = f"entry {index}, path {path:#x}: no device matches; {data:#x} is lost"
                if self.is_fixed:
                    self.log(text)
                else:
                    self.trace.bug(9, text)
