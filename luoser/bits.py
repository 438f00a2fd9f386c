# SPDX-License-Identifier: MIT
"""Runs of ones in long bitmaps, found without a step for each bit. Bit 0 is the least significant bit of byte 0."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["bit_runs", "next_one", "next_zero", "run_ends"]

_PLACES = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
"""The numbers of the bits that are one, for each byte."""
_FEW = 16
"""With fewer ones than one in so many bytes, a search for the next one is faster than a look at each byte."""
_SOME_ONE, _SOME_ZERO = re.compile(rb"[^\0]"), re.compile(rb"[^\xff]")


def next_one(bits: bytes, start: int) -> int:
    """Number of the first bit that is one, at or after bit `start`. The number of bits if there is none."""
    rest = bits[start >> 3] >> (start & 7) if start >> 3 < len(bits) else 0
    if rest:
        return start + (rest & -rest).bit_length() - 1
    found = _SOME_ONE.search(bits, (start >> 3) + 1)
    if found is None:
        return 8 * len(bits)
    byte = found.group()[0]
    return 8 * found.start() + (byte & -byte).bit_length() - 1


def next_zero(bits: bytes, start: int) -> int:
    """Number of the first bit that is zero, at or after bit `start`. The number of bits if there is none."""
    rest = ~(bits[start >> 3] | (1 << (start & 7)) - 1) & 0xFF if start >> 3 < len(bits) else 0
    if rest:
        return 8 * (start >> 3) + (rest & -rest).bit_length() - 1
    found = _SOME_ZERO.search(bits, (start >> 3) + 1)
    if found is None:
        return 8 * len(bits)
    byte = ~found.group()[0] & 0xFF
    return 8 * found.start() + (byte & -byte).bit_length() - 1


def bit_runs(bits: bytes) -> Iterator[tuple[int, int]]:
    """(first bit, number of bits) of each run of ones, in ascending order."""
    return ((first, last - first + 1) for first, last in zip(*run_ends(bits), strict=True))


def run_ends(bits: bytes) -> tuple[list[int], list[int]]:
    """(first bits, last bits) of the runs of ones, in ascending order. Faster than pairs where there are many runs.

    Both are one list if no run is longer than a bit.
    """
    value = int.from_bytes(bits, "little")
    first, last = (value & -value).bit_length() - 1, value.bit_length() - 1
    if last - first + 1 == value.bit_count():
        return [first], [last]
    if not value & value >> 1:
        ones = _ones(value, len(bits))
        return ones, ones
    return _ones(value & ~(value << 1), len(bits)), _ones(value & ~(value >> 1), len(bits))


def _ones(value: int, size: int) -> list[int]:
    """The numbers of the bits that are one. size: in bytes."""
    data = value.to_bytes(size, "little")
    if value.bit_count() < size // _FEW:
        return [8 * found.start() + bit for found in _SOME_ONE.finditer(data) for bit in _PLACES[found.group()[0]]]
    places = zip(range(0, 8 * size, 8), data, strict=True)
    return [start + bit for start, byte in places if byte for bit in _PLACES[byte]]
