# SPDX-License-Identifier: MIT
"""ELF cores made by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from luoser.errors import MissingMemory, PageState
from luoser.memory.source import Memory, Segment

__all__ = ["Load", "Nothing", "core", "note"]


class Nothing(Memory):
    """A source without a page."""

    format = "made"

    def read(self, address: int, size: int) -> bytes:
        raise MissingMemory(address, PageState.ABSENT)

    def page_state(self, address: int) -> PageState:
        return PageState.ABSENT

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        return iter(())

    def find(self, pattern: bytes) -> Iterator[int]:
        return iter(())

    @property
    def segments(self) -> tuple[Segment, ...]:
        return ()


@dataclass(frozen=True)
class Load:
    """A PT_LOAD to write. filesz, memsz, offset: header values where they are to differ from the data's."""

    paddr: int
    data: bytes
    memsz: int | None = None
    filesz: int | None = None
    offset: int | None = None


def note(name: str, data: bytes, kind: int = 0) -> bytes:
    raw = name.encode() + b"\0"
    return struct.pack("<III", len(raw), len(data), kind) + raw + bytes(-len(raw) % 4) + data + bytes(-len(data) % 4)


def core(*loads: Load, notes: bytes = b"", xnum: bool = False, bits: int = 2, order: int = 1) -> bytes:
    """A little-endian 64-bit core: header, program headers, notes, data; with xnum the count is in section 0."""
    count = len(loads) + bool(notes)
    start = 64 + 56 * count + (64 if xnum else 0)
    shoff = 64 + 56 * count if xnum else 0
    ident = b"\x7fELF" + bytes([bits, order, 1]).ljust(12, b"\0")
    number = 0xFFFF if xnum else count
    out = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, shoff, 0, 64, 56, number, 64, int(xnum), 0)
    place = start + len(notes)
    headers = bytearray()
    if notes:
        headers += struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), len(notes), 0)
    for load in loads:
        filesz = len(load.data) if load.filesz is None else load.filesz
        memsz = max(filesz, len(load.data)) if load.memsz is None else load.memsz
        offset = place if load.offset is None else load.offset
        headers += struct.pack("<IIQQQQQQ", 1, 0, offset, 0, load.paddr, filesz, memsz, 0)
        place += len(load.data)
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, count, 0, 0) if xnum else b""
    return out + headers + section + notes + b"".join(load.data for load in loads)
