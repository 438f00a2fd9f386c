# SPDX-License-Identifier: MIT
"""The preserved map against loops over single bits."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.bits import bit_runs, is_zero, next_one, next_zero, used_size
from luoser.state import Bitmap, Block, Extent, PreservedMap
from tests import real
from tests.work import held

PAGE = 4096
bitmaps = st.one_of(
    st.binary(max_size=24),
    st.lists(st.sampled_from([b"\0", b"\xff", b"\x01", b"\x80", b"\x7f"]), max_size=24).map(b"".join),
    st.tuples(st.integers(0, 64), st.integers(0, 64)).map(lambda run: ((1 << run[1]) - 1 << run[0]).to_bytes(17)),
)


def naive_runs(bits: bytes) -> list[tuple[int, int]]:
    ones = [bit for bit in range(8 * len(bits)) if bits[bit // 8] >> bit % 8 & 1]
    groups = groupby(enumerate(ones), key=lambda pair: pair[1] - pair[0])
    return [(run[0][1], len(run)) for _, group in groups if (run := list(group))]


@given(bitmaps)
def test_bit_runs(bits: bytes) -> None:
    assert list(bit_runs(bits)) == naive_runs(bits)


def test_bit_runs_of_whole_pages() -> None:
    assert list(bit_runs(bytes(4096))) == []
    assert list(bit_runs(b"\xff" * 4096)) == [(0, 32768)]
    assert list(bit_runs(b"\x55" * 4096)) == [(bit, 1) for bit in range(0, 32768, 2)]
    assert list(bit_runs(b"\0" * 933 + b"\1" + bytes(3162))) == [(7464, 1)]


@settings(max_examples=30)
@given(st.sets(st.integers(0, 8 * 4096 - 1), max_size=20))
def test_bit_runs_of_a_page_with_few_bits(ones: set[int]) -> None:
    bits = sum(1 << bit for bit in ones | {bit + 1 for bit in ones if bit % 3 == 0}).to_bytes(4097, "little")
    assert list(bit_runs(bits)) == naive_runs(bits)
    assert is_zero(bits) == (not ones)
    assert used_size(bits) == len(bits.rstrip(b"\0"))
    assert used_size(bits[: max(ones, default=0) // 8]) == len(bits[: max(ones, default=0) // 8].rstrip(b"\0"))


@st.composite
def disjoint_extents(draw: st.DrawFn) -> list[Extent]:
    """Extents that neither overlap nor touch within an order."""
    made: list[Extent] = []
    for order in draw(st.lists(st.integers(0, 10), unique=True, max_size=4)):
        unit = PAGE << order
        place = draw(st.integers(0, 70000))
        for _ in range(draw(st.integers(0, 4))):
            count = draw(st.one_of(st.integers(1, 9), st.sampled_from([32768, 40000])))
            made.append((place * unit, order, count))
            place += count + draw(st.integers(1, 40000))
    return made


@settings(max_examples=30)
@given(disjoint_extents())
def test_extents_come_back_as_they_went_in(extents: list[Extent]) -> None:
    found = PreservedMap.from_extents(extents, page_size=PAGE)
    assert list(found.extents()) == sorted(extents, key=lambda extent: (extent[1], extent[0]))
    assert found.entries == sum(count for _, _, count in extents)
    assert found.pages == sum(count << order for _, order, count in extents)


@settings(max_examples=30)
@given(disjoint_extents())
def test_find_knows_first_last_and_neighbours(extents: list[Extent]) -> None:
    order = extents[0][1] if extents else 0
    mine = [extent for extent in extents if extent[1] == order]
    found = PreservedMap.from_extents(mine, page_size=PAGE)
    unit = PAGE << order
    for address, _, count in mine:
        last = address + (count - 1) * unit
        assert found.find(address) == found.find(address + unit - 1) == Block(address, order)
        assert found.find(last + unit - 1) == Block(last, order)
        assert found.find(last + unit) is None
        assert address == 0 or found.find(address - 1) is None
        assert found.covers(address, count * unit)
        assert found.covers(address + 1, count * unit - 1)
        assert not found.covers(address, count * unit + 1)
        assert found.covers(last, 0)


def test_a_range_over_blocks_of_several_orders_is_covered() -> None:
    found = PreservedMap.from_extents([(0x200000, 9, 1), (0x400000, 0, 1), (0x1FF000, 0, 1)], page_size=PAGE)
    assert found.find(0x3FFFFF) == Block(0x200000, 9)
    assert found.covers(0x1FF000, 0x202000)
    assert not found.covers(0x1FF000, 0x202001)
    assert not found.covers(0x1FE000, 0x2000)
    assert list(found.extents()) == [(0x1FF000, 0, 1), (0x400000, 0, 1), (0x200000, 9, 1)]


@pytest.mark.parametrize("size", [512, 4096])
def test_runs_join_over_the_border_of_bitmaps(size: int) -> None:
    """Both bitmap sizes of kho-v1: neighbours make one extent, a hole parts them."""
    span = size * 8 * PAGE
    full = b"\xff" * size
    maps = [Bitmap(0, 5 * span, full), Bitmap(0, 4 * span, full), Bitmap(0, 7 * span, full), Bitmap(1, 0, full)]
    found = PreservedMap(maps, page_size=PAGE)
    assert list(found.extents()) == [(4 * span, 0, 16 * size), (7 * span, 0, 8 * size), (0, 1, 8 * size)]
    assert found.find(6 * span - 1) == Block(6 * span - PAGE, 0)
    assert found.find(6 * span) is None


def test_a_bitmap_of_zeros_is_no_entry() -> None:
    found = PreservedMap([Bitmap(0, 0, bytes(4096))], page_size=PAGE)
    assert (found.entries, found.pages, list(found.extents()), found.find(0)) == (0, 0, [], None)
    assert list(PreservedMap([], page_size=PAGE).extents()) == []


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_other_page_sizes(page_size: int) -> None:
    extents = [(page_size * 3, 0, 2), (page_size << 4, 2, 1)]
    found = PreservedMap.from_extents(extents, page_size=page_size)
    assert list(found.extents()) == extents
    assert found.find(page_size * 4 + 1) == Block(page_size * 4, 0)


@pytest.mark.parametrize("name", [name for name in real.DUMPS if not name.endswith("post")])
def test_maps_of_real_dumps_come_back_from_their_extents(name: str) -> None:
    maps = [handover.preserved.map for handover in real.read(name).handovers if handover.preserved.map is not None]
    assert maps
    for found in maps:
        extents = list(found.extents())
        again = PreservedMap.from_extents(extents, page_size=found.page_size)
        assert (list(again.extents()), again.entries, again.pages) == (extents, found.entries, found.pages)
        assert all(again.find(address) == Block(address, order) for address, order, _ in extents)
        assert all(found.covers(address, count * found.page_size << order) for address, order, count in extents)


@given(bitmaps, st.integers(0, 200))
def test_next_one_and_next_zero(bits: bytes, start: int) -> None:
    count = 8 * len(bits)
    values = [bits[bit // 8] >> bit % 8 & 1 for bit in range(count)]
    if start < count:
        assert next_one(bits, start) == next((bit for bit in range(start, count) if values[bit]), count)
        assert next_zero(bits, start) == next((bit for bit in range(start, count) if not values[bit]), count)


@st.composite
def small_maps(draw: st.DrawFn) -> PreservedMap:
    """Bitmaps of 16 bits for three orders in the first 128 pages, overlapping as it comes."""
    made = []
    for order in draw(st.lists(st.integers(0, 2), unique=True, max_size=3)):
        span = 16 * PAGE << order
        for number in draw(st.lists(st.integers(0, 127 * PAGE // span), unique=True, max_size=4)):
            made.append(Bitmap(order, number * span, draw(st.binary(min_size=2, max_size=2))))
    return PreservedMap(made, page_size=PAGE)


def blocks(found: PreservedMap) -> list[Block]:
    return [
        Block(start + number * (PAGE << order), order)
        for start, order, count in found.extents()
        for number in range(count)
    ]


def pages(block: Block) -> set[int]:
    return set(range(block.address // PAGE, (block.address // PAGE) + (1 << block.order)))


@given(small_maps(), st.integers(0, 140), st.integers(1, 60))
def test_gaps_and_blocks_of_a_range(found: PreservedMap, first: int, count: int) -> None:
    start, end, wanted = first * PAGE, (first + count) * PAGE, set(range(first, first + count))
    have = {page for block in blocks(found) for page in pages(block)}
    assert found.gap(start, end) == min((page * PAGE for page in wanted - have), default=None)
    assert found.covers(start, count * PAGE) == (wanted <= have)
    meets = [block for block in blocks(found) if pages(block) & wanted]
    least = min(meets, key=lambda block: (block.order, block.address), default=None)
    assert found.first_within(start, end) == least
    heads = {block.order for block in blocks(found) if block.address == start}
    assert found.head(start) == min(heads, default=None)


@given(small_maps(), st.lists(st.integers(0, 140), max_size=8), st.integers(0, 140))
def test_heads_are_those_of_each_address(found: PreservedMap, some: list[int], first: int) -> None:
    places = [*range(first, first + 40), *some, *range(0, 128, 2), *range(0, 128, 4)]
    addresses = [PAGE * place for place in places] + [PAGE * place + 8 for place in some]
    assert list(found.heads(addresses)) == [found.head(address) for address in addresses]


def test_heads_that_follow_each_other_need_no_look_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found = PreservedMap.from_extents([(1 << 30, 0, 100_000), (1 << 40, 9, 3000)], page_size=PAGE)
    addresses = [*range(1 << 30, (1 << 30) + 100_000 * PAGE, PAGE), *range(1 << 40, (1 << 40) + (3000 << 21), 2 << 20)]
    looks, look = [], PreservedMap.head
    monkeypatch.setattr(PreservedMap, "head", lambda self, address: looks.append(address) or look(self, address))
    assert list(found.heads(addresses)) == [0] * 100_000 + [9] * 3000
    assert len(looks) < 16


@given(small_maps())
def test_overlap(found: PreservedMap) -> None:
    ours = blocks(found)
    overlaps = any(pages(one) & pages(other) for one in ours for other in ours if one.order < other.order)
    both = found.overlap()
    assert (both is not None) == overlaps
    if both is not None:
        assert both[0] in ours and both[1] in ours and both[0].order < both[1].order
        assert pages(both[0]) & pages(both[1])


def test_a_gap_in_a_large_map_is_found_without_a_step_for_each_page() -> None:
    whole = PreservedMap((Bitmap(0, number << 27, b"\xff" * 4096) for number in range(8192)), page_size=PAGE)
    assert whole.gap(0, 1 << 40) is None
    assert whole.gap(0, 1 << 60) == 1 << 40
    assert whole.first_within(1 << 40, 1 << 60) is None
    assert whole.overlap() is None


def test_extent_of_many_blocks_is_small() -> None:
    """2^32 pages in three numbers: all its bitmaps but two are the same bytes."""
    with held(96 << 20):
        found = PreservedMap.from_extents([(4096, 0, 1 << 32)], page_size=4096)
    assert (found.entries, list(found.extents())) == (1 << 32, [(4096, 0, 1 << 32)])
    assert len({id(bitmap.bits) for bitmap in found.bitmaps}) == 3
