# SPDX-License-Identifier: MIT
"""makedumpfile's flattened format (-F): a file in pieces, each with the offset it belongs to.

A layer below the formats proper: it gives the bytes of the file that the pieces make up.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from luoser.errors import SourceError
from luoser.memory.source import Buffer, Segment, swept

__all__ = ["MAGIC", "Flattened"]

MAGIC = b"makedumpfile\0\0\0\0"
_HEADER_SIZE = 4096
_RECORD = struct.Struct(">qq")


class Flattened:
    """The rearranged file as something to slice and to measure; gaps between pieces read as zeros.

    truncated: True when the end record is missing.
    """

    def __init__(self, path: str, buffer: Buffer) -> None:
        if len(buffer) < _HEADER_SIZE:
            raise SourceError(f"{path}: flattened dump of {len(buffer)} bytes, its header alone has {_HEADER_SIZE}")
        kind, version = struct.unpack_from(">qq", buffer, len(MAGIC))
        if (kind, version) != (1, 1):
            raise SourceError(f"{path}: flattened dump of type {kind} version {version}, expected 1 and 1")
        self._buffer = buffer
        self.truncated = True
        self._pieces = self._index()
        self._starts = [start for start, _, _ in self._pieces]
        self._size = max((start + size for start, size, _ in self._pieces), default=0)
        if self._size >= 1 << 62:
            raise SourceError(f"{path}: flattened dump with a piece at {self._size:#x}, beyond any file")

    def _index(self) -> list[tuple[int, int, int]]:
        """(offset in the file, size, offset in the buffer) by offset; where pieces overlap the later one counts."""
        found: list[Segment] = []
        place = _HEADER_SIZE
        while place + _RECORD.size <= len(self._buffer):
            offset, size = _RECORD.unpack_from(self._buffer, place)
            place += _RECORD.size
            if offset < 0 or size < 0:
                self.truncated = False
                break
            stored = min(size, len(self._buffer) - place)
            if stored:
                found.append(Segment(offset, stored, place, stored))
            place += size
        return [(piece.start, piece.size, piece.offset) for piece in swept(found[::-1])]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, stop, step = span.indices(self._size)
        if step != 1:
            raise ValueError("a flattened file is read in steps of one")
        out = bytearray(max(0, stop - start))
        for low, size, place in self.pieces(start, stop):
            out[low - start : low - start + size] = self._buffer[place : place + size]
        return bytes(out)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(offset in the file, size, offset in the buffer) of what is stored of [start, stop)."""
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._pieces)):
            begin, size, place = self._pieces[index]
            if begin >= stop:
                return
            low, high = max(start, begin), min(stop, begin + size)
            if low < high:
                yield low, high - low, place + low - begin
