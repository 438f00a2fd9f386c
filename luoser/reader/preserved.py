# SPDX-License-Identifier: MIT
"""The preserved map: a walk of both forms, then a judgement whether the bytes are a map."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

from luoser.abi.preserved import (
    SMALL_BITMAP,
    RadixGeometry,
    chunk_capacity,
    khoser_mem_bitmap_ptr,
    khoser_mem_chunk_hdr,
)
from luoser.errors import MissingMemory
from luoser.limits import LIMITS
from luoser.reader.walk import PHYSICAL_LIMIT, Subject, Walk
from luoser.state import Bitmap, MapStatus, Preserved, PreservedMap

__all__ = ["MapReading", "judge", "read_chunks", "read_radix"]

_MAP = Subject("preserved map", "preserved")
_EXTENTS_COMPARED = 1 << 20


@dataclass(slots=True)
class MapReading:
    """A map as walked, not judged yet.

    form:        `chunks` or `radix`.
    address:     of the root page.
    bitmaps:     that were read, without those of a radix tree that have no bit.
    nodes:       addresses of the map's own pages.
    bitmap_size: bytes of a kho-v1 bitmap. None: a radix tree.
    missing:     the root page is not in the source.
    impossible:  (address, text) of values that no kernel writes.
    damage:      (problem code, address, text) of faults after which the rest is still readable.
    places:      (address, order, start) of each bitmap, also of those without a bit.
    other:       the same map with bitmaps of 512 bytes. None: the pointers exclude that width.
    """

    form: str
    address: int
    bitmaps: list[Bitmap] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    bitmap_size: int | None = None
    missing: MissingMemory | None = None
    impossible: list[tuple[int, str]] = field(default_factory=list)
    damage: list[tuple[str, int, str]] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    other: MapReading | None = None

    @property
    def complete(self) -> bool:
        """Whether every part of the map was read."""
        return not any(code in ("map-node-missing", "map-too-large", "loop") for code, _, _ in self.damage)


# -- kho-v2 and later: the radix tree ---------------------------------------------------------------------


def read_radix(walk: Walk, address: int) -> MapReading:
    """Walk the radix tree, depth first by ascending index.

    walk:    the source.
    address: of the root page.

    Source: kernel/liveupdate/kexec_handover.c; docs/abi/preserved.md.
    """
    reading = MapReading("radix", address)
    geometry = RadixGeometry.of(walk.page_size)
    seen = {address}
    stack = [(address, geometry.levels, 0, address)]
    table = struct.Struct(f"<{walk.page_size // 8}Q")
    while stack:
        node, level, prefix, parent = stack.pop()
        page = _node(walk, reading, node, parent)
        if page is None:
            continue
        if level == 0:
            _leaf(walk, reading, geometry, prefix, page)
            continue
        children = []
        for index, child in enumerate(table.unpack(page)):
            if child and _child_is_sound(walk, reading, node, child, seen):
                seen.add(child)
                children.append((child, level - 1, prefix << geometry.table_bits | index, node))
        stack.extend(reversed(children))
    return reading


def _node(walk: Walk, reading: MapReading, node: int, parent: int) -> bytes | None:
    """A page of the map. None: not in the source; the map is missing if it is the root page, else damaged."""
    if len(reading.nodes) >= LIMITS.map_nodes:
        reading.damage.append(
            ("map-too-large", node, f"too many pages in the map: only the first {LIMITS.map_nodes} were read")
        )
        return None
    try:
        page = walk.memory.read(node, walk.page_size)
    except MissingMemory as error:
        if node == reading.address:
            reading.missing = error
        else:
            reading.damage.append(("map-node-missing", node, f"node {node:#x}, child of {parent:#x}: {error}"))
        return None
    reading.nodes.append(node)
    return page


def _child_is_sound(walk: Walk, reading: MapReading, node: int, child: int, seen: set[int]) -> bool:
    if not walk.is_page_address(child):
        if not reading.impossible or reading.impossible[-1][0] != node:
            reading.impossible.append((node, f"entry {child:#x} of node {node:#x} is not a page address"))
        return False
    if child in seen:
        reading.damage.append(("loop", node, f"node {node:#x} leads to {child:#x}, which is already in the tree"))
        return False
    return True


def _leaf(walk: Walk, reading: MapReading, geometry: RadixGeometry, prefix: int, page: bytes) -> None:
    base = prefix << geometry.leaf_bits
    if not any(page):
        address, order = geometry.decode(base) if prefix else (PHYSICAL_LIMIT, 0)
        if address < PHYSICAL_LIMIT:
            reading.places.append((reading.nodes[-1], order, address))
        return
    if prefix == 0:  # the first leaf has the keys of all the highest orders
        for bit in _set_bits(page):
            _single(reading, geometry, bit, page_size=walk.page_size)
        return
    address, order = geometry.decode(base)
    if base >> (geometry.order_bit + 1) or address >= PHYSICAL_LIMIT:
        reading.impossible.append(
            (reading.nodes[-1], f"leaf {reading.nodes[-1]:#x} is for keys from {base:#x} on, beyond 52-bit addresses")
        )
        return
    reading.bitmaps.append(Bitmap(order, address, page))
    reading.places.append((reading.nodes[-1], order, address))


def _single(reading: MapReading, geometry: RadixGeometry, key: int, *, page_size: int) -> None:
    order = geometry.decode(key)[1] if key else 64
    if not key or (page_size << order) >= PHYSICAL_LIMIT:
        reading.impossible.append(
            (reading.nodes[-1], f"leaf {reading.nodes[-1]:#x} has blocks of impossible order {order}")
        )


def _set_bits(page: bytes) -> Iterator[int]:
    for place, byte in enumerate(page):
        for bit in range(8):
            if byte >> bit & 1:
                yield 8 * place + bit


# -- kho-v1: chunks of bitmaps ----------------------------------------------------------------------------


def read_chunks(walk: Walk, address: int) -> MapReading:
    """Walk the chain of chunks, then read the bitmaps, in both widths if the pointers allow both.

    walk:    the source.
    address: of the first chunk.

    Source: kernel/liveupdate/kexec_handover.c; docs/abi/preserved.md.
    """
    reading = MapReading("chunks", address)
    pointers: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    chunk, before = address, address
    while chunk:
        if chunk in seen:
            reading.damage.append(("loop", before, f"chunk {before:#x} leads back to {chunk:#x}"))
            break
        if not walk.is_page_address(chunk):
            reading.impossible.append((before, f"next chunk {chunk:#x} of chunk {before:#x} is not a page address"))
            break
        seen.add(chunk)
        page = _node(walk, reading, chunk, before)
        if page is None:
            break
        before, chunk = chunk, _chunk(walk, reading, chunk, page, pointers)
    reading.bitmap_size = _bitmap_size(walk, pointers)
    if reading.bitmap_size == walk.page_size and pointers:
        other = replace(reading, bitmaps=[], nodes=list(reading.nodes), damage=list(reading.damage), places=[])
        other.bitmap_size = SMALL_BITMAP
        _read_bitmaps(walk, other, pointers, SMALL_BITMAP)
        reading.other = other
    _read_bitmaps(walk, reading, pointers, reading.bitmap_size)
    return reading


def _chunk(walk: Walk, reading: MapReading, chunk: int, page: bytes, pointers: list[tuple[int, int, int]]) -> int:
    """Add the bitmap pointers of one chunk. Returns the address of the next chunk, 0 if this is not a chunk."""
    header = khoser_mem_chunk_hdr.parse(page)
    most = chunk_capacity(walk.page_size)
    if not 1 <= header.num_elms <= most or (walk.page_size << min(header.order, 64)) >= PHYSICAL_LIMIT:
        reading.impossible.append(
            (chunk, f"chunk {chunk:#x}: expected 1 to {most} bitmaps, found {header.num_elms} of order {header.order}")
        )
        return 0
    body = page[khoser_mem_chunk_hdr.size :][: header.num_elms * khoser_mem_bitmap_ptr.size]
    for start, bitmap in khoser_mem_bitmap_ptr.record.iter_unpack(body):
        span = (SMALL_BITMAP * 8 * walk.page_size) << header.order
        if start % span or start >= PHYSICAL_LIMIT or not bitmap or bitmap % SMALL_BITMAP or bitmap >= PHYSICAL_LIMIT:
            reading.impossible.append(
                (chunk, f"chunk {chunk:#x} has an impossible bitmap: at {bitmap:#x}, for memory from {start:#x} on")
            )
            return 0
        pointers.append((header.order, start, bitmap))
    return int(header.next)


def _bitmap_size(walk: Walk, pointers: list[tuple[int, int, int]]) -> int:
    """The larger possible width: 512 bytes (up to 6.17.8) or a page (since). The string is the same for both."""
    wide = walk.page_size * 8 * walk.page_size
    starts: dict[int, set[int]] = {}
    for order, start, bitmap in pointers:
        if bitmap % walk.page_size or start % (wide << order):
            return SMALL_BITMAP
        starts.setdefault(order, set()).add(start)
    return walk.page_size


def _read_bitmaps(walk: Walk, reading: MapReading, pointers: list[tuple[int, int, int]], size: int) -> None:
    seen: dict[tuple[int, int], int] = {}
    pages: set[int] = set()
    for order, start, bitmap in pointers:
        if (order, start) in seen:
            reading.damage.append(
                ("map-duplicate", bitmap, f"bitmaps {seen[order, start]:#x} and {bitmap:#x} are for the same memory")
            )
            continue
        seen[order, start] = bitmap
        if len(reading.bitmaps) >= LIMITS.map_nodes:
            reading.damage.append(
                ("map-too-large", bitmap, f"too many bitmaps: only the first {LIMITS.map_nodes} were read")
            )
            return
        try:
            bits = walk.memory.read(bitmap, size)
        except MissingMemory as error:
            reading.damage.append(("map-node-missing", bitmap, f"bitmap {bitmap:#x}: {error}"))
            continue
        reading.bitmaps.append(Bitmap(order, start, bits))
        reading.places.append((bitmap, order, start))
        page = bitmap - bitmap % walk.page_size
        if page not in pages:
            pages.add(page)
            reading.nodes.append(page)


# -- is it still a map? -----------------------------------------------------------------------------------


def judge(walk: Walk, reading: MapReading, named: Iterable[tuple[int, int, str]], *, consumed: str | None) -> Preserved:
    """The preserved map of a reading: its status, and a problem for each fault.

    walk:     the source.
    reading:  the map as walked.
    named:    (address, size in bytes, what) of memory that a real map covers.
    consumed: why the map must have been freed, in words. One kind of evidence, not enough alone. None: no such reason.

    A map is stale if it has an impossible value, or with two independent kinds of evidence that it is not a map.
    Source: docs/deciding.md.
    """
    if reading.missing is not None:
        walk.missing(reading.missing, _MAP)
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.MISSING)
    if reading.impossible:
        where, why = reading.impossible[0]
        return _stale(walk, reading, f"{why} (at {where:#x})")
    named = list(named)
    reading, found, evidence = _by_width(walk, reading, named)
    if len(evidence) + bool(consumed and evidence) >= 2:
        return _stale(walk, reading, "; ".join([*(text for _, text in evidence), *([consumed] if consumed else [])]))
    for code, address, message in reading.damage:
        walk.problem(code, address, _MAP, message)
    for address, text in evidence:
        walk.problem("map-damaged", address, _MAP, text)
    return Preserved(
        form=reading.form,
        address=reading.address,
        status=MapStatus.INTACT,
        map=found,
        nodes=tuple(reading.nodes),
        bitmap_size=reading.bitmap_size,
        bitmaps=tuple(reading.places),
    )


_Judged = tuple[MapReading, PreservedMap, list[tuple[int, str]]]


def _by_width(walk: Walk, reading: MapReading, named: list[tuple[int, int, str]]) -> _Judged:
    """(reading, its map, evidence against it), of two widths the one with less evidence against it."""
    judged = _judged(walk, reading, named)
    if reading.other is None:
        return judged
    other = _judged(walk, reading.other, named)
    if judged[2] and len(other[2]) < len(judged[2]):
        return other
    if not judged[2] and not other[2] and judged[1].entries != other[1].entries:
        text = f"assuming {walk.page_size}-byte bitmaps (6.17.9 and later); {SMALL_BITMAP}-byte bitmaps fit too"
        walk.problem("map-width", reading.address, _MAP, f"{text}, with {other[1].entries} entries")
    return judged


def _judged(walk: Walk, reading: MapReading, named: list[tuple[int, int, str]]) -> _Judged:
    found = PreservedMap(reading.bitmaps, page_size=walk.page_size, complete=reading.complete)
    return reading, found, list(_evidence(walk, reading, found, named))


def _stale(walk: Walk, reading: MapReading, why: str) -> Preserved:
    walk.problem("map-stale", reading.address, _MAP, f"stale, its pages were freed and reused: {why}")
    return Preserved(form=reading.form, address=reading.address, status=MapStatus.STALE)


def _evidence(
    walk: Walk, reading: MapReading, found: PreservedMap, named: list[tuple[int, int, str]]
) -> Iterator[tuple[int, str]]:
    """(address, text) of evidence that a reading is not a map: at most one of each independent kind."""
    if not found.entries and not any(code == "map-node-missing" for code, _, _ in reading.damage):
        yield reading.address, "it preserves nothing"
        if any(code == "loop" for code, _, _ in reading.damage):
            yield reading.address, "it leads back to itself"
    uncovered = [(address, what) for address, size, what in named if not found.covers(address, size)]
    if uncovered and found.complete:
        address, what = uncovered[0]
        more = f", nor {len(uncovered) - 1} more structures of the handover" if len(uncovered) > 1 else ""
        yield address, f"it does not cover {what} at {address:#x}{more}"
    own = next((node for node in reading.nodes if found.find(node)), None)
    if own is not None:
        yield own, f"it covers its own page {own:#x}"
    text = kernel_text(walk)
    if text is not None and found.find(text):
        yield text, f"it covers the text of the running kernel at {text:#x}"
    yield from _extent_evidence(walk, found)


def _extent_evidence(walk: Walk, found: PreservedMap) -> Iterator[tuple[int, str]]:
    extents = sorted(
        (address, address + count * (walk.page_size << order))
        for address, order, count in islice(found.extents(), _EXTENTS_COMPARED)
    )
    for (_, end), (start, _) in pairwise(extents):
        if start < end:
            yield start, f"its ranges overlap at {start:#x}"
            break
    ram = walk.memory.known_ram
    starts = [start for start, _ in ram]
    for start, end in extents if ram else ():
        first, last = ram[max(0, bisect_right(starts, start) - 1)]
        if not first <= start < last:
            yield start, f"its range {start:#x}-{end:#x} is outside the memory of the dump"
            break


def kernel_text(walk: Walk) -> int | None:
    """Physical address of the text of the running x86-64 kernel, from VMCOREINFO. None: unknown."""
    info = walk.memory.vmcoreinfo
    try:
        text, base = int(info["SYMBOL(_stext)"], 16), int(info["NUMBER(phys_base)"], 0)
    except (KeyError, ValueError):
        return None
    return text - 0xFFFFFFFF80000000 + base if text >= 0xFFFFFFFF80000000 else None
