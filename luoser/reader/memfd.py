# SPDX-License-Identifier: MIT
"""Preserved memfds: the descriptor, then the folio array in its vmalloc area."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from luoser.abi import memfd as abi
from luoser.abi.schema import Schema
from luoser.errors import MissingMemory
from luoser.fdt import MAGIC
from luoser.limits import LIMITS
from luoser.reader.vmalloc import Area, read_area
from luoser.reader.walk import PHYSICAL_LIMIT, Walk
from luoser.state import Contents, FolioList, Folios, Memfd

__all__ = ["is_memfd", "read_memfd"]

_FORMS: dict[str, tuple[str, Schema]] = {
    "memfd-v1": ("memfd-v1", abi.memfd_luo_ser_v1),
    "memfd-v2": ("memfd-v2", abi.memfd_luo_ser_v2),
    "memfd": ("memfd-features", abi.memfd_luo_ser_features),
}
_ENTRY = abi.memfd_luo_folio_ser.size


def is_memfd(compatible: str) -> bool:
    """Whether a file's handler is one of the memfd forms."""
    return compatible in _FORMS


def read_memfd(walk: Walk, compatible: str, address: int, what: str) -> Memfd | None:
    """The memfd whose descriptor is at an address; None and a problem where it cannot be one."""
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, f"{what}: {compatible} data {address:#x} is no page address")
        return None
    if not walk.claim(address, f"memfd of {what}"):
        return None
    layout, schema = _FORMS[compatible]
    head = walk.read(address, max(schema.size, 8), what)
    if head is None:
        return None
    memfd = _premerge(walk, address, what) if head[:4] == MAGIC else _merged(walk, layout, schema, address, head, what)
    if memfd is not None and walk.contents:
        memfd = replace(memfd, contents=_contents(walk, memfd, what))
    return memfd


def _merged(walk: Walk, layout: str, schema: Schema, address: int, head: bytes, what: str) -> Memfd | None:
    ser = schema.parse(head)
    fault = _fault(walk, ser)
    if fault:
        walk.problem("bad-memfd", address, f"{what}: no {layout} descriptor: {fault}; reused memory?")
        return None
    if not any(head):
        walk.problem(
            "zero-memfd", address, f"{what}: descriptor of zeros: an empty file without seals, or a freed page"
        )
        return None
    area = Area((), (), b"")
    if ser.nr_folios:
        area = read_area(walk, ser.folios, ser.nr_folios * _ENTRY, f"{what}, folio array")
    return Memfd(
        layout=layout,
        address=address,
        size=ser.size,
        position=ser.pos,
        seals=ser.get("seals"),
        flags=ser.get("flags", 0),
        folios=Folios(
            count=ser.nr_folios,
            address=ser.folios.first,
            list=FolioList(area.data, page_size=walk.page_size),
            total_pages=ser.folios.total_pages,
            flags=ser.folios.flags,
            order=ser.folios.order,
            chunks=area.chunks,
            pages=area.pages,
        ),
    )


def _fault(walk: Walk, ser: Any) -> str | None:
    """What no writer of such a descriptor writes."""
    first, room = ser.folios.first, ser.folios.total_pages * walk.page_size
    if first % walk.page_size or first >= PHYSICAL_LIMIT:
        return f"vmalloc chunk {first:#x} is no page address"
    if ser.nr_folios * _ENTRY > room:
        return f"{ser.nr_folios} folios do not fit the {ser.folios.total_pages} pages of their array"
    if bool(first) != bool(ser.nr_folios):
        return f"{ser.nr_folios} folios, but the array is at {first:#x}"
    if ser.size >= 1 << 63 or ser.pos >= 1 << 63:
        return f"size {ser.size:#x} or position {ser.pos:#x} is negative as a file offset"
    return None


def _premerge(walk: Walk, address: int, what: str) -> Memfd | None:
    """memfd-v1 before the merge (LUO v2, v3): the handle is an FDT with pos, size and folios."""
    tree = walk.fdt(address, what)
    if tree is None:
        return None
    position, size, folios = tree.root.u64("pos"), tree.root.u64("size"), tree.root.get("folios")
    if position is None or size is None or folios is None or len(folios) % _ENTRY:
        walk.problem("bad-memfd", address, f"{what}: devicetree without pos, size and folios")
        return None
    entries = FolioList(folios, page_size=walk.page_size, frame_shift=12)
    return Memfd(
        layout="memfd-pre-merge",
        address=address,
        size=size,
        position=position,
        seals=None,
        folios=Folios(count=len(entries), address=address, list=entries),
    )


def _contents(walk: Walk, memfd: Memfd, what: str) -> tuple[Contents, ...]:
    """A page for each folio of a small file, holes left out; folios that are not there give a problem."""
    if memfd.size > LIMITS.contents_size:
        return ()
    pieces = []
    for folio in memfd.folios.list:
        if folio.address:
            try:
                data = walk.memory.read(folio.address, walk.page_size)
            except MissingMemory as error:
                walk.missing(error, f"{what}, folio {folio.index}")
                continue
            pieces.append(Contents(address=folio.address, size=walk.page_size, data=data.rstrip(b"\0")))
    return tuple(pieces)
