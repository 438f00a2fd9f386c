# SPDX-License-Identifier: MIT
"""Which rows of two arrays differ, beside a plain comparison of each."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.changes.rows import common_runs, outside, unequal_rows
from tests.work import steps


def changed(count: int, size: int, *rows: int) -> bytes:
    data = bytearray(count * size)
    for row in rows:
        data[row * size + size - 1] = 1
    return bytes(data)


@pytest.mark.parametrize("size", [1, 3, 8, 4095, 4096, 4097, 5000])
@pytest.mark.parametrize("row", [0, 1, 4, 9])
def test_a_row_of_any_size(size: int, row: int) -> None:
    assert list(unequal_rows(bytes(10 * size), changed(10, size, row), size)) == [row]


def test_rows_on_both_sides_of_the_end_of_what_is_compared_at_once() -> None:
    rows = [0, 511, 512, 1023, 1024, 1500, 2999]
    assert list(unequal_rows(bytes(3000 * 8), changed(3000, 8, *rows), 8)) == rows


def test_rows_beyond_the_shorter_array_are_not_compared() -> None:
    assert list(unequal_rows(bytes(16), changed(9, 8, 1, 5), 8)) == [1]
    assert list(unequal_rows(changed(9, 8, 1, 5), bytes(16), 8)) == [1]


_ROWS = st.lists(st.integers(0, 2), max_size=12)


@given(before=_ROWS, after=_ROWS)
def test_common_runs_are_equal_and_in_order(before: list[int], after: list[int]) -> None:
    end = other_end = 0
    for first, other, count in common_runs(bytes(before), bytes(after), 1):
        assert count > 0
        assert first >= end
        assert other >= other_end
        assert before[first : first + count] == after[other : other + count]
        end, other_end = first + count, other + count
    assert (end, other_end) <= (len(before), len(after))


def test_common_runs_of_rows_of_two_bytes() -> None:
    assert list(common_runs(b"aabbccdd", b"aaxxyyzzdd", 2)) == [(0, 0, 1), (3, 4, 1)]
    assert list(common_runs(b"aabb", b"aabb", 2)) == [(0, 0, 2)]
    assert list(common_runs(b"", b"aabb", 2)) == []


@pytest.mark.parametrize("inserted", [1, 15, 16, 17, 3000])
@pytest.mark.parametrize("place", [0, 1, 4999, 5000])
def test_all_that_was_there_is_common_after_an_insertion(inserted: int, place: int) -> None:
    rows = [number.to_bytes(4, "little") for number in range(8000)]
    before = b"".join(rows[:5000])
    after = b"".join((*rows[:place], *rows[5000 : 5000 + inserted], *rows[place:5000]))
    runs = [(0, 0, place), (place, place + inserted, 5000 - place)]
    assert list(common_runs(before, after, 4)) == [run for run in runs if run[2]]
    assert list(common_runs(after, before, 4)) == [(new, old, count) for old, new, count in runs if count]


def test_the_runs_of_a_shuffled_array_are_not_searched_for_long() -> None:
    rows = [number.to_bytes(4, "little") for number in range(100_000)]
    shuffled = random.Random(1).sample(rows, len(rows))
    with steps(200_000):
        runs = list(common_runs(b"".join(rows), b"".join(shuffled), 4))
    assert len(runs) < 100


def test_rows_outside_of_runs() -> None:
    assert [list(rows) for rows in outside([(1, 2), (3, 1), (6, 2)], 8)] == [[0], [], [4, 5], []]
    assert [list(rows) for rows in outside([], 2)] == [[0, 1]]
