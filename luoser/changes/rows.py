# SPDX-License-Identifier: MIT
"""Differing rows of long arrays of records, by comparing blocks of rows first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["common_runs", "outside", "unequal_rows"]

_BLOCK = 4096
_NEAR, _FAR = 16, 4096
"""Rows to look at, at first and at most, for the next equal ones."""
_WORTH = 4
"""So many rows may be looked at for each one in a run. A shuffled array needs more, and gains nothing."""


def unequal_rows(before: bytes | memoryview, after: bytes | memoryview, size: int) -> Iterator[int]:
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


def common_runs(before: bytes, after: bytes, size: int) -> Iterator[tuple[int, int, int]]:
    """(first row before, first row after, number of rows) of runs of equal rows, in the order of both arrays.

    What is between two runs was inserted, removed, changed or moved. The time grows with the size of the arrays only:
    rows that are far from their place may not be found, nor any after many that are.

    before: first array.
    after:  second array.
    size:   bytes of a row.
    """
    ends = len(before) // size, len(after) // size
    first, other, left = 0, 0, 3 * _FAR
    while left > 0 and first < ends[0] and other < ends[1]:
        run = next(unequal_rows(memoryview(before)[first * size :], memoryview(after)[other * size :], size), None)
        count = min(ends[0] - first, ends[1] - other) if run is None else run
        if count:
            yield first, other, count
        first, other, looked_at = _next_equal(before, after, size, first + count, other + count)
        left += _WORTH * count - looked_at


def outside(runs: Iterable[tuple[int, int]], end: int) -> Iterator[range]:
    """The rows before, between and after runs.

    runs: (first row, number of rows), ascending.
    end:  number of all rows.
    """
    start = 0
    for first, count in (*runs, (end, 0)):
        yield range(start, first)
        start = first + count


def _next_equal(before: bytes, after: bytes, size: int, first: int, other: int) -> tuple[int, int, int]:
    """(row before, row after) of the nearest rows at or after `first` and `other` that are equal, or where to go on if
    none is near; and the number of rows that were looked at.
    """
    ahead, looked_at = _NEAR, 0
    while True:
        looked_at += ahead
        places: dict[bytes, int] = {}
        for skip, row in enumerate(_rows(before, size, first, ahead)):
            places.setdefault(row, skip)
        best: tuple[int, int] | None = None
        for skip, row in enumerate(_rows(after, size, other, ahead)):
            if best is not None and skip >= sum(best):
                break
            found = places.get(row)
            if found is not None and (best is None or found + skip < sum(best)):
                best = found, skip
        if best is not None:
            return first + best[0], other + best[1], looked_at
        if ahead >= _FAR:
            return first + ahead, other + ahead, looked_at
        ahead *= 4


def _rows(data: bytes, size: int, first: int, count: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(first * size, min(len(data), (first + count) * size), size))
