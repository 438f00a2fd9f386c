# SPDX-License-Identifier: MIT
"""LiME dumps (format=lime): ranges of physical memory, each after a header with its first and last address."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import Buffer
from luoser.memory.source import Segment, SegmentedMemory
from luoser.text import bytes_text

__all__ = ["HEADER_SIZE", "MAGIC", "LimeMemory", "Range", "range_header"]

MAGIC = b"EMiL"
_HEADER = struct.Struct("<4sIQQQ")
HEADER_SIZE = _HEADER.size
Range = tuple[int, int]
"""(first, last) physical address of a range, both inclusive."""


def range_header(path: str, buffer: Buffer, place: int, magic: bytes, version: int, remarks: list[str]) -> Range | None:
    """The range in the header at an offset of a LiME or AVML file. None at the end of the file.

    path:    for error messages.
    place:   offset of the header in bytes.
    magic:   expected first bytes: MAGIC, or AVML's.
    version: expected version.
    remarks: gets a remark if the file ends inside a header.

    Raises SourceError for bytes that are not such a header, and for a file without a complete header.
    """
    raw = bytes(buffer[place : place + HEADER_SIZE])
    kind = "LiME" if magic == MAGIC else "AVML"
    if len(raw) < HEADER_SIZE:
        if not place:
            raise SourceError(f"{path}: truncated {kind} range header: expected {HEADER_SIZE} bytes, found {len(raw)}")
        if raw:
            remarks.append(
                f"truncated: the file ends inside the range header at offset {place:#x}; "
                "this range and any later one are lost"
            )
        return None
    found, number, first, last, _ = _HEADER.unpack(raw)
    if found != magic or number != version or last < first:
        head = bytes_text(raw[:24])
        raise SourceError(f"{path}: expected a {kind} range header at offset {place:#x}, found {head}")
    return first, last


class LimeMemory(SegmentedMemory):
    """A LiME dump. AVML writes the same format when it does not compress, but omits blocks of zeros.

    Memory outside all ranges is absent, not zero: the file does not show whether it was zero.
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
    remarks.append(
        f"more than {LIMITS.elf_headers} ranges; bytes after offset {place:#x} were not read; "
        f"{how_to_raise('elf_headers')}"
    )
