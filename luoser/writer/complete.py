# SPDX-License-Identifier: MIT
"""Full documents from short ones: adds addresses, counts, devicetrees, and the forms of a kernel release.

A full document is not changed. Anything with a default may be left out of a short one: the default is what a kernel of
that release writes, and all its pages are added to the preserved map.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

from luoser.abi import luo as luo_abi
from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.kho import FORMS as KHO_FORMS
from luoser.abi.kho import SCRATCH_UNIT, KhoForm, root_form
from luoser.abi.luo import LuoForm
from luoser.abi.memfd import FORMS as MEMFD_FORMS
from luoser.abi.memfd import MemfdForm, form_of_handler
from luoser.abi.memfd import form as memfd_form
from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as pci_layout
from luoser.abi.registry import layout, unknown_layout
from luoser.abi.release import RELEASES, SUBTREES, Release, release
from luoser.abi.vmalloc import MAX_ORDER, VM_ALLOC, chunk_capacity
from luoser.errors import UsageError
from luoser.fdt import Node, flatten, repacked, sequential
from luoser.limits import LIMITS, how_to_raise
from luoser.ranges import merged
from luoser.state.from_json import Item, load_extents
from luoser.state.preserved import PreservedMap
from luoser.state.to_json import fdt_document
from luoser.text import parse_bdf, safe_text
from luoser.writer.contents import pieces_of
from luoser.writer.description import check_description
from luoser.writer.kho import root_tree
from luoser.writer.kho_test import test_tree
from luoser.writer.luo import luo_tree
from luoser.writer.memblock import memblock_tree
from luoser.writer.pci import header_values
from luoser.writer.place import Placer, order_of
from luoser.writer.preserved import bitmap_places, map_pages

__all__ = ["complete"]

Json = dict[str, Any]
_DIRTY, _UPTODATE, _F_SEAL_SEAL = 1, 2, 1
_PRE_MERGE = next(form.name for form in MEMFD_FORMS if form.descriptor is None)
_LIMIT = 1 << 52
_SCRATCH_SIZE = 32 << 20
"""Bytes of a scratch area, if a unit of it is not more: a kernel with 1 GiB and pages of 4 KiB needs no more."""


_POSTED = replace(RELEASES["7.1"], kho="kho-v2", metadata=False)
"""Forms of the 7.1 cycle that are in no release."""


def complete(
    document: Json,
    *,
    kernel: str = "7.3",
    preserved: Sequence[tuple[int, int, int]] = (),
    base: int | None = None,
) -> Json:
    """The full document for a short one.

    document:  short or full.
    kernel:    release whose forms are the default.
    preserved: (address, bytes, count) of adjacent folios of that size that are preserved, too, although they are not in
               the document.
    base:      first physical address of what has none. None: 16 MiB.

    Raises UsageError with the path of a value that is wrong, or that has no default.
    """
    try:
        return _complete(document, release(kernel), kernel, preserved, base)
    except RecursionError:
        raise UsageError("nested too deeply") from None


def _complete(
    document: Json, forms: Release, kernel: str, preserved: Sequence[tuple[int, int, int]], base: int | None
) -> Json:
    check_description(document)
    made: Json = _copied(document)
    made.setdefault("schema", "luoser/state/1")
    source = _part(made, "source", {}) or {}
    made["source"] = source
    source.setdefault("path", "")
    source.setdefault("format", "elf")
    page_size = Item(source, "source").number("page_size", 4096)
    if page_size not in (4096, 16384, 65536):
        raise UsageError(f"source.page_size: expected 4096, 16384 or 65536, found {page_size}")
    source["page_size"] = page_size
    _list(made, "problems")
    if not _list(made, "handovers"):
        raise UsageError("handovers: missing; expected a list with at least one handover")
    if len(made["handovers"]) > LIMITS.roots:  # no more would be read back
        text = f"expected at most {LIMITS.roots}, found {len(made['handovers'])}"
        raise UsageError(f"handovers: {text}; {how_to_raise('roots')}")
    for handover in Item(made, "").items("handovers"):  # before anything is placed: what has no size takes one, too
        for area in handover.items("scratch"):
            _values(area)["size"] = _hex(area.number("size", max(SCRATCH_UNIT[page_size], _SCRATCH_SIZE)))
    taken = [(address, size * count) for address, size, count in preserved]
    placer = Placer(page_size, made, taken=taken, base=base)
    for item in Item(made, "").items("handovers"):
        placer.preserved = {}
        for address, size, count in preserved:
            for index in range(count):
                placer.preserve(address + index * size, size)
        is_short = item.get("fdt") is None
        if item.truth("at_jump", False) and item.text("direction", "outgoing") != "incoming":
            raise item.fail("at_jump", "expected false, or an incoming handover")
        _Handover(item, forms, kernel, placer).fill()
        _values(item).setdefault("at_jump", is_short and _is_alone_and_whole(made))
    return made


def _is_alone_and_whole(document: Json) -> bool:
    """Whether a document is of nothing but one incoming root, with its map and scratch areas.

    A kernel that runs has a root of its own, and none boots without scratch.
    """
    (first, *others) = document["handovers"]
    is_whole = first["preserved"]["status"] == "intact" and bool(first["scratch"])
    return not others and first["direction"] == "incoming" and is_whole


def _copied(value: Any) -> Any:
    """A deep copy. Objects that occur twice in a document become separate ones."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _hex(value: int) -> str:
    return f"{value:#x}"


def _values(item: Item) -> Json:
    """The values of an item, to be changed."""
    return cast(Json, item.values)


def _list(values: Json, name: str) -> list[Any]:
    """A list; an empty one is added if it is null, false or missing."""
    if values.get(name) is None or values[name] is False:
        values[name] = []
    found: list[Any] = values[name]
    return found


def _part(values: Json, name: str, default: Json | None) -> Any:
    """An object; `default` if it is missing. None: null or false."""
    found = values.get(name, default)
    values[name] = None if found is False else found
    return values[name]


class _Handover:
    """Completes one handover."""

    def __init__(self, item: Item, forms: Release, kernel: str, placer: Placer) -> None:
        self.item, self.values = item, _values(item)
        self.kernel, self.placer, self.page = kernel, placer, placer.page_size
        compatible = item.text("compatible", forms.kho)
        if compatible != forms.kho:  # then the newest release with this root
            known = (*reversed(RELEASES.values()), _POSTED)
            forms = next((found for found in known if found.kho == compatible), forms)
        self.forms = forms
        self.sizes: dict[int, int] = {}

    def fill(self) -> None:
        values = self.values
        values.setdefault("compatible", self.forms.kho)
        values.setdefault("direction", "outgoing")
        _list(values, "evidence")
        self._scratch()
        is_short = self._is_short()
        self._address(self.item, self.page)
        _list(values, "pci")
        has_luo = is_short and (self.forms.luo is not None or bool(values["pci"]))
        self.luo = _part(values, "luo", {} if has_luo else None)
        self._pci()
        if self.luo is not None:
            self._luo(cast(Item, self.item.item("luo")))
        self._plain_subtrees(is_short)
        if is_short:
            values["subtrees"] = [*self._raw_trees(), *self._subtrees()]
        else:
            self._given_trees()
        if values.get("fdt") is None:
            self._map_address()
            root = root_tree(self.item)
            tree = repacked(root) if self.forms.is_repacked else sequential(root)
            if (size := len(flatten(tree))) > self.page:
                word = f"too many, or too long names: the root's devicetree has {size} bytes, expected a page at most"
                raise self.item.fail("subtrees", word)
            values["fdt"] = fdt_document(tree)
        self._preserved()

    def _scratch(self) -> None:
        """Complete the scratch areas and the address of their array, which is not preserved.

        A new incoming root gets two areas, in which a kernel with 1 GiB of memory can boot.
        """
        values, unit = self.values, SCRATCH_UNIT[self.page]
        is_new = values["direction"] == "incoming" and "scratch" not in values and values.get("fdt") is None
        areas = _list(values, "scratch") or ([{}, {}] if is_new else [])
        values["scratch"] = areas or None
        for area in self.item.items("scratch"):
            entry = _values(area)
            size = area.number("size", max(unit, _SCRATCH_SIZE))
            entry["size"] = _hex(size)
            if entry.get("address") is None:
                entry["address"] = _hex(self.placer.take(-(-size // unit) * unit, order=order_of(unit, self.page)))
        array = values.setdefault("scratch_array", None)
        if areas and array is None and values["direction"] == "incoming":
            values["scratch_array"] = _hex(self.placer.take(self.page))

    def _is_short(self) -> bool:
        """Whether the sub-trees follow from the rest, but for those of unknown kinds that are given as bytes."""
        given = list(self.item.items("subtrees"))
        raw = [entry.get("contents") or (entry.get("detail") and entry.get("address") is None) for entry in given]
        return all(raw) and not any(entry.text("name") in SUBTREES for entry in given)

    def _raw_trees(self) -> Iterator[Json]:
        for entry in self.item.items("subtrees"):
            values, record = _values(entry), entry.item("detail")
            size = self._record(record) if record is not None else self._contents(entry, "address")
            values.setdefault("address", record and record.get("address"))
            yield self._subtree(entry.text("name"), values["address"], size, None) | values

    def _contents(self, item: Item, name: str) -> int:
        """Complete bytes of unknown kind, at the address that is a member of an item. Returns their size.

        New ones are in one folio. A handle leads to all of it, so its rest is part of them.
        """
        _list(_values(item), "contents")
        size = 0
        for piece in item.items("contents"):
            values = _values(piece)
            given = values.get("size") is not None
            values.setdefault("size", _hex(len(piece.data("bytes"))))
            if values.get("address") is None:
                pages = -(-max(piece.number("size"), 1) // self.page)
                order = (pages - 1).bit_length()
                self._address(item, self.page << order, name, order=order)
                values["address"] = _values(item)[name]
                if name == "data" and not given:
                    values["size"] = _hex(self.page << order)
            self.placer.preserve(piece.number("address"), piece.number("size"))
            size += piece.number("size")
        return size

    def _root_form(self) -> KhoForm:
        """The version of the root; the newest if it is unknown."""
        return root_form(self.item.text("compatible")) or KHO_FORMS[-1]

    # -- pages --

    def _address(self, item: Item, size: int, name: str = "address", *, order: int | None = None) -> int:
        """The given page address, or that of free pages. The memory is preserved."""
        if item.get(name) is None:
            _values(item)[name] = _hex(self.placer.take(size, order=order))
        address = item.number(name)
        self._check_page(item, name, address)
        self.placer.preserve(address, size)
        return address

    def _addresses(self, item: Item, name: str, count: int) -> list[int]:
        """The given page addresses, or those of `count` free pages. The pages are preserved."""
        given = item.numbers(name)
        if not given:
            given = tuple(self.placer.take(self.page) for _ in range(count))
        elif len(given) < count:
            raise item.fail(name, f"expected {count} pages, found {len(given)}")
        _values(item)[name] = [_hex(page) for page in given]
        for index, page in enumerate(given):
            self._check_page(item, f"{name}[{index}]", page)
            self.placer.preserve(page, self.page)
        return list(given)

    def _check_page(self, item: Item, name: str, address: int) -> None:
        if not self._is_page(address):
            raise item.fail(name, f"{address:#x} is not the address of a page of {self.page} bytes")

    def _is_page(self, address: int) -> bool:
        return 0 < address < _LIMIT and address % self.page == 0

    def _handle(self, address: int | None) -> None:
        """Preserve the page at a handle, if it can be a page address."""
        if address is not None and self._is_page(address):
            self.placer.preserve(address, self.page)

    # -- device lists --

    def _pci(self) -> None:
        for item in self.item.items("pci"):
            form = pci_layout(item.text("layout"))
            if form is None:
                raise item.fail("layout", str(unknown_layout(item.text("layout"), kind="list")))
            self._device_list(item, _values(item), form)

    def _device_list(self, item: Item, values: Json, form: PciLayout) -> None:
        if not _list(values, "via"):
            values["via"] = [self._way(form)]
        if not _list(values, "candidates"):
            values["candidates"] = [form.name]
        values.setdefault("confidence", "as described")
        slots = self._places(item, values)
        if slots * form.record.size > LIMITS.list_size:
            size = form.record.size
            word = f"too many: {slots} slots of {size} bytes, expected at most {LIMITS.list_size:#x} bytes in all"
            raise item.fail("devices", f"{word}; {how_to_raise('list_size')}")
        header = _part(values, "header", {}) or {}
        values["header"] = header
        known = Item(header, item.at("header"))
        room = max(slots, known.number(form.capacity, 0) if form.capacity is not None else 0)
        if form.blocks is not None:
            blocks = self._addresses(item, "blocks", -(-slots // capacity(self.page, form.record.size)))
        else:
            _list(values, "blocks")
            blocks = []
        counts = header_values(form, len(values["devices"]), slots, len(_list(values, "buses")), blocks)
        for name, number in counts.items():
            header.setdefault(name, _hex(number) if name == form.blocks else number)
        size = form.header.size + (0 if form.blocks is not None else room * form.record.size)
        size += len(values["buses"]) * form.bus.size if form.bus is not None else 0
        if not values["buses"]:
            del values["buses"]
        self.sizes[self._address(item, self.page << order_of(size, self.page))] = size
        _list(values, "contents")
        for piece in item.items("contents"):
            self.placer.preserve(piece.number("address"), piece.number("size"))

    def _way(self, form: PciLayout) -> str:
        """The default for `via` of a device list: a subsystem, or the FLB of its layout."""
        if self.luo is None:
            return "subtree:pci"
        luo = luo_abi.form(str(self.luo.get("layout", self.forms.luo)))
        if luo is None or luo.sessions == "none":
            return "subsystem:pci"
        return f"flb:{next(iter(form.flb_names), 'pci')}"

    def _places(self, item: Item, values: Json) -> int:
        """Number of slots of the devices. Adds missing indices, and raises UsageError for a duplicate device."""
        _list(values, "devices")
        last, seen = -1, dict[tuple[int, int], int]()
        for place, device in enumerate(item.items("devices")):
            _values(device).setdefault("index", place)
            last = max(last, device.number("index"))
            try:
                first = seen.setdefault(parse_bdf(device.text("bdf")), place)
            except ValueError:
                continue  # loading the device reports what is wrong
            if first != place:
                raise device.fail("bdf", f"duplicate device {device.text('bdf')}, also devices[{first}]")
            self._handle(device.maybe("driver_data"))
        values["slots"] = max(item.number("slots", 0), last + 1)
        return int(values["slots"])

    # -- LUO --

    def _luo(self, item: Item) -> None:
        luo = _values(item)
        luo.setdefault("layout", self.forms.luo or "luo-v1-subsystems")
        form = luo_abi.form(item.text("layout"))
        if form is None:
            known = ", ".join(sorted(form.name for form in luo_abi.FORMS))
            raise item.fail("layout", f"unknown form of LUO: expected one of {known}")
        luo.setdefault("compatible", form.compatible)
        self._address(item, self.page)
        for name in ("sessions", "flbs", "subsystems"):
            _list(luo, name)
        luo.setdefault("liveupdate_number", 1 if form.has_number else None)
        for via, address in self._ways("subsystem:"):
            if not any(entry.get("name") == via for entry in luo["subsystems"]):
                luo["subsystems"].append({"name": via, "data": _hex(address)})
        for entry in item.items("subsystems"):
            self._handle(entry.maybe("data"))
        self._sessions(item, luo, form)
        self._flbs(item, luo, form)
        is_serialized = (
            luo["sessions"] or luo["flbs"] or any(entry.number("data", 0) for entry in item.items("subsystems"))
        )
        luo.setdefault("serialized", bool(is_serialized))

    def _ways(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(name, address) of the device lists with a `via` of this prefix."""
        for item in self.item.items("pci"):
            for via in item.array("via"):
                if str(via).startswith(prefix):
                    yield str(via).removeprefix(prefix), item.number("address")

    def _sessions(self, item: Item, luo: Json, form: LuoForm) -> None:
        for session in item.items("sessions"):
            session.text("name")
            self._files(session, _values(session), form)
        sessions, blocks = luo["sessions"], _list(luo, "session_blocks")
        if form.sessions == "blocks":
            entry = form.session.size
            most = capacity(self.page, entry)
            if sessions or blocks:
                pages = self._addresses(item, "session_blocks", -(-len(sessions) // most))
                self._entries(item, "sessions", pages, entry, most, kho_block_header_ser.size)
            blocks = luo["session_blocks"]
            luo.setdefault("session_area", blocks[0] if blocks else None)
        elif form.sessions == "none":
            luo.setdefault("session_area", None)
        else:
            assert form.session_header is not None
            first, room = form.session_header.size, form.session_pages * self.page
            area = self._address(item, room, "session_area")
            most = (room - first) // form.session.size
            if len(sessions) > most:
                raise item.fail(
                    "sessions", f"expected at most {most}, as fit the area of {room:#x} bytes, found {len(sessions)}"
                )
            luo["session_blocks"] = [_hex(area)]
            self._entries(item, "sessions", [area], form.session.size, most, first)

    def _entries(self, item: Item, name: str, blocks: list[int], size: int, most: int, first: int) -> None:
        """Add addresses of entries without one: each in the slot of its index."""
        entries = list(item.items(name))
        given = {entry.number("address") for entry in entries if entry.get("address") is not None}
        for index, entry in enumerate(entries):
            if entry.get("address") is None:
                place = blocks[index // most] + first + index % most * size
                if place in given:
                    raise entry.fail(
                        "address", f"missing; {place:#x} is already used, so give the addresses of all or none"
                    )
                _values(entry)["address"] = _hex(place)

    def _files(self, session: Item, values: Json, form: LuoForm) -> None:
        count = len(_list(values, "files"))
        for index, file in enumerate(session.items("files")):
            self._file(file, _values(file), index)
        values.setdefault("count", count)
        size = luo_abi.luo_file_ser.size
        _list(values, "blocks")
        if form.files == "blocks":
            most, first = capacity(self.page, size), kho_block_header_ser.size
            blocks = self._addresses(session, "blocks", -(-count // most))
        elif form.files == "tree":
            values.setdefault("address", None)
            return
        else:
            room = form.file_pages * self.page
            most, first = room // size, 0
            if count > most:
                raise session.fail(
                    "files", f"expected at most {most}, as fit their pages of {room:#x} bytes, found {count}"
                )
            if count and not values["blocks"]:
                values["blocks"] = [_hex(self.placer.take(room))]
            blocks = list(session.numbers("blocks"))
            for index, block in enumerate(blocks):
                self._check_page(session, f"blocks[{index}]", block)
                self.placer.preserve(block, room)
        self._entries(session, "files", blocks, size, most, first)

    def _file(self, item: Item, values: Json, index: int) -> None:
        values.setdefault("compatible", self.forms.memfd)
        values.setdefault("token", _hex(index))
        compatible = item.text("compatible")
        form = form_of_handler(compatible)
        has_memfd = form is not None and values.get("data") is None
        memfd, detail = _part(values, "memfd", {} if has_memfd else None), _part(values, "detail", None)
        if memfd is not None:
            memfd.setdefault("address", values.get("data"))
            found = cast(Item, item.item("memfd"))
            values["data"] = _hex(self._memfd(found, memfd, form.name if form is not None else _PRE_MERGE))
        elif detail is not None:
            self._detail(item, values, detail)
        elif item.get("contents"):
            self._contents(item, "data")
        elif values.get("data") is None:
            self._address(item, self.page, "data")
        else:
            self._handle(item.number("data"))

    def _detail(self, item: Item, values: Json, detail: Json) -> None:
        """Complete the struct of a handler or an FLB, at the address in its handle."""
        detail.setdefault("address", values.get("data"))
        record = cast(Item, item.item("detail"))
        self._record(record)
        values["data"] = record.get("address")

    def _record(self, record: Item) -> int:
        """Complete a struct and its arrays. Returns its size in bytes."""
        _values(record).setdefault("confidence", "as described")
        self._address(record, self.page)
        self._arrays(record)
        form = layout(next((entry.text("layout") for entry in record.items("readings")), ""))
        return form.schemas[0].size if form is not None and form.schemas else self.page

    def _arrays(self, record: Item) -> None:
        """Complete the arrays of a struct, and the members that describe their vmalloc areas."""
        for item in record.items("arrays"):
            array, order = _values(item), item.number("order", 0)
            array["order"] = order
            count = len(item.numbers("words")) * 8
            pages = self._addresses(item, "pages", -(-count // self.page) if order == 0 else 0)
            for page in pages if order <= MAX_ORDER else ():
                self.placer.preserve(page, self.page << order)
            chunks = self._addresses(item, "chunks", -(-len(pages) // chunk_capacity(self.page)))
            area = {"first": _hex(chunks[0]) if chunks else "0x0", "total_pages": len(pages) << min(order, MAX_ORDER)}
            for reading in record.items("readings"):
                fields = _part(_values(reading), "fields", {}) or {}
                fields.setdefault(item.text("member"), {**area, "flags": VM_ALLOC, "order": order})

    def _memfd(self, item: Item, memfd: Json, layout: str) -> int:
        memfd.setdefault("layout", layout)
        address = self._address(item, self.page)
        data = self._file_bytes(item)
        memfd["size"] = _hex(item.number("size", len(data or b"")))
        memfd["position"] = _hex(item.number("position", 0))
        form = memfd_form(item.text("layout"))
        if form is None:
            raise item.fail("layout", f"unknown memfd layout {safe_text(item.text('layout'))}")
        memfd.setdefault("seals", _F_SEAL_SEAL if form.has_seals else None)
        memfd.setdefault("flags", 0)
        _list(memfd, "contents")
        folios = memfd["folios"] = _part(memfd, "folios", {}) or {}
        entry = cast(Item, item.item("folios"))
        if folios.get("list") is None:
            folios["list"] = self._new_folios(item)
        rows = entry.rows("list", 3)
        for _, place, _ in rows:
            if place and place not in self.placer.preserved:
                self.placer.preserve(place, self.page)
        self._area(entry, folios, len(rows), form, address)
        if data is not None:
            memfd["contents"] = list(pieces_of(item, data, self.page, self._given_orders))
        else:
            self._check_pieces(item, rows)
        return address

    def _check_pieces(self, item: Item, rows: Sequence[Sequence[int]]) -> None:
        """Refuse contents that are in no folio of the file, where the next kernel shows them to nobody.

        In a given map the block is the folio; one that is not in there may have any size.
        """
        if not item.get("contents"):
            return
        orders = self._given_orders or self.placer.preserved
        ends = [(place, place + (self.page << orders[place]) if place in orders else _LIMIT) for _, place, _ in rows]
        ranges = merged(ends)
        for piece in item.items("contents"):
            start, size = piece.number("address"), max(piece.number("size", 0), len(piece.data("bytes")))
            index = bisect_right(ranges, (start, _LIMIT)) - 1
            if index < 0 or start + size > ranges[index][1]:
                raise piece.fail("address", f"expected {size} bytes within the folios of the file, found {start:#x}")

    @cached_property
    def _given_orders(self) -> dict[int, int]:
        """Orders of the blocks in a given map, by address."""
        preserved = self.item.item("preserved")
        if preserved is None or preserved.get("extents") is None:
            return {}
        extents = load_extents(preserved, self.page)
        if sum(count for _, _, count in extents) > LIMITS.entries:
            return {}
        return {
            start + number * (self.page << order): order for start, order, count in extents for number in range(count)
        }

    def _file_bytes(self, item: Item) -> bytes | None:
        """The bytes of a file whose contents have no address. None: they have one, or there are none."""
        given = list(item.items("contents"))
        if not given or given[0].get("address") is not None:
            return None
        if len(given) > 1:
            raise item.fail("contents", "expected one piece without an address, or pieces with addresses")
        data = given[0].data("bytes")
        if item.get("size") is not None and item.number("size") < len(data):
            raise item.fail(
                "size", f"expected at least {len(data)}, the bytes of the file, found {item.number('size')}"
            )
        return data

    def _new_folios(self, item: Item) -> list[list[Any]]:
        """A separate folio for each page of a file, in adjacent pages."""
        count = -(-item.number("size") // self.page)
        if count > LIMITS.entries:
            word = f"too many pages for a default: expected at most {LIMITS.entries}, found {count}"
            raise item.fail("size", f"{word}; {how_to_raise('entries')}")
        start = self.placer.take(count * self.page, order=0) if count else 0
        return [[index, _hex(start + index * self.page), _DIRTY | _UPTODATE] for index in range(count)]

    def _area(self, item: Item, folios: Json, count: int, form: MemfdForm, address: int) -> None:
        """Complete the vmalloc area of a folio array. An empty file has none. Before the merge there was none."""
        folios.setdefault("count", count)
        pages = 0 if form.descriptor is None else -(-count * form.entry.size // self.page)
        if form.descriptor is None:
            folios.setdefault("address", _hex(address))
        folios.setdefault("total_pages", pages)
        folios.setdefault("flags", VM_ALLOC if pages else 0)
        folios.setdefault("order", 0)
        order = item.number("order")
        if order == 0:
            self._addresses(item, "pages", pages)
        given = len(_list(folios, "pages"))
        chunks = self._addresses(item, "chunks", -(-given // chunk_capacity(self.page)))
        folios.setdefault("address", _hex(chunks[0]) if chunks else "0x0")

    def _flbs(self, item: Item, luo: Json, form: LuoForm) -> None:
        for name, address in self._ways("flb:"):
            if not any(values.get("name") == name for values in luo["flbs"]):
                luo["flbs"].append({"name": name, "data": _hex(address)})
        flbs = luo["flbs"]
        if flbs and form.flbs == "none":
            word = "has no FLBs; use another layout, or another `via` for device lists"
            raise item.fail("flbs", f"{form.name} {word}")
        if form.flbs == "none" or (form.flbs == "optional" and not flbs):
            luo.setdefault("flb_area", None)
            return
        area = self._address(item, self.page, "flb_area")
        files = sum(len(values["files"]) for values in luo["sessions"])
        header, entry = luo_abi.luo_flb_header_ser.size, luo_abi.luo_flb_ser.size
        most = (self.page - header) // entry
        if len(flbs) > most:
            raise item.fail("flbs", f"expected at most {most}, as fit their page, found {len(flbs)}")
        for index, flb in enumerate(item.items("flbs")):
            values = _values(flb)
            values.setdefault("count", max(1, files))
            values.setdefault("address", _hex(area + header + index * entry))
            detail = _part(values, "detail", None)
            if detail is not None:
                self._detail(flb, values, detail)
            elif flb.get("contents"):
                self._contents(flb, "data")
            elif values.get("data") is None:
                values["data"] = _hex(dict(self._ways("flb:")).get(flb.text("name"), 0))
            self._handle(flb.number("data"))

    # -- plain users of KHO --

    def _plain_subtrees(self, is_short: bool) -> None:
        values, forms = self.values, self.forms
        _part(values, "memblock", None)
        _part(values, "kho_test", None)
        metadata = _part(values, "kexec_metadata", {} if forms.metadata and is_short else None)
        if metadata is not None:
            self._address(cast(Item, self.item.item("kexec_metadata")), self.page)
            metadata.setdefault("version", 1)
            metadata.setdefault("previous_release", self.kernel if self.kernel.count(".") > 1 else f"{self.kernel}.0")
            metadata.setdefault("kexec_count", 1)
        if values["memblock"] is not None:
            item = cast(Item, self.item.item("memblock"))
            self._address(item, self.page)
            for entry in item.items("reservations"):
                _values(entry)["size"] = _hex(entry.number("size"))
                self._reservation(entry, entry.number("size"))
        if values["kho_test"] is not None:
            self._kho_test(cast(Item, self.item.item("kho_test")), values["kho_test"], is_short)

    def _reservation(self, entry: Item, size: int) -> None:
        if entry.get("start") is None:
            _values(entry)["start"] = _hex(self.placer.take(size, order=0))
        start = entry.number("start")
        if start + size > _LIMIT:
            raise entry.fail("start", f"{start:#x}: {size:#x} bytes from there on are beyond 52-bit addresses")
        self.placer.preserve(start, size)

    def _kho_test(self, item: Item, test: Json, is_short: bool) -> None:
        folios = item.rows("folios", 2)
        for index, (address, order) in enumerate(folios):
            if order > 40 or not self._is_page(address) or address % (self.page << order):
                raise item.fail(f"folios[{index}]", f"{address:#x} is not the address of a block of order {order}")
            self.placer.preserve(address, self.page << order)
        _list(test, "folios")
        self._address(item, self.page << order_of(8 * len(folios) + self.page, self.page))
        test.setdefault("magic", "0x4b484f21")
        test.setdefault("nr_folios", len(folios))
        if is_short and not folios:
            raise item.fail("folios", "missing; expected at least one [address, order]")
        if is_short and item.number("nr_folios") != len(folios):
            raise item.fail(
                "nr_folios", f"expected {len(folios)}, the number of folios, found {item.number('nr_folios')}"
            )
        test.setdefault("checksum", "0x0")
        if "pages" not in test:
            self._addresses(item, "pages", -(-len(folios) * 8 // self.page) if self.forms.has_vmalloc else 0)

    def _subtrees(self) -> Iterator[Json]:
        """The sub-trees in the order of the root's nodes: the last one that a kernel adds comes first."""
        luo, metadata = self.luo, self.values["kexec_metadata"]
        memblock, test = self.item.item("memblock"), self.item.item("kho_test")
        for name, address in self._ways("subtree:"):
            yield self._subtree(name, _hex(address), self.sizes[address], None)
        if memblock is not None:
            yield self._with_tree("memblock", memblock, memblock_tree(memblock))
        if luo is not None:
            item, form = cast(Item, self.item.item("luo")), luo_abi.form(luo["layout"])
            assert form is not None
            if form.root is not None:
                yield self._subtree("LUO", luo["address"], form.root.size, None)
            else:
                yield self._with_tree(
                    "LUO", item, luo_tree(item, form, self._page() if form.pointed is not None else 0)
                )
        if test is not None:
            chunk = self._page() if self.forms.has_vmalloc and test.numbers("pages") else None
            tree = test_tree(test, chunk if chunk is not None or not self.forms.has_vmalloc else 0)
            yield self._with_tree("kho_test", test, tree)
        if metadata is not None:
            yield self._subtree("kexec-metadata", metadata["address"], kho_kexec_metadata.size, None)

    def _given_trees(self) -> None:
        """Preserve the memory of given devicetrees, up to their totalsize."""
        for subtree in self.item.items("subtrees"):
            tree = subtree.item("fdt")
            if tree is not None and self._is_page(subtree.number("address")):
                self.placer.preserve(subtree.number("address"), tree.number("totalsize", 0))

    def _page(self) -> int:
        """Address of a free page, which is preserved."""
        page = self.placer.take(self.page)
        self.placer.preserve(page, self.page)
        return page

    def _with_tree(self, name: str, item: Item, root: Node) -> Json:
        tree = sequential(root)
        self.placer.preserve(item.number("address"), tree.header.totalsize)
        return self._subtree(name, _hex(item.number("address")), tree.header.totalsize, fdt_document(tree))

    def _subtree(self, name: str, address: str, size: int, tree: Json | None) -> Json:
        """A sub-tree. Older roots do not have the size of a blob, except that of a devicetree."""
        is_known = tree is not None or self._root_form().has_blob_size
        return {"name": name, "address": address, "size": _hex(size) if is_known else None, "fdt": tree}

    # -- the map --

    def _map_address(self) -> None:
        preserved = _part(self.values, "preserved", {}) or {}
        self.values["preserved"] = preserved
        preserved.setdefault("status", "intact")
        if preserved["status"] == "absent":
            preserved["address"] = "0x0"
        elif preserved.get("address") is None:
            preserved["address"] = next(iter(_list(preserved, "nodes")), None) or _hex(self.placer.take(self.page))

    def _preserved(self) -> None:
        self._map_address()
        preserved, map_form = self.values["preserved"], self._root_form().map
        is_chunks = map_form == "chunks"
        preserved.setdefault("form", map_form)
        is_intact = preserved["status"] == "intact"
        width = (self.forms.bitmap_size or self.page) if is_chunks and is_intact else None
        preserved.setdefault("bitmap_size", width)
        _list(preserved, "nodes")
        _list(preserved, "bitmaps")
        if not is_intact:
            return
        item = cast(Item, self.item.item("preserved"))
        if preserved.get("extents") is None:
            preserved["extents"] = self.placer.extents()
        found = PreservedMap.from_extents(load_extents(item, self.page), page_size=self.page)
        form, width = item.text("form"), item.maybe("bitmap_size")
        bitmaps = [(row[0], row[1], row[2]) for row in item.rows("bitmaps", 3)]
        needed = map_pages(found, form, bitmap_size=width, bitmaps=bitmaps)
        given = item.numbers("nodes")
        for index, node in enumerate(given):
            self._check_page(item, f"nodes[{index}]", node)
        if given and len(given) < needed:
            raise item.fail("nodes", f"expected {needed} pages for this map, found {len(given)}")
        nodes = list(given) or [item.number("address")]
        nodes += [self.placer.take(self.page) for _ in range(needed - len(nodes))]
        self._check_page(item, "address", nodes[0])
        preserved["nodes"] = [_hex(node) for node in nodes]
        if not bitmaps:
            places = bitmap_places(found, form, bitmap_size=width, nodes=nodes)
            preserved["bitmaps"] = [[_hex(address), order, _hex(start)] for address, order, start in places]
        preserved.setdefault("entries", found.entries)
        preserved.setdefault("pages", found.pages)
        preserved.setdefault("complete", True)
