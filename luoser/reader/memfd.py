# SPDX-License-Identifier: MIT
"""Preserved memfds: the descriptor, then the folio array in its vmalloc area."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from luoser.abi import memfd as abi
from luoser.abi.memfd import MemfdForm
from luoser.abi.schema import Schema
from luoser.bits import is_zero
from luoser.errors import MissingMemory
from luoser.fdt import MAGIC, Fdt
from luoser.limits import LIMITS
from luoser.reader.kept import keep_struct, keep_tree, keep_words, values_of
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.vmalloc import Area, read_area
from luoser.reader.walk import Subject, Walk
from luoser.state import Contents, File, FolioList, Folios, Luo, Memfd, PreservedMap, Session
from luoser.text import safe_text

__all__ = ["is_memfd", "read_memfd", "with_file_contents"]

_ENTRY = abi.memfd_luo_folio_ser.size
_PRE_MERGE = next(form for form in abi.FORMS if form.descriptor is None)


def is_memfd(compatible: str) -> bool:
    """Whether a compatible string is that of a memfd handler."""
    return abi.form_of_handler(compatible) is not None


def read_memfd(walk: Walk, compatible: str, address: int, subject: Subject) -> Memfd | None:
    """A memfd with its folios. None, with a problem: no memfd descriptor at the address.

    walk:       the source.
    compatible: string of a memfd handler.
    address:    of the descriptor.
    subject:    what problems are about.

    Source: mm/memfd_luo.c; docs/abi/memfd.md.
    """
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, subject, f"{compatible} data {address:#x} is not a page address")
        return None
    if not walk.claim(address, Subject(f"memfd of {subject.name}", subject.path)):
        return None
    form = abi.form_of_handler(compatible)
    assert form is not None and form.descriptor is not None
    schema = walk.form(form.descriptor)
    head = walk.read(address, schema.size, subject, kind=lambda page: _is_descriptor(walk, schema, page))
    if head is None:
        return None
    return _tree(walk, address, subject) if head[:4] == MAGIC else _struct(walk, form, schema, address, head, subject)


def _is_descriptor(walk: Walk, schema: Schema, page: bytes) -> bool:
    """Whether a page can be the descriptor of a file with folios."""
    ser = schema.parse(page)
    return bool(ser.nr_folios) and _fault(walk, ser) is None and not any(page[schema.size :])


def _struct(walk: Walk, form: MemfdForm, schema: Schema, address: int, head: bytes, subject: Subject) -> Memfd | None:
    ser = schema.parse(head)
    fault = _fault(walk, ser)
    if fault:
        walk.problem("bad-memfd", address, subject, f"not a {form.name} descriptor: {fault}; reused memory?")
        return None
    rest = _rest(walk, address, schema.size)
    if rest is not None:
        text = f"expected zeros after the {form.name} descriptor, found other bytes at {rest:#x}"
        walk.problem("bad-memfd", rest, subject, text)
        if not any(head):
            return None
    if not any(head):
        text = "descriptor is all zeros: an empty file without seals, or a freed page"
        walk.problem("zero-memfd", address, subject, text)
        return None
    keep_struct(walk, address, schema, subject)
    array, count, area = ser.folios, ser.nr_folios, Area((), (), b"")
    if not count:
        walk.doubt(address, subject, lambda page: _is_descriptor(walk, schema, page), "an empty file")
    else:
        folios = subject.part("folio array", ".memfd.folios")
        area = read_area(walk, array, count * _ENTRY, folios)
        keep_words(walk, area.pieces(walk.page_size << array.order), folios)
    return Memfd(
        layout=form.name,
        address=address,
        size=ser.size,
        position=ser.pos,
        seals=ser.get("seals"),
        flags=ser.get("flags", 0),
        folios=Folios(
            count=count,
            address=array.first,
            list=FolioList(area.data, page_size=walk.page_size),
            total_pages=array.total_pages,
            flags=array.flags,
            order=array.order,
            chunks=area.chunks,
            pages=area.pages,
        ),
    )


def _rest(walk: Walk, address: int, size: int) -> int | None:
    """Address of the first byte after a descriptor that is not zero, in its page. None: there is none."""
    try:
        page = walk.memory.read(address, walk.page_size)
    except MissingMemory:
        return None
    rest = page[size:]
    return None if is_zero(rest) else address + len(page) - len(rest.lstrip(b"\0"))


def _fault(walk: Walk, ser: Any) -> str | None:
    """A value of a descriptor that no kernel writes, in words. None: no such value."""
    array, count = ser.folios, ser.nr_folios
    first, pages = array.first, array.total_pages
    if first % walk.page_size or first >= PHYSICAL_LIMIT:
        return f"vmalloc chunk {first:#x} is not a page address"
    if count * _ENTRY > pages * walk.page_size:
        return f"{count} folios do not fit the {pages} pages of their array"
    if bool(first) != bool(count):
        return f"{count} folios with their array at {first:#x}"
    if ser.size >= 1 << 63 or ser.pos >= 1 << 63:
        return f"size {ser.size:#x} or position {ser.pos:#x} is negative as a file offset"
    return None


_OF_TREE = values_of(pos=8, size=8, folios=1 << 32)


def _tree(walk: Walk, address: int, subject: Subject) -> Memfd | None:
    """memfd-v1 before the merge (LUO v2, v3): at the handle is a devicetree with pos, size and folios."""

    def keep(at: int, data: bytes, tree: Fdt) -> None:
        keep_tree(walk, at, data, tree, subject, _OF_TREE)

    tree = walk.fdt(address, subject, keep=keep)
    if tree is None:
        return None
    position, size, folios = tree.root.u64("pos"), tree.root.u64("size"), tree.root.get("folios")
    if position is None or size is None or folios is None or len(folios) % _ENTRY:
        walk.problem("bad-memfd", address, subject, "devicetree: expected pos, size and folios")
        return None
    entries = FolioList(folios, page_size=walk.page_size, frame_shift=_PRE_MERGE.frame_shift)
    return Memfd(
        layout=_PRE_MERGE.name,
        address=address,
        size=size,
        position=position,
        seals=None,
        folios=Folios(count=len(entries), address=address, list=entries),
    )


def with_file_contents(walk: Walk, luo: Luo, preserved: PreservedMap | None) -> Luo:
    """LUO's state with the contents of small files, as far as their folios can be read.

    walk:      the source.
    luo:       whose files are read.
    preserved: map of the root, which has the sizes of folios. None: not available; then only their first pages.
    """

    def with_contents(path: str, session: Session, file: File) -> File:
        memfd = file.memfd
        if memfd is None or not 0 < memfd.size <= LIMITS.contents_size:
            return file
        subject = Subject(f"session {safe_text(session.name)}, file {file.token:#x}", f"{path}.memfd.contents")
        return replace(file, memfd=replace(memfd, contents=tuple(_contents(walk, memfd, preserved, subject))))

    return luo.with_files(with_contents)


def _contents(walk: Walk, memfd: Memfd, preserved: PreservedMap | None, subject: Subject) -> Iterator[Contents]:
    """The folios of a file up to its end, without holes. Pages that are not in the source give problems."""
    pages = -(-memfd.size // walk.page_size)
    for folio in memfd.folios.list:
        if not folio.address or folio.index >= pages:
            continue
        block = preserved.find(folio.address) if preserved is not None else None
        order = block.order if block is not None and block.address == folio.address else 0
        size = min(walk.page_size << order, (pages - folio.index) * walk.page_size)
        with walk.memory.exactly():
            data = walk.read_some(folio.address, size, subject.part(f"folio {folio.index}", ""))
        if data:
            yield Contents(address=folio.address, size=len(data), data=data.rstrip(b"\0"))
