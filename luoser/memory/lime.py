# SPDX-License-Identifier: MIT
"""LiME dumps (format=lime): ranges of physical memory, each behind a header with its first and last address."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.source import Buffer, Segment, SegmentedMemory

__all__ = ["HEADER_SIZE", "MAGIC", "LimeMemory", "Range", "range_header"]

MAGIC = b"EMiL"
_HEADER = struct.Struct("<4sIQQQ")
HEADER_SIZE = _HEADER.size
Range = tuple[int, int]
"""(first, last) physical address of a range, both inclusive."""


def range_header(path: str, buffer: Buffer, place: int, magic: bytes, version: int, remarks: list[str]) -> Range | None:
    """The range header at an offset of a LiME or AVML file; None at its end, and a remark when that is inside of one.

    Raises SourceError for garbage, and for a file that does not hold a single header.
    """
    raw = bytes(buffer[place : place + HEADER_SIZE])
    kind = "LiME" if magic == MAGIC else "AVML"
    if len(raw) < HEADER_SIZE:
        if not place:
            raise SourceError(f"{path}: a {kind} range header has {HEADER_SIZE} bytes, the file only {len(raw)}")
        if raw:
            remarks.append(
                f"truncated: the file ends inside of the range header at offset {place:#x}; "
                "this range and any behind it are lost"
            )
        return None
    found, number, first, last, _ = _HEADER.unpack(raw)
    if found != magic or number != version or last < first:
        head = raw[:24].hex(" ")
        raise SourceError(f"{path}: expected a {kind} range header at offset {place:#x}, found {head}")
    return first, last


class LimeMemory(SegmentedMemory):
    """A LiME dump; AVML writes the same when it does not compress, and leaves out blocks of zeros.

    What is in no range is therefore absent, not zero: the file does not say which it was.
    """

    format = "lime"

    def __init__(self, path: str, buffer: Buffer) -> None:
        remarks: list[str] = []
        super().__init__(path, buffer, list(_segments(path, buffer, remarks)))
        self.remarks[:0] = remarks


def _segments(path: str, buffer: Buffer, remarks: list[str]) -> Iterator[Segment]:
    place = 0
    for _ in range(LIMITS.elf_headers):
        span = range_header(path, buffer, place, MAGIC, 1, remarks)
        if span is None:
            return
        first, last = span
        place += HEADER_SIZE
        size = last + 1 - first
        stored = max(0, min(size, len(buffer) - place))
        if stored < size:
            remarks.append(f"truncated: range {first:#x}-{last:#x} has {stored:#x} of its {size:#x} bytes in the file")
        yield Segment(first, size, place, stored, PageState.ABSENT)
        place += size
    remarks.append(f"more than {LIMITS.elf_headers} ranges; what follows offset {place:#x} was not read")
