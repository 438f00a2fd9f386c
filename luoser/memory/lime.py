# SPDX-License-Identifier: MIT
"""LiME dumps (format=lime): ranges of physical memory, each behind a header with its first and last address."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.source import Buffer, Segment, SegmentedMemory

__all__ = ["MAGIC", "LimeMemory", "Range", "ranges_header"]

MAGIC = b"EMiL"
_HEADER = struct.Struct("<4sIQQQ")
Range = tuple[int, int]
"""(first, last) physical address of a range, both inclusive."""


def ranges_header(path: str, buffer: Buffer, place: int, magic: bytes, version: int) -> Range | None:
    """The range header at an offset of a LiME or AVML file, None at its end. Raises SourceError for garbage."""
    raw = bytes(buffer[place : place + _HEADER.size])
    if len(raw) < _HEADER.size:
        return None
    found, number, first, last, _ = _HEADER.unpack(raw)
    if found != magic or number != version or last < first or first % 4096:
        head, kind = raw[:24].hex(" "), "LiME" if magic == MAGIC else "AVML"
        raise SourceError(f"{path}: expected a {kind} range header at offset {place:#x}, found {head}")
    return first, last


class LimeMemory(SegmentedMemory):
    """A LiME dump; AVML writes the same when it does not compress."""

    format = "lime"

    def __init__(self, path: str, buffer: Buffer) -> None:
        remarks: list[str] = []
        super().__init__(path, buffer, list(_segments(path, buffer, remarks)))
        self.remarks[:0] = remarks


def _segments(path: str, buffer: Buffer, remarks: list[str]) -> Iterator[Segment]:
    place = 0
    for _ in range(LIMITS.elf_headers):
        span = ranges_header(path, buffer, place, MAGIC, 1)
        if span is None:
            return
        first, last = span
        place += _HEADER.size
        size = last + 1 - first
        stored = max(0, min(size, len(buffer) - place))
        if stored < size:
            remarks.append(f"truncated: range {first:#x}-{last:#x} has {stored:#x} of its {size:#x} bytes in the file")
        yield Segment(first, size, place, stored, PageState.ABSENT)
        place += size
