# SPDX-License-Identifier: MIT
"""Differing rows of long arrays of records, by comparing blocks of rows first."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["common_ends", "unequal_rows"]

_BLOCK = 4096


def unequal_rows(before: bytes, after: bytes, size: int) -> Iterator[int]:
    """Numbers of the rows that differ in two arrays, up to the end of the shorter one.

    before: first array.
    after:  second array.
    size:   bytes of a row.
    """
    step, end = max(1, _BLOCK // size) * size, min(len(before), len(after))
    with memoryview(before) as old, memoryview(after) as new:
        for start in range(0, end, step):
            stop = min(start + step, end)
            if old[start:stop] != new[start:stop]:
                for place in range(start, stop, size):
                    if old[place : place + size] != new[place : place + size]:
                        yield place // size


def common_ends(before: bytes, after: bytes, size: int) -> tuple[int, int]:
    """(number of equal rows at the start, number of other equal rows at the end) of two arrays.

    before: first array.
    after:  second array.
    size:   bytes of a row.
    """
    most = min(len(before), len(after)) // size
    first = next(unequal_rows(before, after, size), most)
    last = next(unequal_rows(before[::-1], after[::-1], size), most)  # reversed rows are equal iff the rows are
    return first, min(last, most - first)
