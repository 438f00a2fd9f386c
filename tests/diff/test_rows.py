# SPDX-License-Identifier: MIT
"""Which rows of two arrays differ, beside a plain comparison of each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.diff.rows import common_ends, unequal_rows


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
def test_common_ends_do_not_overlap(before: list[int], after: list[int]) -> None:
    first, last = common_ends(bytes(before), bytes(after), 1)
    most = min(len(before), len(after))
    assert before[:first] == after[:first]
    assert first == most or before[first] != after[first]
    assert last == 0 or before[-last:] == after[-last:]
    assert first + last == most or before[-last - 1] != after[-last - 1]


def test_common_ends_of_rows_of_two_bytes() -> None:
    assert common_ends(b"aabbccdd", b"aaxxyyzzdd", 2) == (1, 1)
    assert common_ends(b"aabb", b"aabb", 2) == (2, 0)
    assert common_ends(b"", b"aabb", 2) == (0, 0)
