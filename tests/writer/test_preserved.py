# SPDX-License-Identifier: MIT
"""The preserved map in both forms: the bits a kernel sets, the pages it takes, golden chunks, maps that cannot be."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.errors import UsageError
from luoser.reader.preserved import read_chunks, read_radix
from luoser.reader.walk import Walk
from luoser.state import Extent, MapStatus, Preserved, PreservedMap
from luoser.writer.complete import complete
from luoser.writer.image import Image
from luoser.writer.preserved import bitmap_places, map_pages, write_map
from tests.golden import CATALOGUE
from tests.images import find_radix_bit

NODES = 0x7000_0000_0000


def preserved(extents: list[Extent], form: str, *, page_size: int = 4096, width: int | None = None) -> Preserved:
    found = PreservedMap.from_extents(extents, page_size=page_size)
    count = max(1, map_pages(found, form, bitmap_size=width))
    nodes = [NODES + index * page_size for index in range(count)]
    return Preserved(
        form=form,
        address=nodes[0],
        status=MapStatus.INTACT,
        map=found,
        nodes=tuple(nodes),
        bitmap_size=width,
        bitmaps=tuple(bitmap_places(found, form, bitmap_size=width, nodes=nodes)),
    )


def written(state: Preserved) -> Image:
    assert state.map is not None
    image = Image(state.map.page_size)
    write_map(image, state)
    return image


def blocks(extents: list[Extent], page_size: int) -> Iterator[tuple[int, int]]:
    for address, order, count in extents:
        yield from ((address + index * (page_size << order), order) for index in range(count))


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[list[Extent], int]:
    page = draw(st.sampled_from([4096, 16384, 65536]))
    made: list[Extent] = []
    for order in draw(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=4)):
        place = draw(st.integers(0, 1 << 20))
        for _ in range(draw(st.integers(1, 3))):
            count = draw(st.sampled_from([1, 2, 9, 40000]))
            made.append((place * (page << order), order, count))
            place += count + draw(st.integers(1, 200_000))
    return sorted(made, key=lambda extent: (extent[1], extent[0])), page


@settings(max_examples=40)
@given(disjoint(), st.sampled_from(["radix", "chunks", "chunks-512"]))
def test_a_written_map_is_read_with_its_pages(made: tuple[list[Extent], int], form: str) -> None:
    extents, page = made
    width = None if form == "radix" else 512 if form == "chunks-512" else page
    state = preserved(extents, form.split("-")[0], page_size=page, width=width)
    walk = Walk(written(state).memory(), page)
    reading = read_radix(walk, NODES) if form == "radix" else read_chunks(walk, NODES)
    if reading.bitmap_size != width:
        assert reading.other is not None  # all of them begin a page: the width is open
        reading = reading.other
    assert reading.complete and not reading.faults
    assert list(PreservedMap(reading.bitmaps, page_size=page).extents()) == extents
    assert (tuple(reading.nodes), tuple(reading.places)) == (state.nodes, state.bitmaps)


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 10)), min_size=1, max_size=5))
def test_every_block_has_the_bit_that_the_description_gives_it(places: list[tuple[int, int]]) -> None:
    extents: list[Extent] = [(place << 12 + order, order, 1) for place, order in dict.fromkeys(places)]
    memory = written(preserved(extents, "radix")).memory()
    for address, order in blocks(extents, 4096):
        byte, mask = find_radix_bit(memory, NODES, address, order)
        assert memory.read(byte, 1)[0] & mask


WORKED = [  # address, order -> indices of levels 5 to 1, bit of the leaf: the examples of the ABI description
    (0x1000, 0, (2, 0, 0, 0, 0), 1),
    (0x1F1D28000, 0, (2, 0, 0, 0, 62), 7464),
    (0x1AC600000, 1, (1, 0, 0, 0, 26), 25344),
    (0x100000000, 9, (0, 2, 0, 0, 0), 2048),
    (0x80000000, 10, (0, 1, 0, 0, 0), 512),
    (0x140000000, 18, (0, 0, 2, 0, 0), 5),
]


@pytest.mark.parametrize(("address", "order", "path", "bit"), WORKED)
def test_worked_examples_of_the_tree(address: int, order: int, path: tuple[int, ...], bit: int) -> None:
    memory = written(preserved([(address, order, 1)], "radix")).memory()
    node = NODES
    for index in path:
        table = struct.unpack("<512Q", memory.read(node, 4096))
        assert [place for place, child in enumerate(table) if child] == [index]
        node = table[index]
    leaf = int.from_bytes(memory.read(node, 4096), "little")
    assert leaf == 1 << bit


GOLDEN: list[Extent] = [(0x1AC6F4000, 0, 1), (0x1F1D28000, 0, 1)]


@pytest.mark.parametrize(
    ("name", "width", "places"),
    [
        ("kho-chunk-512.bin", 512, ((0x10A2B3200, 0, 0x1AC000000), (0x10A2B3400, 0, 0x1F1000000))),
        ("kho-chunk-page.bin", 4096, ((0x10A2B3000, 0, 0x1A8000000), (0x10A2B4000, 0, 0x1F0000000))),
    ],
)
def test_golden_chunks(name: str, width: int, places: tuple[tuple[int, int, int], ...]) -> None:
    """Bitmaps lie where a slab put them, and the chunk is that of the ABI description."""
    state = replace(preserved(GOLDEN, "chunks", width=width), bitmaps=places)
    memory = written(state).memory()
    assert memory.read(NODES, 4096) == CATALOGUE[name]
    first = int.from_bytes(memory.read(places[0][0], width), "little")
    assert first == 1 << (1780 if width == 512 else 18164)


def test_a_chunk_for_each_order_and_for_each_255_bitmaps() -> None:
    span = 4096 * 32768
    extents: list[Extent] = [(index * span, 0, 1) for index in range(256)] + [(1 << 40, 3, 1)]
    memory = written(preserved(extents, "chunks", width=4096)).memory()
    heads = []
    chunk = NODES
    while chunk:
        following, order, count = struct.unpack("<QII", memory.read(chunk, 16))
        heads.append((order, count))
        chunk = following
    assert heads == [(0, 255), (0, 1), (3, 1)]


@pytest.mark.parametrize(("form", "width"), [("radix", None), ("chunks", 4096), ("chunks", 512)])
def test_bitmaps_without_a_bit_come_back(form: str, width: int | None) -> None:
    """Kernels clear bits of what is preserved no more and keep the bitmap."""
    whole = preserved([(0, 0, 1), (1 << 35, 0, 1), (1 << 40, 5, 1)], form, width=width)
    state = replace(whole, map=PreservedMap.from_extents([(1 << 35, 0, 1)], page_size=4096))
    image = written(state)
    assert image.lacks == []
    reading = (read_radix if form == "radix" else read_chunks)(Walk(image.memory(), 4096), NODES)
    assert tuple(reading.places) == whole.bitmaps and tuple(reading.nodes) == whole.nodes
    assert reading.complete


def test_pages_that_nothing_is_known_of_are_told() -> None:
    state = preserved([(0, 0, 1)], "radix")
    image = written(replace(state, nodes=(*state.nodes, 0x9000)))
    assert len(image.lacks) == 1 and "1 of its pages preserve nothing" in image.lacks[0]


def test_a_map_that_was_not_read_to_its_end_is_told() -> None:
    state = preserved([(0, 0, 1)], "radix")
    part = PreservedMap.from_extents([(0, 0, 1)], page_size=4096, complete=False)
    assert "a part of it is not in the state" in written(replace(state, map=part)).lacks[0]


def test_maps_that_cannot_be_written_are_refused() -> None:
    state = preserved([(0, 0, 1), (1 << 40, 0, 1)], "radix")
    with pytest.raises(UsageError, match="expected at least 8 pages, found 7"):
        written(replace(state, nodes=state.nodes[:-1]))
    with pytest.raises(UsageError, match="expected its address as the first of its nodes"):
        written(replace(state, address=0x5000))
    chunks = preserved([(0, 0, 1), (1 << 40, 0, 1)], "chunks", width=4096)
    with pytest.raises(UsageError, match="its bitmaps do not cover all that it preserves"):
        written(replace(chunks, bitmaps=chunks.bitmaps[:1]))


def test_a_terabyte_is_written_in_no_time() -> None:
    image = written(preserved([(0, 0, 1 << 28)], "radix"))
    assert len(image.pages) > 8192


def test_too_few_pages_for_the_map_are_refused() -> None:
    with pytest.raises(UsageError, match=r"preserved\.nodes: expected 6 pages for this map, found 2"):
        complete({"handovers": [{"preserved": {"nodes": ["0x5000000", "0x5001000"]}}]})
