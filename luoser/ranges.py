# SPDX-License-Identifier: MIT
"""Ranges of addresses."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["merged"]


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges by ascending address; those that touch or overlap are one range. ranges: (start, end) each."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return made
