# SPDX-License-Identifier: MIT
"""Runs of ones in long bitmaps, without a step for each bit."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["bit_runs"]

_ONES = re.compile("1+")


def bit_runs(bits: bytes) -> Iterator[tuple[int, int]]:
    """(first, length) of each run of ones, least significant bit of byte 0 first."""
    value = int.from_bytes(bits, "little")
    if value == 0:
        return
    ones = value.bit_count()
    first = (value & -value).bit_length() - 1
    if value.bit_length() - first == ones:
        yield first, ones
        return
    for run in _ONES.finditer(bin(value)[:1:-1]):
        begin, end = run.span()
        yield begin, end - begin
