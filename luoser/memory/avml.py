# SPDX-License-Identifier: MIT
"""AVML dumps, version 2: ranges as in LiME, each compressed as one snappy frame stream.

Version 1 is LiME's own format. A stream is a list of chunks of at most 64 KiB of memory; behind it stands
its length in eight bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from luoser.errors import FormatError, MissingMemory, PageState, SourceError
from luoser.memory.lime import ranges_header
from luoser.memory.snappy import decompress, uncompressed_size
from luoser.memory.source import Buffer, Memory, Segment

__all__ = ["MAGIC", "AvmlMemory"]

MAGIC = b"AVML"
_HEADER_SIZE, _TRAILER_SIZE = 32, 8
_COMPRESSED, _PLAIN, _IDENTIFIER = 0x00, 0x01, 0xFF
_CHUNK = 65536
_PAGE = 4096


class _Chunk(NamedTuple):
    """address, size: what it holds. offset, length: where its data is, behind the checksum."""

    address: int
    size: int
    offset: int
    length: int
    compressed: bool


class AvmlMemory(Memory):
    """A compressed AVML dump."""

    format = "avml"

    def __init__(self, path: str, buffer: Buffer) -> None:
        super().__init__(path)
        self._buffer = buffer
        self._chunks: list[_Chunk] = []
        self._segments = tuple(sorted(self._index(path), key=lambda segment: segment.start))
        self._chunks.sort()
        self._starts = [chunk.address for chunk in self._chunks]
        self._unpacked = lru_cache(maxsize=64)(self._unpack)

    def _index(self, path: str) -> Iterator[Segment]:
        place = 0
        while (span := ranges_header(path, self._buffer, place, MAGIC, 2)) is not None:
            first, last = span
            size = last + 1 - first
            place, stored = self._stream(path, place + _HEADER_SIZE, first, size)
            if stored < size:
                self.remarks.append(
                    f"truncated: range {first:#x}-{last:#x} has {stored:#x} of its {size:#x} bytes in the file"
                )
            yield Segment(first, size, 0, stored, PageState.ABSENT)
            place += _TRAILER_SIZE

    def _stream(self, path: str, place: int, address: int, size: int) -> tuple[int, int]:
        """(offset behind the stream, bytes of memory in it)."""
        stored = 0
        while stored < size:
            head = bytes(self._buffer[place : place + 8])
            if len(head) < 8:
                return len(self._buffer), stored
            kind, length = head[0], int.from_bytes(head[1:4], "little")
            place += 4
            if kind in (_COMPRESSED, _PLAIN) and length >= 4:
                if place + length > len(self._buffer):
                    return len(self._buffer), stored
                chunk = self._chunk(path, place + 4, length - 4, address + stored, kind == _COMPRESSED)
                self._chunks.append(chunk)
                stored += chunk.size
            elif kind not in range(0x80, 0x100):
                raise SourceError(f"{path}: unknown snappy chunk {kind:#x} at offset {place - 4:#x}")
            place += length
        return place, stored

    def _chunk(self, path: str, offset: int, length: int, address: int, compressed: bool) -> _Chunk:
        size = uncompressed_size(bytes(self._buffer[offset : offset + 5])) if compressed else length
        if not 0 < size <= _CHUNK:
            raise SourceError(f"{path}: snappy chunk of {size} bytes at offset {offset:#x}, expected at most {_CHUNK}")
        return _Chunk(address, size, offset, length, compressed)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def _chunk_at(self, address: int) -> _Chunk | None:
        index = bisect_right(self._starts, address) - 1
        chunk = self._chunks[index] if index >= 0 else None
        return chunk if chunk is not None and address < chunk.address + chunk.size else None

    def _unpack(self, chunk: _Chunk) -> bytes:
        data = bytes(self._buffer[chunk.offset : chunk.offset + chunk.length])
        return decompress(data, chunk.size) if chunk.compressed else data

    def page_state(self, address: int) -> PageState:
        return PageState.PRESENT if self._chunk_at(address) is not None else PageState.ABSENT

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            chunk = self._chunk_at(address)
            if chunk is None:
                raise MissingMemory(address, PageState.ABSENT)
            try:
                data = self._unpacked(chunk)
            except FormatError:
                raise MissingMemory(address, PageState.ABSENT) from None
            part = data[address - chunk.address :][:size]
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return b"".join(parts)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        for chunk, data in self._data():
            for place in range(-chunk.address % _PAGE, chunk.size, _PAGE):
                if data.startswith(prefix, place + at):
                    yield chunk.address + place

    def find(self, pattern: bytes) -> Iterator[int]:
        for chunk, data in self._data():
            place = data.find(pattern)
            while place >= 0:
                yield chunk.address + place
                place = data.find(pattern, place + 1)

    def _data(self) -> Iterator[tuple[_Chunk, bytes]]:
        for chunk in self._chunks:
            try:
                yield chunk, self._unpack(chunk)
            except FormatError:
                continue
