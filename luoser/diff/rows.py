# SPDX-License-Identifier: MIT
"""Long arrays of records: which rows differ, without looking at each."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["common_ends", "unequal_rows"]

_BLOCK = 4096


def unequal_rows(before: bytes, after: bytes, size: int) -> Iterator[int]:
    """Numbers of the rows of `size` bytes that are not the same in two arrays, as far as both go."""
    step, end = max(1, _BLOCK // size) * size, min(len(before), len(after))
    with memoryview(before) as old, memoryview(after) as new:
        for start in range(0, end, step):
            stop = min(start + step, end)
            if old[start:stop] != new[start:stop]:
                for place in range(start, stop, size):
                    if old[place : place + size] != new[place : place + size]:
                        yield place // size


def common_ends(before: bytes, after: bytes, size: int) -> tuple[int, int]:
    """How many rows two arrays have in common at the start, and behind these at the end."""
    most = min(len(before), len(after)) // size
    first = next(unequal_rows(before, after, size), most)
    last = next(unequal_rows(before[::-1], after[::-1], size), most)  # a row backwards is as good as forwards
    return first, min(last, most - first)
