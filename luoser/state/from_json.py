# SPDX-License-Identifier: MIT
"""State documents to states: the inverse of `to_document(state, full=True)`.

Every error has the path in the document, such as `handovers[0].luo.sessions[2].name`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from luoser.abi.memfd import SEALS
from luoser.abi.memfd import form as memfd_form
from luoser.abi.pci import PciLayout, pci_resource_ser
from luoser.abi.pci import layout as pci_layout
from luoser.abi.preserved import SMALL_BITMAP
from luoser.abi.registry import unknown_layout
from luoser.abi.schema import Schema
from luoser.errors import UsageError
from luoser.fdt import Fdt, Header, Node
from luoser.limits import LIMITS, how_to_raise
from luoser.state.columns import columns, record_bytes
from luoser.state.model import (
    Area,
    Array,
    Contents,
    Direction,
    File,
    Flb,
    Folios,
    Handover,
    KexecMetadata,
    KhoTest,
    Luo,
    MapStatus,
    Memblock,
    Memfd,
    PciList,
    Pending,
    PendingFile,
    PendingFlb,
    PendingSession,
    Preserved,
    Problem,
    Record,
    Reservation,
    Session,
    Source,
    State,
    Subsystem,
    Subtree,
)
from luoser.state.packed import Column, DeviceList, FolioList, Hex, row_fields
from luoser.state.preserved import Extent, PreservedMap
from luoser.text import encode_name, parse_bdf, parse_size, safe_text

__all__ = ["Item", "from_document", "load_buses", "load_devices", "load_extents", "load_fdt"]

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=StrEnum)
_U64 = (1 << 64) - 1
_FORMAT = re.compile("[a-z][a-z0-9+-]*")
_HIGHEST_ORDER = 40
"""Of a block: no machine has memory of larger ones."""
_SCHEMA = "luoser/state/1"
_FORMS, _PAGE_TREES = ("radix", "chunks"), ("orders", "frames", "open")
_HEX = re.compile(r"0x(0|[1-9a-f][0-9a-f]{0,15})")
"""An address, size or handle in a document."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a document.

    values: its members.
    path:   from the top of the document, such as `handovers[0].luo`. Empty: the document itself.

    All getters raise UsageError with the path for a value of the wrong kind.
    """

    values: Mapping[str, Any]
    path: str

    def fail(self, name: str, word: str) -> UsageError:
        """An error to raise. name: of the member. word: what is wrong."""
        return UsageError(f"{safe_text(self.at(name))}: {word}")

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        """Any value. None: null or missing."""
        return self.values.get(name)

    def number(self, name: str, default: int | None = None) -> int:
        """A number below 2^64, also as a text such as 64M. default: if it is null or missing. None: then an error."""
        found = self.maybe(name)
        if found is None:
            if default is None:
                raise self.fail(name, "missing; expected a number")
            return default
        return found

    def maybe(self, name: str) -> int | None:
        """A number below 2^64, also as a text. None: null or missing."""
        return _number(self, name, self.values.get(name))

    def order(self, name: str) -> int:
        """A power of two in pages, 0 if it is missing: a u16, as in the kernel's structs."""
        found = self.number(name, 0)
        if found >> 16:
            raise self.fail(name, f"expected an order below 65536, found {found}")
        return found

    def bits(self, name: str, names: Mapping[int, str]) -> int | None:
        """A number, also as a list of names of its bits; those without a name as one hex number, such as 0x10.

        names: by bit value. None: null or missing.
        """
        value = self.values.get(name)
        if not isinstance(value, list):
            return self.maybe(name)
        by_name = {word.upper(): bit for bit, word in names.items()}
        made = 0
        for index, word in enumerate(value):
            bit = by_name.get(str(word).upper().removeprefix("F_SEAL_"))
            if isinstance(word, str) and _HEX.fullmatch(word):
                bit = int(word, 16)
            if bit is None:
                raise self.fail(f"{name}[{index}]", f"expected one of {', '.join(by_name)}, found {_shown(word)}")
            made |= bit
        return made

    def text(self, name: str, default: str | None = None) -> str:
        """A text. default: if it is missing. None: then an error."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self.fail(name, "expected a text" if name in self.values else "missing; expected a text")
        try:
            encode_name(value)
        except UnicodeEncodeError:
            raise self.fail(name, "expected a text of UTF-8, other bytes as surrogate escapes") from None
        return value

    def truth(self, name: str, default: bool) -> bool:
        """A boolean. default: if it is missing."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, "expected true or false")
        return value

    def array(self, name: str) -> list[Any]:
        """A list, empty if it is null or missing."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fail(name, "expected a list")
        return value

    def items(self, name: str) -> Iterator[Item]:
        """The objects of a list."""
        for index, value in enumerate(self.array(name)):
            yield self._item(value, f"{name}[{index}]")

    def item(self, name: str) -> Item | None:
        """An object. None: null or missing."""
        value = self.values.get(name)
        return None if value is None else self._item(value, name)

    def _item(self, value: Any, name: str) -> Item:
        if not isinstance(value, Mapping):
            raise self.fail(name, "expected an object")
        return Item(value, self.at(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of numbers."""
        return tuple(_known(self, name, index, value) for index, value in enumerate(self.array(name)))

    def rows(self, name: str, size: int) -> list[list[int]]:
        """A list of lists of numbers. size: length of each inner list."""
        rows = []
        for index, row in enumerate(self.array(name)):
            if not isinstance(row, list) or len(row) != size:
                raise self.fail(f"{name}[{index}]", f"expected a list of {size} numbers")
            rows.append([_known(self, f"{name}[{index}]", place, value) for place, value in enumerate(row)])
        return rows

    def data(self, name: str) -> bytes:
        """Bytes, in hex in the document."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise self.fail(name, "expected bytes in hex") from None


def _number(item: Item, name: str, value: Any) -> int | None:
    if value is None:
        return None
    number: Any = value
    if isinstance(value, str):
        try:
            number = parse_size(value)
        except ValueError:
            raise item.fail(name, f"expected a number such as 0x617000 or 64M, found {_shown(value)}") from None
    if not isinstance(number, int) or isinstance(number, bool):
        raise item.fail(name, "expected a number")
    if not 0 <= number <= _U64:
        raise item.fail(name, f"{_shown(value)} does not fit 64 bits")
    return number


def _shown(value: Any) -> str:
    """A value for an error, cut short: a number in a document may have any number of digits."""
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a number of more than 256 bits"
    return safe_text(repr(value)[:80])


def _known(item: Item, name: str, index: int, value: Any) -> int:
    number = _number(item, f"{name}[{index}]", value)
    if number is None:
        raise item.fail(f"{name}[{index}]", "expected a number")
    return number


def _some(item: Item | None, make: Callable[[Item], _T]) -> _T | None:
    return None if item is None else make(item)


def from_document(document: Mapping[str, Any]) -> State:
    """The state of a full document. Raises UsageError with the path of a value that is missing or impossible."""
    try:
        return _state(Item(document, ""))
    except RecursionError:
        raise UsageError("nested too deeply") from None


def _state(top: Item) -> State:
    if top.get("schema") != _SCHEMA:
        raise top.fail("schema", f"expected {_SCHEMA}, found {_shown(top.get('schema'))}")
    source = top.item("source") or Item({}, "source")
    page_size = source.number("page_size", 4096)
    if page_size not in (4096, 16384, 65536):
        raise source.fail("page_size", f"expected 4096, 16384 or 65536, found {page_size}")
    return State(
        source=Source(
            path=source.text("path", ""),
            format=_format(source),
            page_size=page_size,
            kernel=None if source.get("kernel") is None else source.text("kernel"),
            left_out=tuple(str(word) for word in source.array("left_out")),
        ),
        handovers=tuple(_handover(item, page_size) for item in top.items("handovers")),
        problems=tuple(
            Problem(
                code=item.text("code"),
                address=item.maybe("address"),
                message=item.text("message"),
                root=item.maybe("root"),
                about=item.text("about", ""),
            )
            for item in top.items("problems")
        ),
    )


def _format(source: Item) -> str:
    found = source.text("format", "state")
    if not _FORMAT.fullmatch(found):
        raise source.fail("format", f"expected a word such as elf, found {_shown(found)}")
    return found


def _handover(item: Item, page_size: int) -> Handover:
    scratch = None
    if item.get("scratch") is not None:
        scratch = tuple(
            Area(address=area.number("address"), size=area.number("size")) for area in item.items("scratch")
        )
    preserved = item.item("preserved")
    if preserved is None:
        raise item.fail("preserved", "missing; expected the preserved map")
    subtrees = tuple(_subtree(entry, page_size) for entry in item.items("subtrees"))
    luo = _some(item.item("luo"), lambda luo: _luo(luo, page_size))
    if luo is not None:  # the document has its devicetree, if any, at the sub-tree
        tree = next((entry.fdt for entry in reversed(subtrees) if entry.address == luo.address), None)
        luo = replace(luo, fdt=tree)
    return Handover(
        address=item.maybe("address"),
        compatible=item.text("compatible"),
        own=item.truth("own", True),
        at_jump=item.truth("at_jump", False),
        direction=_choice(item, "direction", Direction),
        evidence=tuple(str(word) for word in item.array("evidence")),
        scratch=scratch,
        scratch_array=item.maybe("scratch_array"),
        preserved=_preserved(preserved, page_size),
        subtrees=subtrees,
        luo=luo,
        pending=_some(item.item("pending"), lambda pending: _pending(pending, page_size)),
        pci=tuple(_pci(entry) for entry in item.items("pci")),
        memblock=_some(item.item("memblock"), _memblock),
        kexec_metadata=_some(item.item("kexec_metadata"), _metadata),
        kho_test=_some(item.item("kho_test"), _kho_test),
        fdt=_some(item.item("fdt"), load_fdt),
    )


def _choice(item: Item, name: str, kind: type[_Word]) -> _Word:
    try:
        return kind(item.text(name))
    except ValueError:
        raise item.fail(name, f"expected one of {', '.join(kind)}, found {_shown(item.get(name))}") from None


def _preserved(item: Item, page_size: int, *, forms: tuple[str, ...] = _FORMS) -> Preserved:
    status = _choice(item, "status", MapStatus)
    found = None
    if status in (MapStatus.INTACT, MapStatus.DAMAGED):
        complete = item.truth("complete", True) if item.get("complete") is not None else True
        if item.get("extents") is None and item.get("entries"):
            raise item.fail(
                "extents", f"expected those of {item.number('entries')} entries; `inspect --full` gives them"
            )
        found = PreservedMap.from_extents(load_extents(item, page_size), page_size=page_size, complete=complete)
        for name, have in (("entries", found.entries), ("pages", found.pages)):
            if item.get(name) is not None and item.number(name) != have:
                raise item.fail(name, f"expected {have} as in the extents, found {item.number(name)}")
    bitmaps = tuple((address, order, start) for address, order, start in item.rows("bitmaps", 3))
    for index, (_, order, _) in enumerate(bitmaps):
        if order > _HIGHEST_ORDER:
            raise item.fail(f"bitmaps[{index}]", f"impossible order: {order}")
    return Preserved(
        form=_form(item, forms),
        address=item.number("address", 0),
        status=status,
        map=found,
        nodes=item.numbers("nodes"),
        bitmap_size=_bitmap_size(item, page_size),
        bitmaps=bitmaps,
    )


def _form(item: Item, forms: tuple[str, ...]) -> str:
    form = item.text("form")
    if form not in forms:
        raise item.fail("form", f"expected one of {', '.join(forms)}, found {_shown(form)}")
    return form


def load_extents(item: Item, page_size: int) -> list[Extent]:
    """The extents of a map.

    item:      object with a member `extents`: lists of address, order and count.
    page_size: bytes.

    Raises UsageError for blocks that are not aligned, beyond 52-bit physical addresses, or too many for a map.
    """
    extents, left = list[Extent](), LIMITS.map_nodes
    for index, (address, order, count) in enumerate(item.rows("extents", 3)):
        if order > _HIGHEST_ORDER or address % (page_size << order) or address + count * (page_size << order) > 1 << 52:
            raise item.fail(f"extents[{index}]", f"impossible extent: {count} blocks of order {order} at {address:#x}")
        left -= (count >> 15) + 1
        if left < 0:
            raise item.fail(
                f"extents[{index}]",
                f"too many blocks in the map: expected at most {LIMITS.map_nodes << 15}, found {count} here; "
                f"{how_to_raise('map_nodes')}",
            )
        extents.append((address, order, count))
    return extents


def _bitmap_size(item: Item, page_size: int) -> int | None:
    size = item.maybe("bitmap_size")
    if size not in (None, SMALL_BITMAP, page_size):
        raise item.fail("bitmap_size", f"expected {SMALL_BITMAP} or {page_size} bytes, found {size}")
    return size


def _subtree(item: Item, page_size: int) -> Subtree:
    return Subtree(
        name=item.text("name"),
        address=item.maybe("address"),
        size=item.maybe("size"),
        fdt=_some(item.item("fdt"), load_fdt),
        detail=_some(item.item("detail"), _record),
        page_tree=_some(item.item("page_tree"), lambda tree: _preserved(tree, page_size, forms=_PAGE_TREES)),
        contents=tuple(_contents(entry) for entry in item.items("contents")),
    )


def load_fdt(item: Item) -> Fdt:
    """A devicetree, as `fdt_document` writes it. Raises UsageError for a missing member, or one that is too large."""
    strings, root = item.data("strings"), item.item("root")
    if root is None:
        raise item.fail("root", "missing; expected the root node")
    header = Header(
        magic=0xD00DFEED,
        totalsize=item.number("totalsize"),
        off_dt_struct=item.number("off_dt_struct"),
        off_dt_strings=item.number("off_dt_strings"),
        off_mem_rsvmap=item.number("off_mem_rsvmap"),
        version=item.number("version", 17),
        last_comp_version=item.number("last_comp_version", 16),
        boot_cpuid_phys=item.number("boot_cpuid_phys", 0),
        size_dt_strings=item.number("size_dt_strings"),
        size_dt_struct=item.number("size_dt_struct"),
    )
    for name in header.__slots__:
        if name != "magic" and getattr(header, name) > LIMITS.fdt_size:
            word = f"expected at most {LIMITS.fdt_size:#x}, found {getattr(header, name):#x}"
            raise item.fail(name, f"{word}; {how_to_raise('fdt_size')}")
    return Fdt(header, _node(root, 0), strings)


def _node(item: Item, depth: int) -> Node:
    """A node with its properties, each [name, hex], and the nodes below it."""
    if depth >= LIMITS.fdt_depth:
        word = f"nested too deeply: expected at most {LIMITS.fdt_depth} levels"
        raise item.fail("nodes", f"{word}; {how_to_raise('fdt_depth')}")
    properties = []
    for index, pair in enumerate(item.array("properties")):
        try:
            name, value = pair
            properties.append((encode_name(name), bytes.fromhex(value)))
        except (ValueError, TypeError, AttributeError):
            raise item.fail(f"properties[{index}]", "expected a name and bytes in hex") from None
    nodes = [_node(node, depth + 1) for node in item.items("nodes")]
    return Node(encode_name(item.text("name", "")), properties, nodes)


def _luo(item: Item, page_size: int) -> Luo:
    return Luo(
        layout=item.text("layout"),
        compatible=None if item.get("compatible") is None else item.text("compatible"),
        address=item.number("address"),
        number=item.maybe("liveupdate_number"),
        serialized=item.truth("serialized", True),
        sessions=tuple(_session(entry, page_size) for entry in item.items("sessions")),
        flbs=tuple(
            Flb(
                name=entry.text("name"),
                data=entry.number("data"),
                count=entry.number("count"),
                address=entry.number("address"),
                detail=_some(entry.item("detail"), _record),
                contents=tuple(_contents(piece) for piece in entry.items("contents")),
            )
            for entry in item.items("flbs")
        ),
        subsystems=tuple(
            Subsystem(name=entry.text("name"), data=entry.number("data")) for entry in item.items("subsystems")
        ),
        session_area=item.maybe("session_area"),
        session_blocks=item.numbers("session_blocks"),
        flb_area=item.maybe("flb_area"),
    )


def _pending(item: Item, page_size: int) -> Pending:
    return Pending(
        sessions=tuple(
            PendingSession(
                name=entry.text("name"),
                address=entry.number("address"),
                files=tuple(_pending_file(file, page_size) for file in entry.items("files")),
                retrieved=entry.truth("retrieved", False),
                blocks=entry.numbers("blocks"),
            )
            for entry in item.items("sessions")
        ),
        flbs=tuple(
            PendingFlb(
                name=entry.text("name"),
                count=entry.number("count"),
                data=entry.number("data"),
                address=entry.number("address"),
            )
            for entry in item.items("flbs")
        ),
        lists=tuple(_pci(entry) for entry in item.items("devices")),
        subtrees=tuple(str(word) for word in item.array("subtrees")),
        handlers=tuple(str(word) for word in item.array("handlers")),
        evidence=tuple(str(word) for word in item.array("evidence")),
        complete=item.truth("complete", True),
        blocks=item.numbers("blocks"),
    )


def _pending_file(item: Item, page_size: int) -> PendingFile:
    return PendingFile(
        compatible=item.text("compatible"),
        token=item.number("token"),
        data=item.number("data"),
        address=item.number("address"),
        private=item.maybe("private"),
        size=item.maybe("size"),
        position=item.maybe("position"),
        memfd=_some(item.item("memfd"), lambda memfd: _memfd(memfd, page_size)),
    )


def _session(item: Item, page_size: int) -> Session:
    files = tuple(_file(entry, page_size) for entry in item.items("files"))
    return Session(
        name=item.text("name"),
        address=item.maybe("address"),
        files=files,
        count=item.number("count", len(files)),
        blocks=item.numbers("blocks"),
    )


def _file(item: Item, page_size: int) -> File:
    return File(
        compatible=item.text("compatible"),
        data=item.number("data"),
        token=item.number("token"),
        address=item.maybe("address"),
        memfd=_some(item.item("memfd"), lambda memfd: _memfd(memfd, page_size)),
        detail=_some(item.item("detail"), _record),
        contents=tuple(_contents(entry) for entry in item.items("contents")),
    )


def _memfd(item: Item, page_size: int) -> Memfd:
    folios = item.item("folios")
    if folios is None:
        raise item.fail("folios", "missing; expected the folios of the file")
    layout = item.text("layout")
    form = memfd_form(layout)
    shift = form.frame_shift if form is not None else 0
    entries = bytearray()
    for index, (place, address, flags) in enumerate(folios.rows("list", 3)):
        frame = address // page_size
        if address % page_size or frame >= 1 << 52 or flags >= 1 << 12:
            raise folios.fail(f"list[{index}]", f"not a folio of a file: address {address:#x}, flags {flags:#x}")
        entries += struct.pack("<QQ", frame << 12 | flags if shift else frame | flags << 52, place)
    return Memfd(
        layout=layout,
        address=item.number("address"),
        size=item.number("size"),
        position=item.number("position", 0),
        seals=item.bits("seals", SEALS),
        flags=item.number("flags", 0),
        folios=Folios(
            count=folios.number("count", len(entries) // 16),
            address=folios.number("address", 0),
            list=FolioList(bytes(entries), page_size=page_size, frame_shift=shift),
            total_pages=folios.number("total_pages", 0),
            flags=folios.number("flags", 0),
            order=folios.order("order"),
            chunks=folios.numbers("chunks"),
            pages=folios.numbers("pages"),
        ),
        contents=tuple(_contents(entry) for entry in item.items("contents")),
    )


def _contents(item: Item) -> Contents:
    size, data = item.number("size"), item.data("bytes")
    if size > LIMITS.list_size:
        word = f"expected at most {LIMITS.list_size:#x} bytes, found {size:#x}"
        raise item.fail("size", f"{word}; {how_to_raise('list_size')}")
    if len(data) > size:
        raise item.fail("bytes", f"expected at most {size} bytes (size), found {len(data)}")
    return Contents(address=item.number("address"), size=size, data=data)


def _record(item: Item) -> Record:
    readings = []
    for entry in item.items("readings"):
        fields = entry.item("fields") or Item({}, entry.at("fields"))
        readings.append((entry.text("layout"), {name: _plain(value) for name, value in fields.values.items()}))
    if not readings:
        raise item.fail("readings", "missing; expected at least one layout with its fields")
    return Record(
        address=item.number("address"),
        readings=tuple(readings),
        confidence=item.text("confidence", ""),
        arrays=tuple(_array(entry) for entry in item.items("arrays")),
    )


def _array(item: Item) -> Array:
    return Array(
        member=item.text("member"),
        order=item.order("order"),
        chunks=item.numbers("chunks"),
        pages=item.numbers("pages"),
        words=item.numbers("words"),
        complete=item.truth("complete", True),
    )


def _plain(value: Any) -> Any:
    """Values of a struct. A text 0x… is an address, a size or a handle."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, str) and _HEX.fullmatch(value):
        return Hex(int(value, 16))
    return value


def _pci(item: Item) -> PciList:
    form = pci_layout(item.text("layout"))
    if form is None:
        raise item.fail("layout", str(unknown_layout(item.text("layout"), kind="list")))
    header = item.item("header") or Item({}, item.at("header"))
    return PciList(
        layout=form.name,
        address=item.number("address"),
        via=tuple(str(way) for way in item.array("via")),
        confidence=item.text("confidence", ""),
        devices=load_devices(item, form, header),
        candidates=tuple(str(name) for name in item.array("candidates")) or (form.name,),
        header=_header(header, form),
        buses=load_buses(item, form),
        blocks=item.numbers("blocks"),
        contents=tuple(_contents(entry) for entry in item.items("contents")),
    )


def _header(header: Item, form: PciLayout) -> dict[str, int]:
    """The members of a header, with addresses as Hex."""
    for name in header.values:
        if name not in form.header.record_fields:
            raise header.fail(name, f"unknown member of struct {form.header.name}")
    made: dict[str, int] = {name: header.number(name) for name in form.header.record_fields}
    if form.blocks in made:
        made[form.blocks] = Hex(made[form.blocks])
    return made


def load_devices(item: Item, form: PciLayout, header: Item) -> DeviceList:
    """The devices of a list, as packed records. Slots without a device are zeros.

    item:   the list, with members `devices` and `slots`.
    form:   its layout.
    header: its header.

    Raises UsageError for indices that do not fit the layout, and for members that do not fit a record.
    """
    size = form.record.size
    entries = list(item.items("devices"))
    slots = [entry.number("index", place) for place, entry in enumerate(entries)]
    length = max(slots, default=-1) + 1
    wanted = max(length, item.number("slots", 0))
    if wanted * size > LIMITS.list_size:
        word = f"too many: {wanted} slots of {size} bytes, expected at most {LIMITS.list_size:#x} bytes in all"
        raise item.fail("devices", f"{word}; {how_to_raise('list_size')}")
    capacity = header.number(form.capacity, 0) if form.capacity is not None else 0
    if capacity * size > LIMITS.list_size:
        word = f"too many: {capacity} entries of {size} bytes, expected at most {LIMITS.list_size:#x} bytes in all"
        raise header.fail(form.capacity or "", f"{word}; {how_to_raise('list_size')}")
    holes = form.has_refcounts and len(slots) < max(wanted, capacity)
    if len(set(slots)) < len(slots) or (len(slots) < length and not holes):
        raise item.fail("devices", "expected a unique index for each device, from 0 on without gaps")
    if len(slots) < wanted and not holes:
        raise item.fail("slots", f"expected {len(slots)}, as {form.name} has no empty slots, found {wanted}")
    if holes:  # slots of unpreserved devices, and unused slots
        length = max(wanted, capacity)
    data = bytearray(length * size)
    packer = _Packer(form.record)
    for slot, entry in zip(slots, entries, strict=True):
        packer.device(data, slot * size, entry)
    return DeviceList(form.record.record, packer.columns, bytes(data), holes=holes)


class _Packer:
    """Devices of one layout into their records."""

    def __init__(self, record: Schema) -> None:
        self.record, self.columns = record, columns(record)
        self.by_name = {name: column for column in self.columns for name in _members(column)}
        self.flags = next((column for column in self.columns if column.kind == "flags"), None)
        self.known = {*self.by_name, "index", "bdf", *(["flag_names"] if self.flags is not None else [])}

    def device(self, data: bytearray, place: int, entry: Item) -> None:
        values = self._values(entry)
        try:
            data[place : place + self.record.size] = record_bytes(self.record, self.columns, values)
        except UsageError as error:
            raise UsageError(f"{safe_text(entry.path)}.{error}") from None

    def _values(self, entry: Item) -> dict[str, Any]:
        try:
            domain, bdf = parse_bdf(entry.text("bdf"))
        except ValueError:
            raise entry.fail(
                "bdf", f"expected a PCI address such as 0000:05:00.1, found {_shown(entry.get('bdf'))}"
            ) from None
        values: dict[str, Any] = {"domain": domain, "bdf": bdf, "path": (domain << 16 | bdf) & 0xFFFFFFFF}
        if "refcount" in self.by_name:
            values["refcount"] = 1  # 0 is a hole, or finished
        for name in entry.values:
            if name not in self.known:
                raise entry.fail(name, f"unknown member of struct {self.record.name}")
            column = self.by_name.get(name)
            if name == "bdf" or column is None:
                continue
            kind = column.kind
            if kind == "flags":
                values[name] = entry.bits(name, column.bit_names) or 0
            elif kind == "records":
                values[name] = [_resource(resource) for resource in entry.items(name)]
            else:
                values[name] = entry.text(name) if kind == "text" else entry.number(name, 0)
        if self.flags is not None:  # beside a number, the names are for the people who read it
            named = entry.bits("flag_names", self.flags.bit_names)
            if named is not None:
                values.setdefault(self.flags.name, named)
        return values


def _members(column: Column) -> Iterator[str]:
    """The names of a column in a document."""
    yield from (name for name, _, _ in column.bits) if column.bits else (column.name,)


def _resource(item: Item) -> dict[str, Any]:
    known = pci_resource_ser.record_fields
    for name in item.values:
        if name not in known:
            raise item.fail(name, f"unknown member of struct {pci_resource_ser.name}")
    return {name: item.text(name) if name == "name" else item.number(name, 0) for name in item.values}


def load_buses(item: Item, form: PciLayout) -> tuple[dict[str, Any], ...]:
    """The records of buses, as values by member name.

    item: the list, with a member `buses`.
    form: its layout.

    Raises UsageError for a member that the record does not have, or that does not fit it.
    """
    if form.bus is None:
        if item.array("buses"):
            raise item.fail("buses", f"expected no buses, as {form.name} has none")
        return ()
    return tuple(_bus(entry, form.bus) for entry in item.items("buses"))


def _bus(item: Item, record: Schema) -> dict[str, Any]:
    """One bus, given as `0000:41`, as domain and number, or as both."""
    wanted = columns(record)
    values: dict[str, Any] = {}
    if item.get("bus") is not None:
        try:
            domain, number = parse_bdf(f"{item.text('bus')}:00.0")
        except ValueError:
            raise item.fail("bus", f"expected a PCI bus such as 0000:41, found {_shown(item.get('bus'))}") from None
        values |= {"domain": domain, "number": number >> 8}
    for name in item.values:
        if name == "resource" and name in record.record_fields:
            values[name] = tuple(_resource(resource) for resource in item.items(name))
        elif name in record.record_fields:
            values[name] = item.number(name, 0)
        elif name != "bus":
            raise item.fail(name, f"unknown member of struct {record.name}")
    try:
        return dict(row_fields(wanted, record.record.unpack(record_bytes(record, wanted, values))))
    except UsageError as error:
        raise UsageError(f"{safe_text(item.path)}.{error}") from None


def _memblock(item: Item) -> Memblock:
    return Memblock(
        address=item.number("address"),
        reservations=tuple(
            Reservation(name=entry.text("name"), start=entry.number("start"), size=entry.number("size"))
            for entry in item.items("reservations")
        ),
    )


def _metadata(item: Item) -> KexecMetadata:
    return KexecMetadata(
        address=item.number("address"),
        version=item.number("version", 1),
        previous_release=item.text("previous_release"),
        kexec_count=item.number("kexec_count"),
    )


def _kho_test(item: Item) -> KhoTest:
    folios = tuple((address, order) for address, order in item.rows("folios", 2))
    for index, (_, order) in enumerate(folios):
        if order > _HIGHEST_ORDER:
            raise item.fail(f"folios[{index}]", f"impossible order: {order}")
    return KhoTest(
        address=item.number("address"),
        magic=item.number("magic"),
        count=item.number("nr_folios", len(folios)),
        checksum=item.number("checksum", 0),
        folios=folios,
        pages=item.numbers("pages"),
        contents=tuple(_contents(entry) for entry in item.items("contents")),
    )
