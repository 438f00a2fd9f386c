# SPDX-License-Identifier: MIT
"""What is looked for, out of the registry: tables, descriptors, root objects, device lists, devicetrees; their shapes.

Only structs say what a page has to be: nothing here has an offset of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from luoser.abi import luo, memfd, pci
from luoser.abi.block import kho_block_header_ser
from luoser.abi.memfd import SEALS, MemfdForm
from luoser.abi.registry import layouts
from luoser.abi.schema import Schema
from luoser.abi.vmalloc import KNOWN_FLAGS, MAX_ORDER
from luoser.fdt import MAGIC
from luoser.reader.salvage.columns import Shape, shape

__all__ = ["HANDLERS", "TABLES", "TREES", "Table", "shapes"]

HANDLERS = frozenset(
    one.handler.encode()
    for one in layouts()
    if one.kind == "struct" and one.handler and one.subject not in ("kho", "kexec_metadata", "luo")
)
"""Strings of the file handlers that are known."""
TREES = {one.name.removesuffix("-fdt").encode(): one.name for one in layouts() if one.kind == "fdt"}
"""Name of the layout of a devicetree, by the compatible of its root node."""
_MOST = 1 << 16
"""Most entries and pages that any count of a head can mean here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An array of entries at the start of a page.

    kind:   of what is found: `sessions`, `files`, `flbs`.
    layout: name in the registry.
    head:   struct before the entries. None: they begin with the page.
    entry:  struct of an entry.
    span:   pages of it; more if its head says so.
    """

    kind: str
    layout: str
    head: Schema | None
    entry: Schema
    span: int = 1

    @property
    def start(self) -> int:
        """Offset of the first entry."""
        return self.head.size if self.head is not None else 0

    @property
    def name(self) -> str:
        """The member of an entry that is its name."""
        return next(field.name for field in self.entry.fields if field.kind == "text")

    @property
    def is_block(self) -> bool:
        """Whether it is a KHO block, which has a link to the next one."""
        return self.head is kho_block_header_ser

    def capacity(self, page_size: int, pages: int = 0) -> int:
        """Most entries. page_size: bytes. pages: of it. 0: as many as the form says."""
        return ((pages or self.span) * page_size - self.start) // self.entry.size


def _tables() -> Iterator[Table]:
    for form in luo.FORMS:
        if form.sessions == "blocks":
            yield _table("sessions", kho_block_header_ser, form.session)
        elif form.session_header is not None and form.sessions == "area":
            yield _table("sessions", form.session_header, form.session, form.session_pages)
        if form.files == "blocks":
            yield _table("files", kho_block_header_ser, luo.luo_file_ser)
        elif form.files == "array":
            yield _table("files", None, luo.luo_file_ser, form.file_pages)
    yield _table("flbs", luo.luo_flb_header_ser, luo.luo_flb_ser)


def _table(kind: str, head: Schema | None, entry: Schema, span: int = 1) -> Table:
    wanted = (entry,) if head is None else (head, entry)
    name = next(one.name for one in layouts() if one.schemas[: len(wanted)] == wanted)
    return Table(kind=kind, layout=name, head=head, entry=entry, span=span)


TABLES = tuple(dict.fromkeys(_tables()))
"""All forms of arrays of sessions, files and FLBs, newest first."""

Wanted = Table | MemfdForm | luo.LuoForm | pci.PciLayout | None
"""What a page can be. None: a devicetree."""


@cache
def shapes(page_size: int) -> tuple[tuple[Wanted, Shape], ...]:
    """What is looked for, and its shape. page_size: bytes."""
    return tuple(_shapes(page_size))


def _shapes(page_size: int) -> Iterator[tuple[Wanted, Shape]]:
    yield None, shape(page_size, texts={0: [MAGIC]})
    for table in TABLES:
        yield table, _table_shape(table, page_size)
    for form in memfd.FORMS:
        if form.descriptor is not None:
            yield form, _memfd_shape(form.descriptor, page_size)
    for one in luo.FORMS:
        if one.root is not None and one.compatible is not None:
            name = one.compatible.encode() + b"\0"
            head = {"liveupdate_num": (1 << 32) - 1}
            yield one, shape(page_size, (0, one.root, head), texts={0: [name]})
    for layout in pci.LAYOUTS:
        yield layout, _pci_shape(layout, page_size)


def _table_shape(table: Table, page_size: int) -> Shape:
    entry, start = table.entry, table.start
    parts = [(start, entry, {"file_set_ser.count": _MOST, "count": _MOST, "pgcnt": _MOST})]
    if table.head is None:
        return shape(page_size, *parts, texts={0: HANDLERS})
    most = {"count": table.capacity(page_size), "pgcnt": 1 if table.kind == "flbs" else _MOST}
    counts = [(1, name) for name in ("count", "pgcnt") if name in table.head.record_fields]
    return shape(page_size, parts[0], (0, table.head, most), some=counts)


def _memfd_shape(descriptor: Schema, page_size: int) -> Shape:
    most = {
        "seals": sum(SEALS),
        "flags": 0,
        "nr_folios": (1 << 40) - 1,
        "folios.flags": KNOWN_FLAGS,
        "folios.order": MAX_ORDER,
        "features.reserved": 0,
    }
    return shape(page_size, (0, descriptor, most), some=[(0, "nr_folios"), (0, "folios.first"), (0, "size")])


def _pci_shape(layout: pci.PciLayout, page_size: int) -> Shape:
    most = dict.fromkeys(
        [name for name in (layout.count, layout.capacity, layout.bus_count) if name is not None], _MOST - 1
    )
    if layout.version is not None:
        most["version"] = layout.version
    parts = [(0, layout.header, most)]
    some = [(0, layout.count)]
    if layout.blocks is not None:
        some.append((0, layout.blocks))
        return shape(page_size, *parts, some=some)
    record = {"domain": pci.MAX_DOMAIN, "reserved": 0, "requested": 1}
    parts.append((layout.header.size, layout.record, record))
    if layout.asked is not None and layout.asked == layout.flags:
        some.append((1, layout.asked))
    return shape(page_size, *parts, some=some)
