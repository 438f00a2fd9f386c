# SPDX-License-Identifier: MIT
"""makedumpfile's flattened format (-F), also written by QEMU: a file in pieces, each with its offset in that file.

This is a layer below the dump formats: it returns the bytes of the file that was flattened.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby

from luoser.errors import SourceError
from luoser.memory.file import Buffer, Local
from luoser.memory.source import ByteSource, Segment, swept

__all__ = ["MAGIC", "Flattened", "known", "stored", "volume"]

MAGIC = b"makedumpfile\0\0\0\0"
_HEADER_SIZE = 4096
_RECORD = struct.Struct(">qq")
_BLOCK = 4096
_DENSE = 64
"""Pieces that begin in a block. One with more of them, which no writer makes, is put together once and kept."""
Run = tuple[int, int]
"""[start, end) in a file."""


class Flattened:
    """The file that was flattened. It has a length and can be sliced.

    truncated: the end record is missing.

    Gaps between the pieces are zeros. In a truncated file their bytes are lost: a slice ends before the first gap,
    as it does at the end of a file.
    """

    def __init__(self, path: str, buffer: Buffer) -> None:
        assert isinstance(buffer, Local)  # a remote one is fetched whole
        if len(buffer) < _HEADER_SIZE:
            raise SourceError(
                f"{path}: truncated flattened dump: expected a header of {_HEADER_SIZE} bytes, found {len(buffer)}"
            )
        kind, version = struct.unpack_from(">qq", buffer, len(MAGIC))
        if (kind, version) != (1, 1):
            raise SourceError(f"{path}: flattened dump: expected type 1 version 1, found type {kind} version {version}")
        self._buffer = buffer
        self.truncated = True
        # arrays of numbers instead of objects: a dump has a piece for every few pages
        self._starts, self._sizes, self._places = array("q"), array("q"), array("q")
        for piece in self._arranged(*self._records(path)):
            self._starts.append(piece[0])
            self._sizes.append(piece[1])
            self._places.append(piece[2])
        self._size = self._starts[-1] + self._sizes[-1] if self._starts else 0
        self._dense, self._kept = array("q"), list[bytes]()
        for block, group in groupby(start // _BLOCK for start in self._starts):
            if sum(1 for _ in group) > _DENSE:
                for low, high in known(self, block * _BLOCK, (block + 1) * _BLOCK):
                    self._dense.append(low)
                    self._kept.append(self._joined(low, high))

    def _records(self, path: str) -> tuple[array[int], array[int], array[int]]:
        """Three arrays: offset in the file, size, and offset in the buffer of each record, in buffer order."""
        offsets, sizes, places = array("q"), array("q"), array("q")
        place, end = _HEADER_SIZE, len(self._buffer)
        while place + _RECORD.size <= end:
            offset, size = _RECORD.unpack_from(self._buffer, place)
            place += _RECORD.size
            if offset < 0 or size < 0:
                self.truncated = False
                break
            have = min(size, end - place)
            if offset + have >= 1 << 62:
                raise SourceError(f"{path}: flattened dump: piece at {offset:#x}: expected an offset below 2^62")
            if have:
                offsets.append(offset)
                sizes.append(have)
                places.append(place)
            place += size
        return offsets, sizes, places

    @staticmethod
    def _arranged(offsets: array[int], sizes: array[int], places: array[int]) -> Iterator[tuple[int, int, int]]:
        """The records by their offset in the file. Where records overlap, the later one is used."""
        group: list[int] = []
        end = 0
        for index in sorted(range(len(offsets)), key=offsets.__getitem__):
            if group and offsets[index] >= end:
                yield from _over_each_other(group, offsets, sizes, places)
                group = []
            group.append(index)
            end = max(end, offsets[index] + sizes[index])
        yield from _over_each_other(group, offsets, sizes, places)

    def __len__(self) -> int:
        return self._size

    @property
    def count(self) -> int:
        """Number of pieces."""
        return len(self._starts)

    @property
    def volume(self) -> int:
        """Bytes of all pieces."""
        return sum(self._sizes)

    def __getitem__(self, span: slice, /) -> bytes:
        start, stop, step = span.indices(self._size)
        if step != 1:
            raise ValueError("a slice of a flattened file needs step 1")
        if not self._dense:
            return self._joined(start, stop)
        parts = list[bytes]()
        while start < stop:
            index = bisect_right(self._dense, start)
            part = self._kept[index - 1][start - self._dense[index - 1] :][: stop - start] if index else b""
            if not part:
                end = min(stop, self._dense[index]) if index < len(self._dense) else stop
                part = self._joined(start, end)
                if len(part) < end - start:  # the rest is lost
                    stop = start
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _joined(self, start: int, stop: int) -> bytes:
        """The bytes of [start, stop), from the pieces."""
        parts: list[bytes] = []
        for low, size, place in self.pieces(start, stop):
            if low > start:
                if self.truncated:
                    break
                parts.append(bytes(low - start))
            parts.append(self._buffer[place : place + size])
            start = low + size
        if start < stop and not self.truncated:
            parts.append(bytes(stop - start))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(offset in the file, size, offset in the buffer) of each stored piece of [start, stop) of the file."""
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._starts)):
            begin, size, place = self._starts[index], self._sizes[index], self._places[index]
            if begin >= stop:
                return
            low, high = max(start, begin), min(stop, begin + size)
            if low < high:
                yield low, high - low, place + low - begin


def _over_each_other(
    group: list[int], offsets: array[int], sizes: array[int], places: array[int]
) -> Iterator[tuple[int, int, int]]:
    """(offset in the file, size, offset in the buffer) of overlapping records. Later records replace earlier ones."""
    if len(group) == 1:
        yield offsets[group[0]], sizes[group[0]], places[group[0]]
        return
    latest = sorted(group, reverse=True)
    for piece in swept([Segment(offsets[index], sizes[index], places[index], sizes[index]) for index in latest]):
        yield piece.start, piece.size, piece.offset


def stored(source: ByteSource, start: int, stop: int) -> Iterator[Run]:
    """The parts of [start, stop) that are stored, as runs: all of it except gaps of a flattened file."""
    if isinstance(source, Flattened):
        yield from ((low, low + size) for low, size, _ in source.pieces(start, stop))
    elif start < min(stop, len(source)):
        yield start, min(stop, len(source))


def volume(source: ByteSource) -> int:
    """Number of bytes that are stored: all of them except gaps of a flattened file."""
    return source.volume if isinstance(source, Flattened) else len(source)


def known(source: ByteSource, start: int, stop: int) -> Iterator[Run]:
    """The parts of [start, stop) that are known, as runs: all of it except gaps of a truncated flattened file."""
    if not (isinstance(source, Flattened) and source.truncated):
        if start < min(stop, len(source)):
            yield start, min(stop, len(source))
        return
    begin = end = -1
    for low, high in stored(source, start, stop):
        if low != end:
            if begin >= 0:
                yield begin, end
            begin = low
        end = high
    if begin >= 0:
        yield begin, end
