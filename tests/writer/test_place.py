# SPDX-License-Identifier: MIT
"""Free pages and what is preserved: aligned, in nobody's way, as few blocks as a kernel lists."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import UsageError
from luoser.writer.place import Placer, blocks_of, order_of

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "order"),
    [(0, 0), (1, 0), (4088, 0), (4096, 0), (4097, 1), (8192, 1), (8193, 2), (65536, 4), (65537, 5), (MIB, 8)],
)
def test_get_order_with_4_kib_pages(size: int, order: int) -> None:
    assert order_of(size, 4096) == order


@given(st.integers(1, 1 << 40), st.sampled_from([4096, 16384, 65536]))
def test_get_order_is_the_smallest_block_that_holds_the_bytes(size: int, page: int) -> None:
    order = order_of(size, page)
    assert page << order >= size
    assert order == 0 or page << order - 1 < size


@given(st.integers(0, 1 << 20), st.integers(1, 5000))
def test_blocks_are_aligned_and_as_large_as_they_get(first: int, pages: int) -> None:
    place = first
    for address, order in blocks_of(first * 4096, pages * 4096, 4096):
        assert address == place * 4096 and place % (1 << order) == 0
        bigger = 1 << order + 1
        assert place % bigger or place + bigger > first + pages
        place += 1 << order
    assert place == first + pages


def test_parts_of_pages_are_whole_pages() -> None:
    assert list(blocks_of(0x1800, 0x1000, 4096)) == [(0x1000, 0), (0x2000, 0)]
    assert list(blocks_of(0, 0x3000, 4096)) == [(0, 1), (0x2000, 0)]
    assert list(blocks_of(0x1000, 0, 4096)) == []


def spans(*taken: tuple[int, int]) -> dict[str, Any]:
    return {"scratch": [{"address": hex(start), "size": size} for start, size in taken]}


def test_pages_are_handed_out_once_and_aligned() -> None:
    placer = Placer(4096, {})
    got = [(placer.take(size), size) for size in (1, 4096, 8192, 1, 65536, 1, 12288)]
    assert all(address % (4096 << order_of(size, 4096)) == 0 for address, size in got)
    ends = sorted((address, address + max(size, 4096)) for address, size in got)
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    assert placer.take(8192, order=0) % 4096 == 0


@pytest.mark.parametrize("size", [16 * MIB, "16M", "0x1000000"])
def test_scratch_areas_are_left_alone_however_their_size_is_written(size: Any) -> None:
    placer = Placer(4096, {"scratch": [{"address": "0x1000000", "size": size}]})
    assert placer.take(4096) == 0x2000000


def test_what_lies_inside_of_something_large_does_not_hide_it() -> None:
    document = {**spans((16 * MIB, 64 * MIB)), "luo": {"address": "0x1001000", "session_blocks": ["0x1003000"]}}
    assert Placer(4096, document).take(4096) == 80 * MIB


def test_every_kind_of_given_address_is_left_alone() -> None:
    first = 16 * MIB
    page = iter(range(first, first + 100 * 4096, 4096))
    document = {
        "nodes": [hex(next(page))],
        "blocks": [next(page)],
        "memfd": {"folios": {"list": [[0, hex(next(page)), 3]], "chunks": [next(page)], "pages": [next(page)]}},
        "kho_test": {"folios": [[hex(next(page)), 0]]},
        "extents": [[hex(next(page)), 0, 2]],
        "devices": [{"driver_data": hex(next(page) and next(page))}],
        "memblock": {"reservations": [{"start": next(page), "size": "8K"}]},
        "flbs": [{"data": hex(next(page) and next(page))}],
        "session_area": hex(next(page)),
        "scratch_array": hex(next(page)),
    }
    assert Placer(4096, document).take(4096) == next(page)


def test_no_address_is_left() -> None:
    placer = Placer(4096, spans((0x1000, (1 << 52) - 0x1000)))
    with pytest.raises(UsageError, match="no physical addresses are left"):
        placer.take(4096)


def test_extents_are_runs_of_one_order_without_what_lies_in_a_larger_block() -> None:
    placer = Placer(4096, {})
    for address, size in ((0x10000, 0x10000), (0x12000, 0x1000), (0x30000, 0x1000), (0x31000, 0x1000), (0x33000, 1)):
        placer.preserve(address, size)
    assert placer.extents() == [["0x30000", 0, 2], ["0x33000", 0, 1], ["0x10000", 4, 1]]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), max_size=6))
def test_what_is_preserved_is_preserved_once(pieces: list[tuple[int, int]]) -> None:
    placer = Placer(4096, {})
    wanted = set[int]()
    for first, pages in pieces:
        placer.preserve(first * 4096, pages * 4096)
        wanted |= set(range(first, first + pages))
    found = [
        int(address, 16) // 4096 + page for address, order, count in placer.extents() for page in range(count << order)
    ]
    assert sorted(found) == sorted(wanted)
