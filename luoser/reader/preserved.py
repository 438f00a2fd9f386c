# SPDX-License-Identifier: MIT
"""A walk of the preserved map, in both forms, and of other trees of pages, as far as their nodes are possible."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from luoser.abi.preserved import (
    KHO_ARRAY_MAGIC,
    MAX_PAGE_ORDER,
    SMALL_BITMAP,
    RadixGeometry,
    chunk_capacity,
    khoser_mem_bitmap_ptr,
    khoser_mem_chunk_hdr,
)
from luoser.bits import is_zero
from luoser.errors import MissingMemory, PageState
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.walk import EM_X86_64, Walk
from luoser.state import Bitmap
from luoser.text import bytes_text

__all__ = ["Broken", "MapReading", "read_chunks", "read_page_tree", "read_radix"]

_LOW_MEMORY = 1 << 20
"""Kernels for x86-64 reserve all memory below this."""
_LINE = struct.Struct("<64Q")
_NONE = bytes(_LINE.size)
_SHOWN = 16
"""Bytes of a broken node that a problem shows."""
_DECIDES = 4
"""Bitmaps that all begin a page: bitmaps of 512 bytes do that once in 8^4 maps."""
_CHAIN = 64
"""At most so many chunks on the way to a chunk are considered, and nodes below one that may be meant."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An impossible node of the map.

    address: of its page.
    text:    what is wrong, with the bytes.
    """

    address: int
    text: str


@dataclass(slots=True)
class MapReading:
    """A map as walked, not judged yet. All addresses are physical.

    form:        `chunks` or `radix`. Of another tree of pages: `orders`, `frames`, or `open` if no key tells.
    address:     of the first page.
    bitmaps:     that were read, without leaves of a radix tree that have no bit.
    nodes:       addresses of the map's own pages.
    bitmap_size: bytes of a kho-v1 bitmap. None: a radix tree.
    missing:     why the first page could not be read. None: it was read.
    unread:      name of a form that luoser does not decode. Empty: a known form.
    broken:      nodes that no kernel writes.
    is_no_map:   whether the first page is not a node at all.
    is_nowhere:  whether the root's pointer to it is not the address of a page. No kernel frees the root's page.
    absent:      (address, error, text) of nodes that are not in the source.
    off:         (address, address one bit off, text) of absent nodes for which there is a node one bit off.
    faults:      (problem code, address, text) of faults after which the rest is still readable.
    places:      (address, order, start) of each bitmap, also of those without a bit.
    entries:     (address of a node, first byte, first byte after) of what in it leads further, and of its head.
    parents:     address of the node with the pointer to a node, by address of that node. Without the first page.
    holders:     addresses of the page of a bitmap, and of its chunk if any, by (order, start) of the bitmap.
    other:       the same map with bitmaps of 512 bytes. None: the pointers exclude that width.
    """

    form: str
    address: int
    bitmaps: list[Bitmap] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    bitmap_size: int | None = None
    missing: MissingMemory | None = None
    unread: str = ""
    broken: list[Broken] = field(default_factory=list)
    is_no_map: bool = False
    is_nowhere: bool = False
    absent: list[tuple[int, MissingMemory, str]] = field(default_factory=list)
    off: list[tuple[int, int, str]] = field(default_factory=list)
    faults: list[tuple[str, int, str]] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    entries: list[tuple[int, int, int]] = field(default_factory=list)
    parents: dict[int, int] = field(default_factory=dict)
    holders: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    other: MapReading | None = None

    @property
    def complete(self) -> bool:
        """Whether every part of the map was read."""
        return not (self.broken or self.absent or any(code == "map-too-large" for code, _, _ in self.faults))

    def leading_to(self, *places: int) -> frozenset[int]:
        """Addresses of these nodes, and of all nodes on the way to them, without the first page.

        places: addresses of nodes.
        """
        found = set(places)
        for place in places:
            for _ in range(_CHAIN):
                place = self.parents.get(place, self.address)
                if place == self.address:
                    break
                found.add(place)
        return frozenset(found)

    def leading_to_bitmap(self, bitmap: tuple[int, int]) -> frozenset[int]:
        """The same for the nodes of a bitmap. bitmap: its (order, start)."""
        return self.leading_to(*self.holders.get(bitmap, ()))


# -- kho-v2 and later: the radix tree ---------------------------------------------------------------------


def read_radix(walk: Walk, address: int) -> MapReading:
    """The map in the form of a radix tree, walked depth first by ascending index.

    walk:    the source.
    address: of the root page.

    Source: kernel/liveupdate/kho_radix_tree.c; docs/abi/preserved.md.
    """
    reading, geometry = MapReading("radix", address), RadixGeometry.of(walk.page_size)
    for leaf, prefix, page in _leaves(walk, reading, geometry):
        _leaf(walk, reading, geometry, leaf, prefix, page)
    return reading


def read_page_tree(walk: Walk, address: int) -> MapReading:
    """A tree of pages in the format of KHO's, whose keys are of KHO's form or page frame numbers.

    The form is that under which all leaves are possible: they cannot be both. A tree without leaves is in form `open`.

    walk:    the source.
    address: of the root page.

    Source: docs/abi/others.md.
    """
    reading = MapReading("open", address)
    found = _leaves(walk, reading, RadixGeometry.of(walk.page_size))
    leaves = [(leaf, prefix, b"" if is_zero(page) else page) for leaf, prefix, page in found]  # none of empty ones
    forms = [RadixGeometry.of(walk.page_size, frames=frames) for frames in (False, True)]
    for geometry in (one for one in forms if leaves and all(one.can_lead_to(prefix) for _, prefix, _ in leaves)):
        reading.form = "frames" if geometry.frames else "orders"
        for leaf, prefix, page in leaves:
            _leaf(walk, reading, geometry, leaf, prefix, page)
    if leaves and reading.form == "open":
        shown = ", ".join(f"{leaf:#x} from key {prefix << forms[0].leaf_bits:#x} on" for leaf, prefix, _ in leaves[:3])
        text = f"keys that are neither page frame numbers nor have an order up to {MAX_PAGE_ORDER}"
        reading.unread = f"{len(leaves)} leaves for {text}: {shown}{', ...' if len(leaves) > 3 else ''}"
    return reading


def _leaves(walk: Walk, reading: MapReading, geometry: RadixGeometry) -> Iterator[tuple[int, int, bytes]]:
    """(address, prefix of keys, bits) of each leaf of a tree. Its nodes are noted on the way."""
    address = reading.address
    seen = {address}
    stack = [(address, geometry.levels, 0)]
    while stack:
        node, level, prefix = stack.pop()
        with walk.memory.exactly() if level == 0 else nullcontext():
            page = _node(walk, reading, node, partial(_is_subtree, walk, level))
        if page is None:
            continue
        if level == 0:
            yield node, prefix, page
            continue
        used = _used(page)
        if node != address and not used:
            reading.broken.append(Broken(node, f"node {node:#x} has no entry; kernels add a node only for an entry"))
        for index, child in reversed(_children(walk, reading, node, page, used, seen)):
            reading.parents[child] = node
            stack.append((child, level - 1, prefix << geometry.table_bits | index))


def _used(page: bytes) -> list[tuple[int, int]]:
    """(index, entry) of the entries of a node that are not zero. Most are: they are skipped many at once."""
    used = list[tuple[int, int]]()
    for start in range(0, len(page), _LINE.size):
        line = page[start : start + _LINE.size]
        if line != _NONE:
            used += [(start // 8 + place, entry) for place, entry in enumerate(_LINE.unpack(line)) if entry]
    return used


def _children(
    walk: Walk, reading: MapReading, node: int, page: bytes, used: list[tuple[int, int]], seen: set[int]
) -> list[tuple[int, int]]:
    """(index, address) of the children of an inner node. Empty: the page is not a node at all."""
    wrong = [(index, child) for index, child in used if not walk.is_page_address(child)]
    if len(wrong) > 1 and 2 * len(wrong) > len(used):
        text = f"page {node:#x} is not a node: {len(wrong)} of its {len(used)} entries are not page addresses"
        reading.broken.append(Broken(node, f"{text}; it starts with {bytes_text(page[:_SHOWN])}"))
        reading.is_no_map = reading.is_no_map or node == reading.address
        return []
    reading.entries += _sound_runs(node, len(page), wrong) if walk.keeps else ()
    for index, child in wrong:
        text = f"entry {index} of node {node:#x} at {node + 8 * index:#x} is {child:#x}, which is not a page address"
        reading.broken.append(Broken(node, f"{text}; expected a multiple of {walk.page_size:#x} below 2^52"))
    sound = []
    for index, child in used:
        if child in seen:
            text = f"entry {index} of node {node:#x} leads to {child:#x}, which is already in the tree"
            reading.broken.append(Broken(node, text))
        elif not walk.is_page_address(child):
            continue  # as above
        elif walk.memory.machine == EM_X86_64 and walk.page_size == 4096 and child < _LOW_MEMORY:
            text = (
                f"entry {index} of node {node:#x} leads to {child:#x}; x86-64 kernels keep no page of their own there"
            )
            reading.broken.append(Broken(node, text))
        else:
            seen.add(child)
            sound.append((index, child))
    return sound


_FLIPPED = 2
"""A wrong entry of so many flipped bits is one of the kernel's; another one may be of whoever wrote to the page."""


def _sound_runs(node: int, size: int, wrong: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(address of the node, first byte, first byte after) of the parts of a node between the wrong entries.

    wrong: (index, value) of entries that are not addresses of pages.
    """
    start = 0
    for index, value in wrong:
        if (value & (0xFFF << 52 | 0xFFF)).bit_count() > _FLIPPED:
            yield node, start, 8 * index
            start = 8 * index + 8
    yield node, start, size


def _node(walk: Walk, reading: MapReading, node: int, is_one: Callable[[int], bool]) -> bytes | None:
    """A page of the map. None: not in the source; the map is missing if it is its first page, else incomplete.

    is_one: whether the page at an address can be the one that is meant.
    """
    if (limit := _met(walk, len(reading.nodes))) is not None:
        if not any(code == "map-too-large" for code, _, _ in reading.faults):
            text = f"too many pages in the map: only the first {len(reading.nodes)} were read"
            reading.faults.append(("map-too-large", node, f"{text}; {how_to_raise(limit)}"))
        return None
    try:
        page = walk.memory.read(node, walk.page_size)
    except MissingMemory as error:
        if node == reading.address:
            reading.missing = error
            if error.state is PageState.ABSENT and (near := _near(walk, node, is_one)):
                reading.off.append((node, near, f"page {node:#x} is absent, but {near:#x}, one bit off, is a node"))
        else:
            parent = reading.parents[node]
            if error.state is PageState.ABSENT and (near := _near(walk, node, is_one)):
                text = f"node {node:#x} in {parent:#x} is absent, but {near:#x}, one bit off, is a node"
                reading.off.append((node, near, text))
            reading.absent.append((node, error, f"node {node:#x} in {parent:#x}: {error}"))
        return None
    reading.nodes.append(node)
    return page


def _met(walk: Walk, count: int) -> str | None:
    """Name of the limit that one more page of a map would exceed. None: none. count: of the pages of this map."""
    if count >= LIMITS.map_nodes:
        return "map_nodes"
    return None if walk.take_map_page() else "map_pages"


def _near(walk: Walk, node: int, is_one: Callable[[int], bool]) -> int | None:
    """A page whose address is one bit off, and that can be the one that is meant. None: none."""
    for bit in range(walk.page_size.bit_length() - 1, PHYSICAL_LIMIT.bit_length() - 1):
        near = node ^ 1 << bit
        try:
            if near and is_one(near):
                return near
        except MissingMemory:
            continue
    return None


def _is_subtree(walk: Walk, level: int, node: int) -> bool:
    """Whether a page and all below it have the shape of nodes from a level of the tree down. Nodes of a lower level do
    not: theirs would be bitmaps where nodes are expected. A bitmap alone has no shape.

    Raises MissingMemory if one is not in the source.
    """
    if not level:
        return False
    left = [(node, level)]
    for _ in range(_CHAIN):
        if not left:
            break
        place, height = left.pop()
        page = walk.memory.read(place, walk.page_size)
        used = [entry for entry in struct.unpack(f"<{walk.page_size // 8}Q", page) if entry]
        if not used or (height and not all(map(walk.is_page_address, used))):
            return False
        left += [(entry, height - 1) for entry in used if height]
    return True


def _is_chunk(walk: Walk, address: int) -> bool:
    """Whether a page begins as a chunk does. Raises MissingMemory if it is not in the source."""
    header = khoser_mem_chunk_hdr.parse(walk.memory.read(address, walk.page_size))
    is_next = header.next == 0 or walk.is_page_address(header.next)
    return (
        is_next
        and 1 <= header.num_elms <= chunk_capacity(walk.page_size)
        and (walk.page_size << min(header.order, 64)) < PHYSICAL_LIMIT
    )


def _leaf(walk: Walk, reading: MapReading, geometry: RadixGeometry, leaf: int, prefix: int, page: bytes) -> None:
    base = prefix << geometry.leaf_bits
    if prefix == 0 and not geometry.frames:  # the first leaf has the keys of all the highest orders
        for bit in _set_bits(page):
            _single(reading, geometry, leaf, bit, page_size=walk.page_size)
        return
    address, order = geometry.decode(base)
    if base >> (geometry.order_bit + 1) or address >= PHYSICAL_LIMIT:
        text = f"leaf {leaf:#x} is for keys from {base:#x} on, beyond 52-bit addresses; expected keys below "
        reading.broken.append(Broken(leaf, f"{text}{1 << (geometry.order_bit + 1):#x}"))
        return
    reading.places.append((leaf, order, address))
    if not is_zero(page):
        reading.bitmaps.append(Bitmap(order, address, page))
        reading.holders[order, address] = (leaf,)


def _single(reading: MapReading, geometry: RadixGeometry, leaf: int, key: int, *, page_size: int) -> None:
    order = geometry.decode(key)[1] if key else 64
    if not key or (page_size << order) >= PHYSICAL_LIMIT:
        text = f"bit {key} of leaf {leaf:#x} is for a block of order {order}, beyond 52-bit addresses"
        reading.broken.append(Broken(leaf, text))


def _set_bits(page: bytes) -> Iterator[int]:
    for place, byte in enumerate(page):
        for bit in range(8):
            if byte >> bit & 1:
                yield 8 * place + bit


# -- kho-v1: chunks of bitmaps ----------------------------------------------------------------------------


def read_chunks(walk: Walk, address: int) -> MapReading:
    """The map in the form of a chain of chunks, with its bitmaps.

    walk:    the source.
    address: of the first chunk.

    Source: kernel/kexec_handover.c of 6.16 to 7.0; docs/abi/preserved.md.
    """
    reading = MapReading("chunks", address)
    pointers: list[_Pointer] = []
    seen: set[int] = set()
    chunk, before = address, address
    while chunk:
        if chunk in seen:
            text = f"chunk {before:#x} leads back to {chunk:#x}"
            reading.broken.append(Broken(before, text))
            break
        if not walk.is_page_address(chunk):
            text = f"chunk {before:#x} leads to {chunk:#x}, which is not a page address"
            reading.broken.append(Broken(before, text))
            break
        seen.add(chunk)
        if chunk != address:
            reading.parents[chunk] = before
        page = _node(walk, reading, chunk, partial(_is_chunk, walk))
        if page is None:
            break
        if chunk == address and page.startswith(KHO_ARRAY_MAGIC):
            reading.unread = "kho_array, of an RFC of September 2025"
            return reading
        before, chunk = chunk, _chunk(walk, reading, chunk, page, pointers)
    every, at_first = pointers, list(reading.broken)
    reading.bitmap_size, pointers = _bitmap_size(walk, reading, pointers)
    if reading.bitmap_size == walk.page_size and 0 < len(pointers) < _DECIDES:
        other = replace(
            reading, bitmaps=[], nodes=list(reading.nodes), absent=list(reading.absent), faults=list(reading.faults),
            broken=at_first, places=[], parents=dict(reading.parents), holders={},
        )  # fmt: skip
        other.bitmap_size = SMALL_BITMAP
        _read_bitmaps(walk, other, every, SMALL_BITMAP)
        reading.other = other
    _read_bitmaps(walk, reading, pointers, reading.bitmap_size)
    return reading


_Pointer = tuple[int, int, int, int]
"""(order, physical address of bit 0, address of the bitmap, address of the chunk)."""


def _chunk(walk: Walk, reading: MapReading, chunk: int, page: bytes, pointers: list[_Pointer]) -> int:
    """Add the possible bitmap pointers of one chunk. Returns the address of the next chunk, 0 if there is none."""
    header = khoser_mem_chunk_hdr.parse(page)
    most = chunk_capacity(walk.page_size)
    is_count, is_order = 1 <= header.num_elms <= most, (walk.page_size << min(header.order, 64)) < PHYSICAL_LIMIT
    is_next = header.next == 0 or walk.is_page_address(header.next)
    if not is_count or not is_order:
        text = f"chunk {chunk:#x}: expected 1 to {most} bitmaps, found {header.num_elms} of order {header.order}"
        reading.broken.append(Broken(chunk, f"{text}; it starts with {bytes_text(page[:_SHOWN])}"))
        if not is_next or not (is_count or is_order):
            reading.is_no_map = reading.is_no_map or chunk == reading.address
            return 0
        reading.entries.append((chunk, 0, 8))
        return int(header.next)
    reading.entries.append((chunk, 0, khoser_mem_chunk_hdr.size))
    used = khoser_mem_chunk_hdr.size + header.num_elms * khoser_mem_bitmap_ptr.size
    body, rest = page[khoser_mem_chunk_hdr.size : used], page[used:]
    if not is_zero(rest):
        text = f"chunk {chunk:#x}: expected zeros after its {header.num_elms} bitmaps"
        reading.broken.append(Broken(chunk, text))
    for index, (start, bitmap) in enumerate(khoser_mem_bitmap_ptr.record.iter_unpack(body)):
        span = (SMALL_BITMAP * 8 * walk.page_size) << header.order
        if start % span or start >= PHYSICAL_LIMIT or not bitmap or bitmap % SMALL_BITMAP or bitmap >= PHYSICAL_LIMIT:
            text = (
                f"entry {index} of chunk {chunk:#x} is impossible: bitmap at {bitmap:#x} for memory from {start:#x} on"
            )
            reading.broken.append(Broken(chunk, text))
            continue
        pointers.append((header.order, start, bitmap, chunk))
        if walk.keeps:
            place = khoser_mem_chunk_hdr.size + index * khoser_mem_bitmap_ptr.size
            reading.entries.append((chunk, place, place + khoser_mem_bitmap_ptr.size))
    return int(header.next)


def _bitmap_size(walk: Walk, reading: MapReading, pointers: list[_Pointer]) -> tuple[int, list[_Pointer]]:
    """(bytes of a bitmap, the possible pointers). 512 up to 6.17.8, a page since; the string is the same for both.

    If at least half of the pointers do not fit pages, the bitmaps have 512 bytes; else these pointers are broken.
    """
    wide = walk.page_size * 8 * walk.page_size
    odd = [pointer for pointer in pointers if pointer[2] % walk.page_size or pointer[1] % (wide << pointer[0])]
    if 2 * len(odd) >= len(pointers) and odd:
        return SMALL_BITMAP, pointers
    for order, start, bitmap, chunk in odd:
        text = f"chunk {chunk:#x} has a bitmap at {bitmap:#x} for blocks of order {order} from {start:#x} on"
        reading.broken.append(Broken(chunk, f"{text}; expected pages, for {wide << order:#x} bytes each"))
    return walk.page_size, [pointer for pointer in pointers if pointer not in odd]


def _read_bitmaps(walk: Walk, reading: MapReading, pointers: list[_Pointer], size: int) -> None:
    seen: dict[tuple[int, int], int] = {}
    pages: set[int] = set()
    for order, start, bitmap, chunk in pointers:
        if (order, start) in seen:
            text = f"bitmaps {seen[order, start]:#x} and {bitmap:#x} are for the same memory, from {start:#x} on"
            reading.broken.append(Broken(chunk, text))
            continue
        seen[order, start] = bitmap
        if (limit := _met(walk, len(reading.bitmaps))) is not None:
            text = f"too many bitmaps: only the first {len(reading.bitmaps)} were read"
            reading.faults.append(("map-too-large", bitmap, f"{text}; {how_to_raise(limit)}"))
            return
        try:
            with walk.memory.exactly():
                bits = walk.memory.read(bitmap, size)
        except MissingMemory as error:
            reading.absent.append((bitmap, error, f"bitmap {bitmap:#x} in {chunk:#x}: {error}"))
            continue
        reading.bitmaps.append(Bitmap(order, start, bits))
        reading.places.append((bitmap, order, start))
        page = bitmap - bitmap % walk.page_size
        reading.holders[order, start] = (page, chunk)
        if page not in pages:
            pages.add(page)
            reading.nodes.append(page)
            reading.parents.setdefault(page, chunk)
