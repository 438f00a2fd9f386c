# SPDX-License-Identifier: MIT
"""The preserved map: chunks of bitmaps (kho-v1, both widths) or the radix tree (kho-v2 and later); other page trees."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from luoser.abi.preserved import RadixGeometry, chunk_capacity, khoser_mem_bitmap_ptr, khoser_mem_chunk_hdr
from luoser.errors import UsageError
from luoser.state import Preserved, PreservedMap
from luoser.writer.image import Image

__all__ = ["bitmap_places", "map_pages", "write_map"]


@dataclass(slots=True)
class _Table:
    """An inner node. children: by index, each a table or the bitmap of a leaf."""

    children: dict[int, _Table | bytes] = field(default_factory=dict)


def write_map(image: Image, preserved: Preserved, what: str = "preserved map") -> None:
    """Write a map into its pages.

    image:     to write to.
    preserved: with a map, and with its own pages in `nodes`, in the order of a walk.
    what:      it is, in words.

    Raises UsageError if there are fewer pages than the map needs, or if the bitmaps do not cover the map.
    """
    assert preserved.map is not None
    where = f"{what} at {preserved.address:#x}"
    if preserved.form == "frames" and any(order for _, order, _ in preserved.map.extents(above=0)):
        raise UsageError(f"{where}: expected pages of order 0, as a page frame number has no order")
    needed = map_pages(preserved.map, preserved.form, bitmap_size=preserved.bitmap_size, bitmaps=preserved.bitmaps)
    if len(preserved.nodes) < needed:
        raise UsageError(f"{where}: expected at least {needed} pages, found {len(preserved.nodes)}")
    if len(preserved.nodes) > needed:
        image.lacks.append(
            f"{where}: {len(preserved.nodes) - needed} of its pages preserve nothing, and their place in the map is "
            "unknown; left out"
        )
    if not preserved.map.complete:
        image.lacks.append(f"{where}: a part of it is not in the state; left out")
    if preserved.nodes[:1] != (preserved.address,):
        raise UsageError(f"{where}: expected its address as the first of its nodes")
    if preserved.form == "chunks":
        _write_chunks(image, preserved, preserved.map)
    else:
        _write_radix(image, preserved, preserved.map, what)


_Places = Sequence[tuple[int, int, int]]
"""(address, order, start) of given bitmaps, which keep their addresses, also those without a bit."""


def map_pages(found: PreservedMap, form: str, *, bitmap_size: int | None, bitmaps: _Places = ()) -> int:
    """Number of the map's own pages.

    found:       the map.
    form:        `chunks` or `radix`.
    bitmap_size: bytes of a kho-v1 bitmap. None: a page.
    bitmaps:     given bitmaps.
    """
    page = found.page_size
    if form == "chunks":
        size = bitmap_size or page
        made = list(_bitmaps(found, size, bitmaps))
        own = len({address - address % page for address, _, _ in bitmaps}) or -(-len(made) * size // page)
        return len(list(_chunks(made, page))) + own
    return _count(_tree(found, bitmaps, _geometry(found, form)))


def bitmap_places(
    found: PreservedMap, form: str, *, bitmap_size: int | None, nodes: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """(address, order, start) of each bitmap of a map in given pages.

    found:       the map.
    form:        `chunks` or `radix`.
    bitmap_size: bytes of a kho-v1 bitmap. None: a page.
    nodes:       addresses of the pages, in the order of a walk.
    """
    if form == "chunks":
        size = bitmap_size or found.page_size
        bitmaps = list(_bitmaps(found, size, ()))
        places = _in_pages(nodes[len(list(_chunks(bitmaps, found.page_size))) :], found.page_size, size)
        yield from ((place, order, start) for place, (order, start, _) in zip(places, bitmaps, strict=False))
        return
    geometry = _geometry(found, form)
    for place, prefix, node in _radix_nodes(_tree(found, (), geometry), iter(nodes), geometry):
        if isinstance(node, bytes):
            start, order = geometry.decode(prefix << geometry.leaf_bits)
            yield place, order, start


def _in_pages(pages: Iterable[int], page_size: int, size: int) -> Iterator[int]:
    """Addresses of bitmaps of one size, adjacent in their pages."""
    for page in pages:
        yield from range(page, page + page_size, size)


def _bits(found: PreservedMap, unit_bits: int, known: _Places) -> dict[tuple[int, int], int]:
    """Bitmaps of 2^unit_bits bits as numbers, by (order, number of the bitmap, counted from address 0)."""
    made = {(order, start // (found.page_size << order + unit_bits)): 0 for _, order, start in known if order < 64}
    for address, order, count in found.extents():
        first = address // (found.page_size << order)
        while count:
            place = first & ((1 << unit_bits) - 1)
            take = min(count, (1 << unit_bits) - place)
            key = order, first >> unit_bits
            made[key] = made.get(key, 0) | ((1 << take) - 1) << place
            first, count = first + take, count - take
    return made


# -- chunks -----------------------------------------------------------------------------------------------

_Bitmap = tuple[int, int, bytes]
"""(order, physical address of bit 0, bits)."""


def _bitmaps(found: PreservedMap, size: int, known: _Places) -> Iterator[_Bitmap]:
    """The bitmaps by order, then by address, as the kernel writes them."""
    shift = (size * 8).bit_length() - 1
    for (order, number), bits in sorted(_bits(found, shift, known).items()):
        yield order, (number << shift) * (found.page_size << order), bits.to_bytes(size, "little")


def _chunks(bitmaps: list[_Bitmap], page_size: int) -> Iterator[list[_Bitmap]]:
    """The bitmaps of each chunk: as many as fit, of the same order."""
    most, chunk = chunk_capacity(page_size), list[_Bitmap]()
    for bitmap in bitmaps:
        if chunk and (len(chunk) == most or chunk[0][0] != bitmap[0]):
            yield chunk
            chunk = []
        chunk.append(bitmap)
    if chunk:
        yield chunk


def _write_chunks(image: Image, preserved: Preserved, found: PreservedMap) -> None:
    size = preserved.bitmap_size or image.page_size
    bitmaps = list(_bitmaps(found, size, preserved.bitmaps))
    chunks = list(_chunks(bitmaps, image.page_size))
    nodes, pages = preserved.nodes[: len(chunks)], preserved.nodes[len(chunks) :]
    places = list(_in_pages(pages, image.page_size, size))[: len(bitmaps)]
    if preserved.bitmaps:
        given = {(order, start): address for address, order, start in preserved.bitmaps}
        places = [given.get((order, start), 0) for order, start, _ in bitmaps]
        if not all(places):
            word = "its bitmaps do not cover all that it preserves; leave them out"
            raise UsageError(f"preserved map at {preserved.address:#x}: {word}")
    for place, (_, _, bits) in zip(places, bitmaps, strict=True):
        image.put(place, bits, "bitmap of the preserved map")
    done = 0
    for index, chunk in enumerate(chunks):
        following = nodes[index + 1] if index + 1 < len(nodes) else 0
        data = khoser_mem_chunk_hdr.build({"next": following, "order": chunk[0][0], "num_elms": len(chunk)})
        for place, (_, start, _) in zip(places[done:], chunk, strict=False):
            data += khoser_mem_bitmap_ptr.build({"phys_start": start, "bitmap": place})
        done += len(chunk)
        image.put(nodes[index], data.ljust(image.page_size, b"\0"), "chunk of the preserved map")


# -- radix tree -------------------------------------------------------------------------------------------


def _geometry(found: PreservedMap, form: str) -> RadixGeometry:
    return RadixGeometry.of(found.page_size, frames=form == "frames")


def _tree(found: PreservedMap, known: _Places, geometry: RadixGeometry) -> _Table:
    root, mask = _Table(), (1 << geometry.table_bits) - 1
    for (order, number), bits in sorted(_bits(found, geometry.leaf_bits, known).items(), key=lambda item: -item[0][0]):
        prefix = geometry.key(0, order) >> geometry.leaf_bits | number
        table = root
        for level in range(geometry.levels - 1, 0, -1):
            inner = table.children.setdefault(prefix >> geometry.table_bits * level & mask, _Table())
            assert isinstance(inner, _Table)
            table = inner
        table.children[prefix & mask] = bits.to_bytes(1 << geometry.leaf_bits - 3, "little")
    return root


def _count(node: _Table | bytes) -> int:
    return 1 + sum(map(_count, node.children.values())) if isinstance(node, _Table) else 1


def _write_radix(image: Image, preserved: Preserved, found: PreservedMap, what: str) -> None:
    table = struct.Struct(f"<{image.page_size // 8}Q")
    geometry = _geometry(found, preserved.form)
    made = list(_radix_nodes(_tree(found, preserved.bitmaps, geometry), iter(preserved.nodes), geometry))
    places = {id(node): place for place, _, node in made}
    for place, _, node in made:
        if isinstance(node, bytes):
            image.put(place, node, f"leaf of the {what}")
            continue
        entries = [0] * (image.page_size // 8)
        for index, child in node.children.items():
            entries[index] = places[id(child)]
        image.put(place, table.pack(*entries), f"node of the {what}")


def _radix_nodes(
    node: _Table | bytes, places: Iterator[int], geometry: RadixGeometry, prefix: int = 0
) -> Iterator[tuple[int, int, _Table | bytes]]:
    """(address, prefix of keys, node) of all nodes in the order of a walk: depth first, by ascending index."""
    yield next(places), prefix, node
    if isinstance(node, _Table):
        for index in sorted(node.children):
            below = prefix << geometry.table_bits | index
            yield from _radix_nodes(node.children[index], places, geometry, below)
