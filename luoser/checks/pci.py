# SPDX-License-Identifier: MIT
"""Rules on the lists of preserved devices.

The records are judged with a stale map, too. What is around them is judged only before it is consumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.pci import BRIDGE_TYPES, LAYOUTS, MAX_DOMAIN, PciLayout, Posting
from luoser.abi.pci import layout as layout_named
from luoser.abi.registry import layouts
from luoser.checks.model import Cause, Found, NotApplicable, NotJudged, NotLookedAt, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import PciList
from luoser.text import bdf_text, counted, decode_name, safe_text

__all__ = ["Listed", "few", "listed"]

_A, _B, _ALL = "PCI/LUO (posted 2025)", "PCI core live update (posted, queued for 7.4)", "all posted forms"
_VERSIONS = tuple(sorted({form.version for form in LAYOUTS if form.version is not None}))
_LOW = 1 << 20
"""Values of driver_data below this, or not page-aligned, are assumed to be plain numbers."""
_FEW = 16
"""So many findings of one rule are shown one by one."""


def few(found: Iterable[Found]) -> Iterator[Found]:
    """The first findings of a rule in one list, and a last one that reports that there are more. found: all of them."""
    for number, item in enumerate(found):
        if number == _FEW:
            yield Found(
                f"{_FEW} shown, further ones omitted; next: {item.message}",
                address=item.address,
                where=item.where,
            )
            return
        yield item


@dataclass(frozen=True, slots=True)
class Listed:
    """One list of a handover.

    where:     path of the list, relative to the root.
    entry:     the list.
    form:      its layout.
    page_size: bytes.
    """

    where: str
    entry: PciList
    form: PciLayout
    page_size: int

    @property
    def name(self) -> str:
        """Name of the list in messages."""
        return f"device list {self.entry.layout} ({', '.join(self.entry.via)})"

    @property
    def posting(self) -> Posting:
        """How kernels use the layout under the FLB names of this list."""
        return self.form.posting(via.removeprefix("flb:") for via in self.entry.via if via.startswith("flb:"))

    def column(self, member: str) -> list[Any]:
        """Values of a member in all records, holes included. Empty: the layout has no such member."""
        if member not in self.form.record.record_fields:
            return []
        index = self.form.record.record_fields.index(member)
        return [row[index] for row in self.entry.devices.rows()]

    def places(self) -> Iterator[tuple[int, int]]:
        """(slot, domain << 16 | bdf) of each record except holes."""
        fields = self.form.record.record_fields
        one, other = (0, 0) if "path" in fields else (fields.index("domain"), fields.index("bdf"))
        count = fields.index("refcount") if self.form.has_refcounts else None
        for slot, row in enumerate(self.entry.devices.rows()):
            place = row[one] if one == other else row[one] << 16 | row[other]
            if count is None or place or row[count]:
                yield slot, place

    def address(self, slot: int) -> int:
        """Physical address of the record in a slot."""
        size = self.form.record.size
        if self.form.blocks is None:
            return self.entry.address + self.form.header.size + slot * size
        block, index = divmod(slot, capacity(self.page_size, size))
        if block >= len(self.entry.blocks):
            return self.entry.address
        return self.entry.blocks[block] + kho_block_header_ser.size + index * size

    def path(self, slot: int) -> str:
        """Path of the record in a slot, relative to the root. Its index does not count holes."""
        return f"{self.where}.devices[{self.entry.devices.position(slot)}]"

    def found(self, slot: int, place: int, message: str, *, missing: tuple[str, ...] = (), hint: str = "") -> Found:
        """A finding about one device.

        slot:    of its record.
        place:   its domain << 16 | bdf.
        message: what is wrong, after the name of the device.
        missing: names of devices that should be in the list.
        hint:    what to do.
        """
        name = bdf_text(place >> 16, place & 0xFFFF)
        return Found(
            f"{name} in the {self.name}: {message}",
            address=self.address(slot),
            where=self.path(slot),
            device=name,
            missing=missing,
            hint=hint,
        )


def listed(view: View, *, family: str = "", member: str = "") -> list[Listed]:
    """The lists of a handover. Raises NotApplicable if there is none.

    view:   the handover.
    family: only lists of family `A` or `B`. Empty: of both.
    member: only lists with this member in their records. Empty: all.
    """
    lists = []
    for index, entry in enumerate(view.lists()):
        form = layout_named(entry.layout)
        if form is not None and family in ("", form.family) and (not member or member in form.record.record_fields):
            lists.append(Listed(view.list_path(index), entry, form, view.page_size))
    if not lists:
        raise NotApplicable(f"no preserved device list {f'has {member}' if member else f'is of family {family}'}")
    return lists


# -- the rules --------------------------------------------------------------------------------------------


@register("PCI001", "list-unreadable", Severity.ERROR, kernels=_ALL, source="pci.md#a-invariant-1; pci.md#b1-postings")
def list_unreadable(view: View) -> Iterator[Found]:
    """There is no device list at an address that must have one: a count beyond its folio, more entries in use than
    allocated, or other bytes; or a list has a domain, capacity or block that none can have.

    PCI/LUO searches as many entries as the count, beyond the folio. The PCI core cannot retrieve its FLB, and panics.
    """
    view.need_unconsumed()
    places = _list_places(view)
    if not places and not view.device_lists():
        raise NotApplicable("no preserved device list")
    yield from _impossible(view)
    listed_at = {entry.address for entry in view.device_lists()} | {0}
    unknown = {path: address for path, address in places.items() if address not in listed_at}
    for problem in view.problems("pci-unknown-layout", "bad-pointer", "short-list"):
        if problem.about in places:
            unknown = {path: address for path, address in unknown.items() if address != places[problem.about]}
            yield Found(
                problem.message,
                address=problem.address,
                where=problem.about,
                hint="if the kernel has another layout, select the closest known one with --layout",
            )
    if unknown:
        path = min(unknown)
        reason = f"the device list at {unknown[path]:#x} cannot be read"
        unread_as = next(view.problems("missing", "excluded", "page-damaged", about=path), None)
        cause: Cause = cause_of(unread_as) if unread_as is not None else "missing"
        raise NotJudged(unread_as.message if unread_as is not None else reason, cause=cause, about=path)


def _impossible(view: View) -> Iterator[Found]:
    """Values that no list has, apart from those that have a rule of their own."""
    hint = "no kernel writes this: find what overwrote the list"
    for entry in _lists(view):
        for problem in view.problems("pci-impossible", "short-list", about=entry.where):
            yield Found(f"{entry.name}: {problem.message}", address=problem.address, where=entry.where, hint=hint)
        yield from few(
            entry.found(slot, place, f"domain {place >> 16:#x}: expected at most {MAX_DOMAIN:#x}", hint=hint)
            for slot, place in entry.places()
            if place >> 16 > MAX_DOMAIN
        )


def _list_places(view: View) -> dict[str, int]:
    """Addresses that must have a list, by path of the FLB or subsystem. Without FLBs of unknown names."""
    luo = view.handover.luo
    if luo is None:
        return {}
    names = {name for layout in LAYOUTS for name in layout.flb_names}
    flbs = {f"luo.flbs[{index}]": flb.data for index, flb in enumerate(luo.flbs) if flb.name in names}
    return flbs | {
        f"luo.subsystems[{index}]": entry.data for index, entry in enumerate(luo.subsystems) if entry.name == "pci"
    }


@register(
    "PCI002",
    "path-duplicate",
    Severity.ERROR,
    kernels=_ALL,
    source="pci.md#a-invariant-2; pci.md#a5-lifecycle; pci.md#b2-version-2",
)
def path_duplicate(view: View) -> Iterator[Found]:
    """Two entries are for the same device.

    PCI/LUO uses the first one; the data of the other is never finished or freed. The PCI core counts both, finds only
    one, and panics at the FLB's finish because nr_devices is not 0.
    """
    for entry in listed(view):
        yield from few(_duplicates(entry))


def _duplicates(entry: Listed) -> Iterator[Found]:
    counts = entry.column("refcount")
    first: dict[int, int] = {}
    for slot, place in entry.places():
        if counts and not counts[slot]:
            continue
        if first.setdefault(place, slot) != slot:
            yield entry.found(
                slot,
                place,
                f"entry {slot} is for the same device as entry {first[place]}",
                hint="one of them has a wrong address; compare with the machine, for example with --topology",
            )


@register("PCI003", "flags-illegal", Severity.ERROR, kernels=_A, source="pci.md#a3-flags; pci.md#a-invariant-3")
def flags_illegal(view: View) -> Iterator[Found]:
    """An entry's flags are not 1, 2 or 3; in the first posting, `requested` is neither 0 nor 1.

    The next kernel takes the flags as they are. Without the known ones the device loses bus mastering, and what its
    guest does with it stops.
    """
    for entry, values in _asking(view):
        names = entry.form.record.field(entry.form.asked or "").bit_names
        known = sum(names)
        word = f"flags {{:#x}}: expected {' or '.join(names.values())}" if names else "requested is {}: expected 0 or 1"
        yield from few(
            entry.found(slot, place, word.format(values[slot]), hint="no kernel writes this: find what overwrote it")
            for slot, place in entry.places()
            if (values[slot] > 1 if not names else not values[slot] or values[slot] & ~known)
        )


def _asking(view: View) -> list[tuple[Listed, list[int]]]:
    """(list, values of the member in all records) of each list that records which devices requested live update.

    Raises NotApplicable if there is none.
    """
    lists = [(entry, entry.column(entry.form.asked)) for entry in listed(view, family="A") if entry.form.asked]
    if not lists:
        raise NotApplicable("no preserved device list records which devices requested live update")
    return lists


@register("PCI004", "none-requested", Severity.WARNING, kernels=_A, source="pci.md#a-invariant-3")
def none_requested(view: View) -> Iterator[Found]:
    """A list has entries, but no device requested live update itself.

    Bridges are only in a list for devices below them. Without such a device nothing keeps working.
    """
    for entry, values in _asking(view):
        if values and not any(value & 1 for value in values):
            yield Found(
                f"{entry.name}: none of {len(values)} devices requested live update",
                address=entry.entry.address,
                where=entry.where,
            )


@register(
    "PCI006",
    "padding-not-zero",
    Severity.ERROR,
    kernels=_ALL,
    source="pci.md#a-invariant-2; pci.md#a-invariant-4; pci.md#b3-older-layouts",
)
def padding_not_zero(view: View) -> Iterator[Found]:
    """Padding, a reserved member, or bytes after a name or after the list up to the end of its folio are not zero.

    The folio is zeroed first. So something else wrote there, or the list has another layout.
    """
    view.need_unconsumed()
    for entry in listed(view):
        for problem in view.problems("pci-not-zero", about=entry.where):
            yield Found(problem.message, address=problem.address, where=entry.where)
        names = entry.column("driver_name")
        yield from few(
            entry.found(slot, place, "bytes after the end of driver_name are not zero")
            for slot, place in (entry.places() if names else ())
            if names[slot].partition(b"\0")[2].strip(b"\0")
        )


@register(
    "PCI007",
    "order-unusual",
    Severity.WARNING,
    kernels=_A,
    source="pci.md#a4-order-of-the-list; pci.md#a-invariant-5; pci.md#a-invariant-6",
)
def order_unusual(view: View) -> Iterator[Found]:
    """Devices of one bus are not adjacent and in descending order, or there is no device before a bridge.

    The kernel adds children before their bridge, bus by bus. Cancel and freeze use the position: in another order each
    driver gets the data of another.
    """
    for entry in listed(view, family="A", member="flags"):
        yield from few(_out_of_order(entry))


def _out_of_order(entry: Listed) -> Iterator[Found]:
    flags = entry.column("flags")
    left, bus, devfn = set[int](), -1, 0
    asked: int | None = None  # bus of the devices so far that requested live update, -1: several buses
    for slot, place in entry.places():
        if place >> 8 != bus:
            if place >> 8 in left:
                yield entry.found(slot, place, "not adjacent to the previous devices of its bus")
            left.add(bus)
            bus = place >> 8
        elif place & 0xFF > devfn:
            yield entry.found(slot, place, "after a lower device of its bus, expected descending order")
        if flags[slot] & 2 and asked in (None, bus):
            yield entry.found(
                slot,
                place,
                "expected a device on another bus that requested live update before this bridge, found none",
            )
        if flags[slot] & 1:
            asked = bus if asked in (None, bus) else -1
        devfn = place & 0xFF


@register("PCI008", "driver-name-bad", Severity.ERROR, kernels=_A, source="pci.md#a5-lifecycle; pci.md#a-invariant-4")
def driver_name_bad(view: View) -> Iterator[Found]:
    """driver_name is empty, has no NUL in its 63 bytes, or is not printable ASCII.

    The next kernel binds the device only to this driver, and panics if it cannot set the name.
    """
    for entry in listed(view, member="driver_name"):
        names = entry.column("driver_name")
        yield from few(
            entry.found(slot, place, f"driver_name {word}", hint="no kernel writes this: find what overwrote it")
            for slot, place in entry.places()
            if (word := _name_fault(names[slot]))
        )


def _name_fault(raw: bytes) -> str:
    name = decode_name(raw)
    if b"\0" not in raw:
        return f"has no NUL in {len(raw)} bytes"
    if not name:
        return "is empty"
    return "" if name.isascii() and name.isprintable() else f"is {safe_text(name)}"


@register(
    "PCI010", "stub-page-mismatch", Severity.ERROR, kernels=_A, source="pci.md#a6-pci-lu-stub; pci.md#a-invariant-8"
)
def stub_page(view: View) -> Iterator[Found]:
    """The page of the test driver pci-lu-stub has another device than the entry that points to the page.

    Its probe compares them, and fails in the next kernel. A device without driver makes finish panic.
    """
    view.need_unconsumed()
    unseen = 0
    for entry in listed(view, member="driver_name"):
        pages = {piece.address: piece.data for piece in entry.entry.contents}
        names, data = entry.column("driver_name"), entry.column("driver_data")
        yield from few(
            entry.found(
                slot, place, f"its page {data[slot]:#x} has {found:#x}, expected bus << 8 | devfn, {place & 0xFFFF:#x}"
            )
            for slot, place in entry.places()
            if decode_name(names[slot]) == "pci-lu-stub"
            and data[slot] in pages
            and (found := int.from_bytes(pages[data[slot]][:2], "little")) != place & 0xFFFF
        )
        unseen += sum(
            decode_name(names[slot]) == "pci-lu-stub" and bool(data[slot]) and data[slot] not in pages
            for slot, _ in entry.places()
        )
    if unseen:
        raise NotLookedAt(f"the pages of {counted(unseen, 'device')} of pci-lu-stub, whose bytes were not read")


@register(
    "PCI011",
    "driver-data-not-preserved",
    Severity.ERROR,
    kernels=_A,
    source="pci.md#a1-v2-structs; pci.md#a5-lifecycle; pci.md#a-invariant-8",
)
def driver_data_preserved(view: View) -> Iterator[Found]:
    """driver_data is the address of a page that is not preserved.

    The driver restores memory that was freed: its state is lost, its probe fails, and finish panics because the device
    has no driver. Values that are not page addresses are not judged, they are data of the driver.
    """
    preserved = view.map()
    for entry in listed(view, member="driver_data"):
        data = entry.column("driver_data")
        yield from few(
            entry.found(
                slot,
                place,
                f"driver_data {data[slot]:#x} is not preserved",
                hint="the driver must preserve its folio before it returns the address",
            )
            for slot, place in entry.places()
            if _is_page(view, data[slot]) and preserved.find(data[slot]) is None
        )


def _is_page(view: View, value: int) -> bool:
    return _LOW <= value < 1 << 52 and value % view.page_size == 0


@register(
    "PCI012", "driver-data-shared", Severity.ERROR, kernels=_A, source="pci.md#a5-lifecycle; pci.md#a6-pci-lu-stub"
)
def driver_data_shared(view: View) -> Iterator[Found]:
    """Two devices have the same page as driver_data.

    The first driver that restores it owns it. The second one fails, and the state of its device is lost.
    """
    for entry in listed(view, member="driver_data"):
        data = entry.column("driver_data")
        shared = {value for value, count in Counter(data).items() if count > 1 and _is_page(view, value)}
        first: dict[int, int] = {}
        yield from few(
            entry.found(slot, place, f"driver_data {data[slot]:#x} is already used by entry {first[data[slot]]}")
            for slot, place in entry.places()
            if data[slot] in shared and first.setdefault(data[slot], slot) != slot
        )


@register(
    "PCI013",
    "saved-state-mismatch",
    Severity.ERROR,
    kernels="PCI/LUO v1 (July 2025)",
    source="pci.md#a2-rfc-v1-structs",
)
def saved_state(view: View) -> Iterator[Found]:
    """devfn of the saved state differs from that of the path, or the bus of a device is not in the list or of an
    unknown kind.

    The state of one device or bus is restored on another.
    """
    for entry in listed(view, member="devfn"):
        devfns = entry.column("devfn")
        yield from few(
            entry.found(slot, place, f"devfn is {devfns[slot]:#x}, expected {place & 0xFF:#x} as in the path")
            for slot, place in entry.places()
            if devfns[slot] != place & 0xFF
        )
        yield from few(_bus_faults(entry))


def _bus_faults(entry: Listed) -> Iterator[Found]:
    buses = entry.entry.buses
    for index, bus in enumerate(buses):
        if bus.get("bridge_type", 0) not in BRIDGE_TYPES:
            message = f"{entry.name}: bridge_type of bus {index} is {bus['bridge_type']}, expected 0, 1 or 2"
            yield Found(message, address=entry.entry.address, where=f"{entry.where}.buses[{index}]")
    known = {int(bus["domain"]) << 8 | int(bus["number"]) for bus in buses}
    for slot, place in entry.places() if buses else ():
        if place >> 8 not in known:
            yield entry.found(slot, place, "its bus is not among the buses of the list")


@register(
    "PCI014", "list-version", Severity.ERROR, kernels="PCI core live update v8 and later", source="pci.md#b2-version-2"
)
def list_version(view: View) -> Iterator[Found]:
    """The version in the head of the list is not one that was posted.

    The next kernel's PCI core cannot retrieve its FLB, and panics.
    """
    for entry in listed(view, family="B"):
        version = entry.entry.header.get("version")
        if version is not None and version not in _VERSIONS:
            yield Found(
                f"{entry.name}: version {version}, expected {' or '.join(map(str, _VERSIONS))}",
                address=entry.entry.address,
                where=entry.where,
                hint="boot a kernel with this version, or find what overwrote the list",
            )


@register(
    "PCI015",
    "list-unsorted",
    Severity.ERROR,
    kernels="PCI core live update v1 to v3",
    source="pci.md#b1-postings; pci.md#b3-older-layouts",
)
def list_unsorted(view: View) -> Iterator[Found]:
    """The entries of a form with binary search are not sorted by domain and bdf.

    The search does not find some devices: they are initialised as if not preserved, without their state.
    """
    lists = [entry for entry in listed(view, family="B") if entry.form.is_sorted]
    if not lists:
        raise NotApplicable("no device list of a sorted form")
    for entry in lists:
        yield from few(_unsorted(entry))


def _unsorted(entry: Listed) -> Iterator[Found]:
    last = -1 << 63
    for slot, place in entry.places():
        key = entry.form.sort_key(place)
        if key < last:
            yield entry.found(slot, place, f"entry {slot} is lower than the previous one")
        last = key


@register("PCI016", "nr-mismatch", Severity.ERROR, kernels=_B, source="pci.md#b2-version-2")
def nr_mismatch(view: View) -> Iterator[Found]:
    """nr_devices is not the number of entries in use, or is 0 for an FLB of files, or a device has refcount 0.

    Finish decrements nr_devices for each entry whose refcount becomes 0, and panics if it does not become 0. In the
    next kernel, entries with refcount 0 are finished; v4 and v5 of the series still count them.
    """
    is_new = view.handover.is_taken
    files = {flb.data: flb.count for flb in view.flb_entries()}
    for entry in listed(view, member="refcount"):
        depend = 0 if is_new or len(entry.entry.devices) else files.get(entry.entry.address, 0)
        if depend:
            yield Found(
                f"{entry.name}: no device, but {depend} files depend on its FLB, each of a device",
                address=entry.entry.address,
                where=entry.where,
                hint="do not kexec: the devices of these files are lost; find what overwrote the list",
            )
        counts = entry.column("refcount")
        idle = [(slot, place) for slot, place in entry.places() if not counts[slot]]
        if not is_new:
            word = "refcount is 0: a hole that kept its address, or the next kernel has finished it"
            yield from few(entry.found(slot, place, word) for slot, place in idle)
        said, known = entry.entry.header[entry.form.count], len(entry.entry.devices)
        keeps = entry.posting.counts_finished if is_new else None
        right = {known - len(idle)} if keeps is False else {known} if keeps else {known, known - len(idle)}
        if said not in right:
            of_these = f", {len(idle)} of them finished" if is_new and idle else ""
            yield Found(
                f"{entry.name}: nr_devices is {said}, {known} entries are in use{of_these}",
                address=entry.entry.address,
                where=entry.where,
                hint="no kernel writes this: find what overwrote the list",
            )


@register("PCI018", "capacity-beyond-folio", Severity.ERROR, kernels=_B, source="pci.md#b3-older-layouts")
def capacity_beyond_folio(view: View) -> Iterator[Found]:
    """max_nr_devices is larger than the number of entries that fit the folio of the list.

    Kernels allocate the folio for that number. A kernel that adds a device up to it writes beyond the folio.
    """
    found = view.map()
    lists = [entry for entry in _lists(view) if entry.form.capacity is not None]
    if not lists:
        raise NotApplicable("no device list with a capacity")
    for entry in lists:
        block = found.find(entry.entry.address)
        if block is None or block.address != entry.entry.address:
            continue  # the folio is not preserved, which MAP011 reports
        room = ((view.page_size << block.order) - entry.form.header.size) // entry.form.record.size
        said = entry.entry.header[entry.form.capacity or ""]
        if said > room:
            yield Found(
                f"{entry.name}: {entry.form.capacity} is {said}, at most {room} fit a folio of order {block.order}",
                address=entry.entry.address,
                where=entry.where,
                hint="no kernel writes this: find what overwrote the list",
            )


@register(
    "PCI019",
    "vfio-device-not-listed",
    Severity.ERROR,
    kernels=_B,
    source="pci.md#b2-version-2; pci.md#b4-relation-to-vfio-pci",
)
def vfio_not_listed(view: View) -> Iterator[Found]:
    """The device of a preserved vfio-pci file is not in any device list.

    Retrieve considers only devices in the list of the PCI core: the file is lost, and with it the device of the guest.
    """
    view.serialised()
    view.need_unconsumed()
    files = [item for item in view.files() if item[2].compatible in _VFIO_HANDLERS and item[2].detail]
    if not files:
        raise NotApplicable("no readable vfio-pci file")
    if any(entry.form.removes_finished and not entry.entry.devices for entry in _lists(view)):
        raise NotApplicable("an empty list of a form from which finished devices are removed")
    unread = [one for one in view.problems("pci-unknown-layout", "short-list") if one.about.startswith(_LIST_PATHS)]
    if unread:
        raise NotJudged(f"a device list cannot be read: {unread[0].message}", cause="damaged", about=unread[0].about)
    places = {place for entry in _lists(view) for _, place in entry.places()}
    for where, session, file in files:
        assert file.detail is not None
        named = {int(fields.get("domain", 0)) << 16 | int(fields["bdf"]) for _, fields in file.detail.readings}
        if named.isdisjoint(places):
            yield Found(
                f"{view.name_of(session, file)}: its device is not in any preserved device list",
                address=file.detail.address,
                where=where,
                hint="the PCI core must preserve the device when vfio-pci preserves the file",
            )


_VFIO_HANDLERS = frozenset(entry.handler for entry in layouts() if entry.subject == "vfio" and entry.handler)
_LIST_PATHS = ("pci[", "pending.devices[", "subtrees[", "luo.flbs", "luo.subsystems")
"""Starts of the paths of device lists, and of what leads to them."""


def _lists(view: View) -> list[Listed]:
    return listed(view) if view.device_lists() else []
