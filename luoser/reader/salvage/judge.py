# SPDX-License-Identifier: MIT
"""Whether there is a thing of some kind at an address: all of its members and entries, and its own further pages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from luoser.abi import luo, memfd, pci
from luoser.abi.kho_test import COMPATIBLE as KHO_TEST
from luoser.abi.memblock import COMPATIBLE as MEMBLOCK
from luoser.abi.memfd import MemfdForm
from luoser.abi.release import TEST_FLBS
from luoser.abi.vmalloc import KNOWN_FLAGS, MAX_ORDER, VM_ALLOC, chunk_capacity
from luoser.bits import is_zero, used_size
from luoser.budget import Budget
from luoser.errors import FormatError, MissingMemory
from luoser.fdt import HEADER_SIZE, MAGIC, Fdt, parse_header
from luoser.limits import LIMITS
from luoser.memory.metered import Metered
from luoser.reader.kho_test import read_kho_test
from luoser.reader.memblock import read_memblock
from luoser.reader.memfd import is_memfd, read_memfd
from luoser.reader.pci import Lead, read_lists
from luoser.reader.pci_layout import fit_pci
from luoser.reader.plausible import PHYSICAL_LIMIT, is_name
from luoser.reader.salvage.folios import Frames, does_not_tile, last_folio
from luoser.reader.salvage.forms import HANDLERS, TABLES, TREES, Table
from luoser.reader.salvage.found import Found, Pointer
from luoser.reader.walk import Subject, Walk
from luoser.state import Memfd
from luoser.state.struct_values import marked, struct_values
from luoser.text import counted

__all__ = ["Judge"]

_SUBJECT = Subject("salvage", "salvaged")
_GAPS = frozenset(("missing", "excluded", "page-damaged", "too-many"))
"""Codes of problems that say that bytes are not known."""


class Judge:
    """Judges pages of one source, with bounds of its own.

    walk:     reads the source; what it meets is not a problem of the source.
    has_many_lists: whether more pages end like a device list than are tried.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk, self.page = walk, walk.page_size
        memory = walk.memory
        self._ram = memory.known_ram
        self._lists, self.has_many_lists = LIMITS.salvage_lists, False
        self._budget = Budget(LIMITS.salvage_judged, lambda: memory.held)

    @property
    def is_spent(self) -> bool:
        """Whether the bytes that may be read are used up. Then nothing more is found."""
        return self._budget.is_used_up or (isinstance(self.walk.memory, Metered) and self.walk.memory.is_spent)

    def at(self, kind: str, address: int, hint: str = "") -> Found | None:
        """The thing of a kind at an address. None: there is none.

        kind:    as of `Salvaged`.
        address: physical.
        hint:    name of the handler or FLB that leads there; of a table its layout. Empty: none.
        """
        if not self.walk.is_page_address(address) or self.is_spent:
            return None
        self.walk.begin_root(address)
        self.walk.problems.clear()
        return self._judges(kind, hint)(address)

    def _judges(self, kind: str, hint: str) -> Callable[[int], Found | None]:
        if kind == "memfd":
            return partial(self._memfd, hint)
        if kind == "devices":
            return partial(self._devices, hint)
        if kind == "luo":
            return self._luo
        if kind == "devicetree":
            return self._tree
        tables = [one for one in TABLES if one.kind == kind and hint in ("", one.layout)]
        return lambda address: next(filter(None, (self._table(one, address) for one in tables)), None)

    def _read(self, address: int, size: int) -> bytes:
        """Bytes up to the first that is not in the source, or not in the budget."""
        taken = self._budget.take(size)
        try:
            return self.walk.memory.read(address, taken)
        except MissingMemory as error:
            have = max(0, error.address - address)
        try:
            return self.walk.memory.read(address, have) if have else b""
        except MissingMemory:
            return b""

    def _is_ram(self, address: int) -> bool:
        return not self._ram or any(start <= address < end for start, end in self._ram)

    def _is_pointer(self, address: int) -> bool:
        return self.walk.is_page_address(address) and self._is_ram(address)

    @property
    def _in_ram(self) -> str:
        return "in RAM" if self._ram else "page addresses"

    # -- sessions, files, FLBs --

    def _table(self, form: Table, address: int) -> Found | None:
        page = self._read(address, self.page)
        if len(page) < self.page:
            return None
        head = struct_values(form.head, page) if form.head is not None else {}
        pages = head.get("pgcnt", 0) or form.span
        if pages > (form.span if form.kind == "flbs" else _MOST_PAGES):
            return None
        if form.span > 1:
            page += self._read(address + self.page, (min(pages, form.span) - 1) * self.page)
        most = form.capacity(self.page, pages)
        count = head["count"] if form.head is not None else most
        if not 1 <= count <= most or (form.is_block and not self._is_next(head["next"], address)):
            return None
        rows = self._rows(form, page, count)
        return None if not rows else self._found(form, address, page, rows, head, most)

    def _is_next(self, following: int, address: int) -> bool:
        return following == 0 or (self._is_pointer(following) and following != address)

    def _rows(self, form: Table, page: bytes, count: int) -> list[dict[str, Any]]:
        """The entries, each with a name of its own. Empty: one of them is not an entry."""
        rows, keys, size = list[dict[str, Any]](), set[object](), form.entry.size
        for start in range(form.start, min(form.start + count * size, len(page) - size + 1), size):
            raw = page[start : start + size]
            if form.head is None and is_zero(raw):
                break
            row = form.entry.values(raw)
            key = row["token"] if "token" in row else row[form.name]
            if not is_name(row[form.name]) or key in keys or not self._is_entry(form, row):
                return []
            keys.add(key)
            rows.append(row)
        return rows

    def _is_entry(self, form: Table, row: Mapping[str, Any]) -> bool:
        name = row[form.name]
        if form.kind == "sessions":
            files, count = _files_of(row)
            return bool(files) == bool(count) and (not files or self._is_pointer(files))
        if form.kind == "flbs" and not 1 <= row["count"] <= _MOST_FILES:
            return False
        text = name.rstrip(b"\0")
        if not (text.isascii() and text.decode().isprintable()):
            return False
        return not is_memfd(text.decode()) or self._is_pointer(row["data"])

    def _found(
        self, form: Table, address: int, page: bytes, rows: list[dict[str, Any]], head: Mapping[str, Any], most: int
    ) -> Found:
        end = form.start + len(rows) * form.entry.size
        found = Found(
            kind=form.kind, layout=form.layout, address=address, data=page[:end], fields=head,
            reasons=[], strength=0, count=len(rows),
        )  # fmt: skip
        pages = head.get("pgcnt", 0) or form.span
        what = {"sessions": "session", "files": "file", "flbs": "FLB"}[form.kind]
        if is_zero(page[end:]):
            said = " as the count says" if form.head is not None else ""
            found.reasons.append(f"{counted(len(rows), what)}{said}, then zeros")
            found.strength += 1
        else:
            found.against.append("bytes after the last entry are not zero")
        if form.head is not None and len(rows) != head["count"]:
            found.against.append(f"only {len(rows)} of {head['count']} entries are in this source")
        elif len(page) < pages * self.page:
            found.reasons.append("its last pages are not in this source")
        if len(rows) > 1:
            found.reasons.append(f"{'tokens' if form.kind == 'files' else 'names'} are all different")
            found.strength += 1
        found.keys = tuple(row["token"] if "token" in row else row[form.name] for row in rows)
        if form.is_block and head["next"]:
            found.pointers.append(Pointer(head["next"], form.kind, hint=form.layout))
            if len(rows) < most:
                found.against.append("another block follows, and it is not full: the kernel fills one after the other")
            if self.walk.gap(head["next"]) is not None:
                found.against.append(f"its next block at {head['next']:#x} is not in this source")
        {"sessions": self._lead_sessions, "files": self._lead_files, "flbs": self._lead_flbs}[form.kind](found, rows)
        if len({pointer.address for pointer in found.pointers}) < len(found.pointers):
            found.against.append("two of its pointers are the same")
        return found

    def _lead_sessions(self, found: Found, rows: list[dict[str, Any]]) -> None:
        has_files = [_files_of(row) for row in rows if _files_of(row)[0]]
        if has_files:
            found.reasons.append(f"pointers of {counted(len(has_files), 'session')} to files are {self._in_ram}")
            found.strength += 1
        found.settled = len(rows) - len(has_files)
        found.pointers += [Pointer(files, "files", entries=count) for files, count in has_files]

    def _lead_files(self, found: Found, rows: list[dict[str, Any]]) -> None:
        names = [row["compatible"].rstrip(b"\0").decode() for row in rows]
        known = sorted({name for name in names if name.encode() in HANDLERS})
        if known:
            found.reasons.append(f"known handlers: {', '.join(known)}")
            found.strength += 1
        strange = sorted({name for name in names if name.encode() not in HANDLERS})
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            found.against.append(f"handler {strange[0]} is not known{more}: a bit of it may be wrong")
        for row, name in zip(rows, names, strict=True):
            if is_memfd(name):
                found.pointers.append(Pointer(row["data"], "memfd", hint=name))

    def _lead_flbs(self, found: Found, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            name, data = row["name"].rstrip(b"\0").decode(), row["data"]
            if luo.is_test_flb(data) and name == f"{TEST_FLBS}{data - luo.TEST_FLB_MAGIC}":
                found.reasons.append(f"data of {name} is the magic of that test FLB")
                found.strength += 1
                found.settled += 1
            elif luo.is_test_flb(data) or name.startswith(TEST_FLBS):
                found.against.append(f"data of {name} is not the magic of that test FLB")
            elif pci.is_flb_name(name):
                found.pointers.append(Pointer(data, "devices", hint=name))

    # -- memfds --

    def _memfd(self, handler: str, address: int) -> Found | None:
        forms = [one for one in memfd.FORMS if one.descriptor is not None and handler in ("", one.handler)]
        return next(filter(None, (self._memfd_as(form, address, is_led=bool(handler)) for form in forms)), None)

    def _memfd_as(self, form: MemfdForm, address: int, *, is_led: bool) -> Found | None:
        assert form.descriptor is not None
        head = self._read(address, form.descriptor.size)
        if len(head) < form.descriptor.size or is_zero(head):
            return None
        ser = form.descriptor.parse(head)
        if not self._is_file(ser) or not (ser.nr_folios or is_led):
            return None
        self.walk.begin_root(address)
        self.walk.problems.clear()
        read = read_memfd(self.walk, form.handler, address, _SUBJECT)
        codes = {problem.code for problem in self.walk.problems}
        if read is None or (codes and codes.isdisjoint(_GAPS)):  # of a page that is lost there can be more problems
            return None
        found = Found(
            kind="memfd", layout=form.name, address=address, data=head, memfd=read, strength=1,
            fields=struct_values(form.descriptor, head), count=read.folios.count,
            reasons=[f"{form.name} descriptor of {form.descriptor.size} bytes, then zeros"],
        )  # fmt: skip
        return found if not read.folios.count else self._with_folios(found, read, is_whole=not codes)

    def _is_file(self, ser: Any) -> bool:
        """Whether a descriptor can be that of a file: no value that is out of range, an array as large as it needs.

        It is looked at before the array is read, and with it the first chunk.
        """
        if "features" in ser and not _are_features(ser.features):
            return False
        area, page = ser.folios, self.page
        most = -(-ser.size // page)
        needed = most * memfd.memfd_luo_folio_ser.size
        if ser.get("flags", 0) or ser.get("seals", 0) & ~sum(memfd.SEALS) or max(ser.size, ser.pos) >= PHYSICAL_LIMIT:
            return False
        if not ser.nr_folios:
            return not area.first and not area.total_pages
        if (
            ser.nr_folios > most
            or area.order > MAX_ORDER
            or area.flags & ~KNOWN_FLAGS
            or area.total_pages * page >= needed + (page << area.order)
        ):
            return False
        return self._is_pointer(area.first) and self._has_chunk(area)

    def _has_chunk(self, area: Any) -> bool:
        """Whether the first chunk of an array has as many addresses as it needs, or is not in the source."""
        data = self._read(area.first, self.page)
        if len(data) < self.page:
            return self.walk.gap(area.first) is not None
        _, *entries = struct.unpack(f"<{self.page // 8}Q", data)
        count = area.total_pages >> area.order
        used = entries[:count]
        return bool(used) and all(map(self._is_pointer, used)) and not any(entries[count:])

    def _with_folios(self, found: Found, read: Memfd, *, is_whole: bool) -> Found | None:
        """The thing with what its folios say. None: they are not those of a file."""
        folios = read.folios
        if not is_whole or not folios.pages or len(folios.list) != folios.count:
            found.against.append("its array of folios is not whole in this source")
            found.is_whole = False
            return found
        if len(folios.pages) != folios.total_pages >> folios.order or not self._are_folios(read):
            return None
        found.inside, found.fits = (*folios.chunks, *folios.pages), 1
        chain = f"{counted(len(folios.chunks), 'chunk')} with {counted(len(folios.pages), 'page')}"
        ram = ", and all are in RAM" if self._ram else ""
        found.reasons += [
            f"its array: {chain}, as the descriptor says",
            f"{counted(folios.count, 'folio')}: indices ascend within the size, addresses are different{ram}",
        ]
        found.strength += 2
        found.against += filter(None, [does_not_tile(read)])
        found.is_whole = not found.against
        found.against += self._doubts(read)
        return found

    def _doubts(self, read: Memfd) -> Iterator[str]:
        """What of a file with all its folios is not as a kernel leaves it, in words."""
        used, size = read.folios.count * memfd.memfd_luo_folio_ser.size, self.page << read.folios.order
        start = used % size
        if start and any(self._read(read.folios.pages[-1] + start, size - start)):
            yield "bytes after the last entry of its array are not zero"
        pages, most = len(read.folios.pages), chunk_capacity(self.page)
        needed = -(-pages // most), pages // most + 1  # after a full one may be an empty one
        if len(read.folios.chunks) not in needed:
            yield "more chunks follow than its array needs"
        if not read.folios.flags & VM_ALLOC:
            yield "its array has not the flag of a vmalloc area"
        if read.position > read.size:
            yield "its position is after its end"
        index, address, _ = last_folio(read)
        rest = read.size % self.page
        page = address + (read.size // self.page - index) * self.page
        if rest and any(self._read(page + rest, self.page - rest)):
            yield "bytes after its end, in its last page, are not zero: its size is wrong, or the page was reused"

    def _are_folios(self, read: Memfd) -> bool:
        """Whether the entries can be folios of one file: in order, within its size, no two at one address, in RAM."""
        last, most, seen = -1, -(-read.size // self.page), Frames()
        for index, place, flags in read.folios.list.rows():
            is_entry = last < index < most and not flags & ~sum(memfd.FOLIO_FLAGS)
            if not is_entry or not self._is_pointer(place) or seen.add(place // self.page):
                return False
            last = index
        return True

    # -- LUO's root object --

    def _luo(self, address: int) -> Found | None:
        head = self._read(address, self.page)
        name = head[:16].split(b"\0", 1)[0]
        form = next((one for one in luo.FORMS if one.root and (one.compatible or "").encode() == name and name), None)
        if form is None or form.root is None or len(head) < form.root.size:
            return None
        ser = form.root.parse(head)
        pointers = [(ser.sessions_pa, "sessions"), (ser.flbs_pa, "flbs")]
        if not is_name(ser.compatible) or any(value and not self._is_pointer(value) for value, _ in pointers):
            return None
        found = Found(
            kind="luo", layout=form.name, address=address, data=head[: form.root.size], strength=2,
            reasons=[f"string {form.compatible}, then zeros"], fields=struct_values(form.root, head),
        )  # fmt: skip
        found.pointers += [Pointer(value, kind) for value, kind in pointers if value]
        if is_zero(head[form.root.size :]):
            found.reasons.append("zeros after the struct")
            found.strength += 1
        else:
            found.against.append("bytes after the struct are not zero")
        return found

    # -- device lists --

    def _devices(self, flb: str, address: int) -> Found | None:
        page = self._read(address, self.page)
        if len(page) < self.page:
            return None
        ends = [] if flb else _ends_of(page)
        if ends and not self._takes_list():
            return None
        if flb or any(layout.blocks is not None for layout in ends):
            lead = Lead(via=f"flb:{flb}" if flb else "salvage", address=address, path="salvaged")
            entry = next(iter(read_lists(self.walk, [lead], None)), None)
            if entry is None or (self.walk.problems and not flb):
                return None
            names, devices, head = entry.candidates, entry.devices, entry.header
        else:
            fits = [fit for layout in ends if (fit := fit_pci(layout, page)) is not None and not fit.faults]
            if not fits:
                return None
            blob = fits[0].blob
            names, devices = tuple(fit.name for fit in fits), blob.devices
            head = marked(blob.layout.header, blob.header)
        if len(devices) < (1 if flb else _FEWEST):
            return None
        found = Found(
            kind="devices", layout=names[0], address=address, data=page[: used_size(page)], fields=head,
            devices=devices, count=len(devices),
            reasons=[f"{len(devices)} devices as the count says, all different, then zeros"], strength=2,
        )  # fmt: skip
        layout = pci.layout(names[0])
        if layout is not None and layout.is_whole and used_size(page) > _end_of(layout, page, devices[-1].index):
            found.against.append("bytes after the devices that it counts are not zero: finished ones, or a wrong count")
        found.reasons.append(f"{', '.join(names[1:])} fit, too" if names[1:] else "the only layout that fits")
        found.strength += (not names[1:]) + (len(devices) >= _MANY or devices.record_size >= _LARGE)
        return found

    def _takes_list(self) -> bool:
        """Whether one more page may be tried as a device list."""
        self.has_many_lists = self._lists == 0
        self._lists -= self._lists > 0
        return not self.has_many_lists

    # -- devicetrees --

    def _tree(self, address: int) -> Found | None:
        head = self._read(address, HEADER_SIZE)
        if len(head) < HEADER_SIZE or not head.startswith(MAGIC):
            return None
        try:
            size = parse_header(head).totalsize
        except FormatError:
            return None
        if size > LIMITS.blob_size or self._budget.take(size) < size:
            return None
        tree = self.walk.fdt(address, _SUBJECT, size=size)
        name = TREES.get(tree.root.text("compatible") or b"") if tree is not None else None
        if tree is None or name is None or tree.root.name or self.walk.problems:
            return None
        found = Found(
            kind="devicetree", layout=name, address=address, data=self._read(address, size), strength=3,
            reasons=[f"a whole devicetree of {size} bytes with compatible {name.removesuffix('-fdt')}"],
            fields={"nodes": [node.name.decode("utf-8", "surrogateescape") for node in tree.root.nodes[:_SHOWN]]},
        )  # fmt: skip
        self._lead_tree(found, tree)
        return found

    def _lead_tree(self, found: Found, tree: Fdt) -> None:
        compatible = tree.root.text("compatible")
        if compatible == KHO_TEST:
            test = read_kho_test(self.walk, found.address, tree)
            if test is not None and not self.walk.problems and len(test.folios) == test.count and test.pages:
                found.inside, found.fits = test.pages, 1
                found.reasons.append(f"its array has {counted(test.count, 'folio')}, as it says")
        elif compatible == MEMBLOCK:
            read = read_memblock(self.walk, found.address, tree)
            areas = read.reservations if read is not None and not self.walk.problems else ()
            if areas and all(self._is_ram(area.start) and self._is_ram(area.start + area.size - 1) for area in areas):
                found.reasons.append(f"{counted(len(areas), 'region')}, {self._in_ram}")
                found.strength += 1
        for node in tree.root.walk():
            for name, value in node.properties:
                address = int.from_bytes(value, "little") if len(value) == 8 else 0
                if self.walk.is_page_address(address):
                    found.pointers.append(_tree_pointer(name, node.name, address))


_MOST_FILES = 1 << 16
"""Most files that depend on an FLB."""
_MOST_PAGES = 1 << 12
"""Most pages of an array of sessions."""
_FEWEST = 2
"""Devices of a list to which nothing points: one alone fits by chance."""
_MANY, _LARGE = 4, 512
"""With so many devices, or so many bytes of one, it is a list, also where several layouts have the same bytes."""
_SHOWN = 1024
"""Most nodes of a devicetree that are named."""
_LEADS = {
    b"luo-session-header": "sessions",
    b"luo-session-head": "sessions",
    b"luo-flb-header": "flbs",
    b"pci": "devices",
}
"""What a property leads to."""


def _tree_pointer(name: bytes, node: bytes, address: int) -> Pointer:
    kind = _LEADS.get(name, "luo" if node == b"LUO" else "")
    return Pointer(address, kind, owns=False, wanted=False)


def _are_features(header: Any) -> bool:
    """Whether a header can be one of feature bits: a reader needs, and uses, none that the writer does not support."""
    return bool(header.supp) and not (header.req | header.active) & ~header.supp and not any(header.reserved)


def _files_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """(address, number) of the files of a session."""
    prefix = "file_set_ser." if "file_set_ser.files" in row else ""
    return row[f"{prefix}files"], row[f"{prefix}count"]


def _ends_of(page: bytes) -> list[pci.PciLayout]:
    """The forms of device lists of which the last entry, as the head counts them, is where the bytes in use end."""
    used = used_size(page)
    return [layout for layout in pci.LAYOUTS if _ends(layout, page, used)]


def _ends(layout: pci.PciLayout, page: bytes, used: int) -> bool:
    head = layout.header.values(page)
    if layout.blocks is not None:
        return head[layout.count] > 0 and head[layout.blocks] > 0 and used <= layout.header.size
    ends = {_end_of(layout, page, head[name] - 1) for name in (layout.count, layout.capacity) if name is not None}
    return head[layout.count] > 1 and any(end - layout.record.size < used <= end for end in ends)


def _end_of(layout: pci.PciLayout, page: bytes, last: int) -> int:
    """Where a list ends whose records follow its head, which a page begins with. last: number of its last record."""
    end = layout.header.size + (last + 1) * layout.record.size
    if layout.bus is not None and layout.bus_count is not None:
        end += layout.header.values(page)[layout.bus_count] * layout.bus.size
    return end
