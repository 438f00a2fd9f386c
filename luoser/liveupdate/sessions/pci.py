# SPDX-License-Identifier: MIT
"""The PCI core's part of live update: its FLB, the preserved devices, and what the next kernel does with them.

Source: the series "PCI: liveupdate: PCI core support for Live Update", drivers/pci/liveupdate.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from luoser.liveupdate.memory import Pages
from luoser.liveupdate.sessions.luo import Luo
from luoser.liveupdate.sessions.series import Series
from luoser.liveupdate.sessions.table import Row, Table
from luoser.liveupdate.trace import Failure, Trace
from luoser.liveupdate.tree import PciDevice, Tree
from luoser.text import bdf_text

__all__ = ["PciCore"]

_PREFIX = "PCI: liveupdate:"
_WARNINGS = {
    "vf": "Cannot preserve Virtual Functions",
    "twice": "Device is already preserved",
    "acs": "Refusing to preserve device that relies on ACS quirks",
    "frozen": "Cannot preserve device after it is frozen!",
    "root_bus": "Cannot preserve devices behind bridges",
    "group": "Device preservation limited to immutable singleton iommu groups",
}
_ALWAYS_LOGGED = frozenset({"acs", "frozen", "root_bus", "group"})
_GROUP_OF_V3 = "Live Update preserved devices must be in singleton iommu groups!"


@dataclass(slots=True, kw_only=True)
class PciCore:
    """The PCI core of one kernel.

    outgoing: preserved devices, with their slot. In sorted layouts slots change later, so that it is not valid there.
    incoming: devices that were found in the list of the previous kernel, with their slot, until they are finished.
    frozen:   devices that were shut down.
    table:    list for the next kernel. None: no list.
    handed:   list of the previous kernel. None: no list, not retrieved yet, or finished.
    """

    trace: Trace
    pages: Pages
    tree: Tree
    series: Series
    luo: Luo
    outgoing: dict[PciDevice, int] = field(default_factory=dict)
    incoming: dict[PciDevice, int] = field(default_factory=dict)
    frozen: set[PciDevice] = field(default_factory=set)
    table: Table | None = None
    handed: Table | None = None
    _slots: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the FLB."""
        return self.series.flb

    # -- the FLB of this kernel --

    def flb_preserve(self) -> int:
        """Make an empty list. Returns its physical address. Raises Failure."""
        self.table = Table.create(self.pages, self.series.form, self._room())
        return self.table.address

    def _room(self) -> int:
        """Number of devices at the time when the first file is preserved. In v1 the enabled VFs are counted by PF."""
        devices = list(self.tree.enumerate())
        if self.series.form.capacity is None and self.series.form.blocks is None:
            return sum(1 + device.num_vfs for device in devices if device.physfn is None) + 1
        return len(devices)

    def flb_unpreserve(self, data: int) -> None:
        """Free the list."""
        assert self.table is not None
        if self.table.count:
            self.trace.call(f"{_PREFIX} WARN_ON: {self.table.count} devices are still preserved")
        self.table.blocks.destroy()
        self.pages.unpreserve_free(data)
        self.table = None

    # -- devices of this kernel --

    def preserve(self, device: PciDevice) -> None:
        """Preserve a device and, depending on the series, the bridges above it.

        Raises Failure; then nothing is preserved for it, but a hole in the list can be left.
        """
        if self.table is None:
            raise Failure(errno.ENOENT)
        done: list[PciDevice] = []
        for one in self._path(device):
            try:
                self._check(one, device)
                self._count_up(self.table, one)
            except Failure:
                for earlier in done:
                    self._count_down(self.table, earlier)
                raise
            done.append(one)

    def _path(self, device: PciDevice) -> list[PciDevice]:
        path = [device, *(device.above if self.series.path != "none" else ())]
        return path[::-1] if self.series.path == "down" else path

    def _check(self, one: PciDevice, device: PciDevice) -> None:
        """Raises Failure if the series refuses a device.

        one:    the device itself, or a bridge above it.
        device: that a driver preserves.
        """
        for check in self.series.checks:
            if not self._is_refused(check, one, device):
                continue
            if check in _ALWAYS_LOGGED or (self.series.logs_refusals and check in _WARNINGS):
                is_v3 = check == "group" and not self.series.logs
                self.trace.log(f"{one.label} {_GROUP_OF_V3 if is_v3 else _WARNINGS[check]}")
            raise Failure(self.series.twice if check == "twice" else errno.EINVAL)

    def _is_refused(self, check: str, one: PciDevice, device: PciDevice) -> bool:
        if check == "vf":
            return one.physfn is not None
        if check == "pf":
            return one.num_vfs > 0
        if check == "group":
            return one is device and self._shares_group(one)
        if check == "acs":
            return one.acs_quirk and (self.series.placement == "hole" or one not in self.outgoing)
        if check == "twice":
            may_repeat = one.secondary is not None and self.series.path == "up"
            return one in self.outgoing and (one is device or self.series.path == "none") and not may_repeat
        if check == "frozen":
            return one in self.frozen
        return one.bus.parent is not None

    def _shares_group(self, device: PciDevice) -> bool:
        group = device.iommu_group
        return bool(group) and sum(other.iommu_group == group for other in self.tree.enumerate()) > 1

    def _count_up(self, table: Table, device: PciDevice) -> None:
        """Raises Failure."""
        slot = self.outgoing.get(device)
        if self.series.placement == "sorted":
            self._count_up_sorted(table, device)
        elif slot is None:
            self.outgoing[device] = slot = self._new_slot(table)
            self._log(device, "Device will be preserved across next Live Update")
            table.set_count(table.count + 1)
            if table.form.blocks is not None:
                table.set_head()
            table.write(slot, (device.domain, device.bdf, 1), device.name)
        else:
            domain, bdf, refcount = table.row(slot)
            table.write(slot, (domain, bdf, refcount + 1), device.name)

    def _new_slot(self, table: Table) -> int:
        """Raises Failure."""
        if self.series.placement == "hole":
            return table.add_to_blocks()
        start, room = table.count, table.room
        if start == room:
            raise Failure(self.series.full)
        places = ((start + step) % room for step in range(room))
        return next(slot for slot in places if not table.row(slot)[2])

    def _count_down(self, table: Table, device: PciDevice) -> bool:
        """Remove a reference to a device. Returns whether to continue with the bridge above it."""
        slot = self.outgoing.get(device)
        if slot is None:
            self._log(device, "Cannot unpreserve device that is not preserved")
            return False
        if self.series.placement == "sorted":
            self._count_down_sorted(table, device)
            return True
        domain, bdf, refcount = table.row(slot)
        if refcount > 1:
            table.write(slot, (domain, bdf, refcount - 1), device.name)
            return True
        self._log(device, "Device will no longer be preserved across next Live Update")
        table.set_count(table.count - 1)
        table.write(slot, (0, 0, 0), f"a hole in place of {device.name}")
        del self.outgoing[device]
        return True

    def unpreserve(self, device: PciDevice) -> None:
        """Undo `preserve`."""
        if self.table is None:
            self._log(device, "Cannot unpreserve device without outgoing Live Update state")
            return
        for one in self._path(device):
            if one in self.frozen and "frozen" in self.series.checks:
                self._log(one, "Cannot unpreserve device after it is frozen!")
                return
            if not self._count_down(self.table, one):
                return

    # -- sorted layouts --

    def _key(self, row: Row) -> int:
        return self.series.form.sort_key(row[0] << 16 | row[1])

    def _count_up_sorted(self, table: Table, device: PciDevice) -> None:
        """Insert a device, moving larger entries up from the end, as the series does. Raises Failure."""
        if device in self.outgoing and self.series.path != "none":
            slot = self._find(table, device)
            domain, bdf, refcount = table.row(slot)
            table.write(slot, (domain, bdf, refcount + 1), device.name)
            return
        if table.count == table.room:
            raise Failure(self.series.full)
        count, new = table.count, (device.domain & self._mask, device.bdf, 1)
        place = count
        while place:
            below = table.row(place - 1)
            if self._key(below) == self._key(new):
                self._handle_duplicate(device)
                return
            if self._key(below) < self._key(new):
                break
            table.copy(place - 1, place)
            place -= 1
        table.write(place, new, device.name)
        table.set_count(count + 1)
        self.outgoing[device] = place

    @property
    def _mask(self) -> int:
        return (1 << 8 * self.series.form.record.field("domain").size) - 1

    def _handle_duplicate(self, device: PciDevice) -> None:
        """Raises Failure for a device that is in the list. v1 ignores it."""
        self.trace.flaw(f"{device.name} is in the list already, but the entries after it were moved")
        if self.series.twice:
            raise Failure(errno.EBUSY)

    def _find(self, table: Table, device: PciDevice) -> int:
        wanted = (device.domain & self._mask, device.bdf)
        return next((slot for slot, row in enumerate(table.rows()) if row[:2] == wanted), -1)

    def _count_down_sorted(self, table: Table, device: PciDevice) -> None:
        slot, count = self._find(table, device), table.count
        domain, bdf, refcount = table.row(slot)
        if refcount > 1:
            table.write(slot, (domain, bdf, refcount - 1), device.name)
            return
        self._take_out(table, slot, count)
        del self.outgoing[device]

    def _take_out(self, table: Table, slot: int, count: int) -> None:
        """Remove an entry by moving those after it down. The last slot keeps its old bytes."""
        for place in range(slot, count - 1):
            table.copy(place + 1, place)
        table.set_count(count - 1)

    # -- shutdown --

    def shut_down(self) -> None:
        """Shut down all devices right before the jump.

        This disables bus mastering. The later postings keep it for preserved devices.
        """
        for device in self.tree.enumerate():
            self.frozen.add(device)
            device.busmaster &= self.series.keeps_busmaster and device in self.outgoing
        names = ", ".join(device.name for device in self.tree.enumerate() if device.busmaster) or "none"
        self.trace.call(f"devices are shut down; bus mastering is still on: {names}")

    # -- the FLB of the previous kernel --

    def flb_retrieve(self, data: int) -> bool:
        """Take over the list. Returns whether it was valid. Raises Panic for an invalid one if the series does."""
        table = Table.at(self.pages, self.series.form, data)
        why = self._why_not(table)
        if why is None:
            self.handed = table
            self._slots = {row[:2]: slot for slot, row in enumerate(table.rows()) if row[2]}
            return True
        self._give_up(table, why)
        return False

    def _why_not(self, table: Table) -> tuple[int, str] | None:
        """(errno, text of v9's panic) if the list is not valid. None if it is."""
        if not table.fits:
            return errno.EINVAL, f"{_PREFIX} {table.address:#x} has no list of this layout"
        form = table.form
        if form.version is not None and table.member("version") != form.version:
            found = table.member("version")
            return errno.EINVAL, (
                f"Incoming PCI FLB version (v{found}) is incompatible with this kernel (v{form.version})"
            )
        try:
            table.restore_blocks()
        except Failure as failure:
            return failure.code, f"Failed to restore devices KHO block set ({-failure.code})"
        seen: set[tuple[int, int]] = set()
        for domain, bdf, refcount in table.rows():
            if refcount and (domain, bdf) in seen and not form.is_sorted:
                word = f"Failed to insert PCI device {bdf_text(domain, bdf)} into xarray ({-errno.EBUSY})"
                return errno.EBUSY, word
            seen.add((domain, bdf))
        return None

    def _give_up(self, table: Table, why: tuple[int, str]) -> None:
        code, text = why
        if self.series.retrieve == "panic":
            if self.series.logs_all:
                raise self.trace.panic(text)
            if "version" in text:
                self.trace.log(f"{_PREFIX} {text}")
            raise self.trace.panic(f"Failed to retrieve incoming FLB data ({-code})")
        if self.series.retrieve == "warn":
            text = "Failed to retrieve incoming FLB data"
            is_later = self.series.placement == "circular"
            self.trace.log(f"WARNING: {text}" if is_later else f"WARNING: PCI: {text} during Live Update")
        self.trace.flaw(f"the list {table.address:#x} is not valid, and the kernel continues as after a cold boot")

    # -- devices of the previous kernel --

    def enumerate(self) -> None:
        """Enumerate all devices: set up each of them. Raises Panic."""
        for device in self.tree.enumerate():
            self.set_up(device)

    def set_up(self, device: PciDevice) -> None:
        """Set up a device that was found: look it up in the list of the previous kernel. Raises Panic."""
        flb = self.luo.incoming_flb(self.name)
        if flb is None or self.handed is None:
            if self.series.logs_no_match and self.luo.has_other_flbs(self.name):
                self.trace.log_once(f"{_PREFIX} No incoming FLB matched {self.name}")
            return
        slot = self._incoming_slot(self.handed, device)
        if slot is None:
            return
        self.incoming[device] = slot
        if self.series.leaks_bridges and device.secondary is not None:
            flb.count += 1
            self.trace.flaw(f"the reference to FLB {self.name} that {device.name} takes is never released")
        if self.series.logs:
            self.trace.log(f"pci {device.name}: Device was preserved by previous kernel across Live Update")
        else:
            self.trace.call(f"{device.name} was preserved by the previous kernel")

    def _incoming_slot(self, table: Table, device: PciDevice) -> int | None:
        domain = device.domain & self._mask
        if table.form.is_sorted:
            rows = enumerate(table.rows())
            return next((slot for slot, row in rows if row[2] and row[:2] == (domain, device.bdf)), None)
        slot = self._slots.get((domain, device.bdf))
        return slot if slot is not None and table.row(slot)[2] else None

    def finish(self, device: PciDevice) -> None:
        """Finish a device and, depending on the series, the bridges above it."""
        if self.handed is None or self.luo.incoming_flb(self.name) is None:
            self._log(device, "Cannot finish preserving device without incoming FLB")
            return
        for one in self._path(device):
            if one not in self.incoming:
                self._log(one, "Cannot finish preserving an unpreserved device")
                return
            self._finish_one(self.handed, one)

    def _finish_one(self, table: Table, device: PciDevice) -> None:
        slot = self.incoming[device]
        if self.series.counts in ("refcount", "both"):
            domain, bdf, refcount = table.row(slot)
            table.write(slot, (domain, bdf, refcount - 1), device.name)
            if refcount > 1:
                return
        if self.series.logs:
            self._log(device, "Device is finished participating in Live Update")
        if self.series.counts == "both":
            table.set_count(table.count - 1)
        elif self.series.counts == "remove":
            self._take_out(table, self._find(table, device), table.count)
        del self.incoming[device]

    def flb_finish(self, data: int) -> None:
        """Free the list of the previous kernel. In v8 and v9 raises Panic if devices are left in it."""
        assert self.handed is not None
        left = [(domain, bdf) for domain, bdf, refcount in self.handed.rows() if refcount]
        count = self.handed.count
        if count and self.series.end == "panic":
            self._show_left(left)
            several = f"{count} preserved device(s) were" if self.series.logs_all else "Some preserved devices were"
            raise self.trace.panic(f"{several} never finished!")
        if count and self.series.end == "warn":
            self.trace.call(f"WARN_ON: {count} devices are left in the list")
        self.handed.blocks.destroy()
        self.pages.restore_free(data)
        self.handed = None

    def _show_left(self, left: Iterable[tuple[int, int]]) -> None:
        """Log the devices that are left. v9 logs all in the list, v8 those that were found."""
        if self.series.logs_all:
            for domain, bdf in left:
                self.trace.log(f"{_PREFIX} {bdf_text(domain, bdf)} was never finished!")
            return
        for device in self.incoming:
            self._log(device, "Preserved device was never finished!")

    def remove(self, device: PciDevice) -> None:
        """Remove a device and those that are removed with it. A driver should prevent this for preserved devices."""
        for one in self.tree.below(device):
            if one in self.outgoing and self.series.logs:
                self._log(one, "WARNING: Destroying outgoing-preserved device!")
                if self.series.drops_removed:
                    self.unpreserve(one)
            if one in self.incoming and self.series.logs:
                self._log(one, "WARNING: Destroying incoming-preserved device!")
                if self.series.drops_removed:
                    self.finish(one)
        self.tree.remove(device)

    def _log(self, device: PciDevice, text: str) -> None:
        if self.series.logs:
            self.trace.log(f"{device.label} {text}")
        else:
            self.trace.call(f"{device.name}: {text}")
