# SPDX-License-Identifier: MIT
"""AVML dumps, version 2: ranges as in LiME, each compressed as one snappy frame stream.

Version 1 is the format of LiME. A stream is a sequence of chunks of at most 64 KiB of memory, each with a checksum.
The length of the stream follows it in eight bytes. Both versions omit blocks of zeros.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

from luoser.errors import FormatError, MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import Buffer
from luoser.memory.lime import HEADER_SIZE, range_header
from luoser.memory.snappy import CHUNK, decompress_chunk, uncompressed_size
from luoser.memory.source import Segment, SegmentedMemory
from luoser.text import safe_text

__all__ = ["MAGIC", "AvmlMemory"]

MAGIC = b"AVML"
_TRAILER_SIZE = 8
_COMPRESSED, _PLAIN, _SKIPPABLE = 0x00, 0x01, range(0x80, 0x100)
_CHUNK_HEAD = 8  # kind, length in three bytes, checksum
_PAGE = 4096


class AvmlMemory(SegmentedMemory):
    """A compressed AVML dump.

    Offsets of segments are positions in the decompressed streams, as if these were one file.
    """

    format = "avml"
    expansion = 32

    def __init__(self, path: str, buffer: Buffer) -> None:
        index = _Index(path, buffer)
        super().__init__(path, buffer, list(index.ranges()))
        self.remarks[:0] = index.remarks
        self._places, self._offsets = index.places, index.offsets
        self._unpacked = lru_cache(maxsize=64)(self._unpack)
        self._damaged: set[int] = set()

    def _unpack(self, number: int) -> bytes | FormatError:
        """The memory in a chunk, cut at the end of its range. An error is returned, not raised, to cache it, too."""
        offset = self._offsets[number]
        length = int.from_bytes(self._buffer[offset + 1 : offset + 4], "little")
        size = self._places[number + 1] - self._places[number]
        try:
            data = decompress_chunk(bytes(self._buffer[offset : offset + 4 + length]))
        except FormatError as error:
            return error
        return data[:size] if len(data) >= size else FormatError(f"expected {size} bytes, found {len(data)}")

    def _chunk_of(self, place: int) -> int:
        return bisect_right(self._places, place) - 1

    def _piece(self, segment: Segment, skip: int) -> bytes:
        """The bytes of a segment from byte `skip` to the end of their chunk. Raises MissingMemory if it is damaged."""
        place = segment.offset + skip
        number = self._chunk_of(place)
        data = self._unpacked(number)
        if isinstance(data, FormatError):
            why = f"the chunk at offset {self._offsets[number]:#x} of the file is damaged: {safe_text(str(data))}"
            self._note_damage(number, why)
            raise MissingMemory(segment.start + skip, PageState.ABSENT, why)
        start = place - self._places[number]
        return data[start : start + segment.stored - skip]

    def _note_damage(self, number: int, why: str) -> None:
        """Add a remark on a damaged chunk. This happens while the source is read, when the chunk is decompressed."""
        if number not in self._damaged and len(self._damaged) <= LIMITS.overlap_remarks:
            self._damaged.add(number)
            self.remarks.append(why if len(self._damaged) <= LIMITS.overlap_remarks else "more chunks are damaged")

    def _read_segment(self, segment: Segment, skip: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if skip >= segment.stored:
                raise MissingMemory(segment.start + skip, segment.rest)
            part = self._piece(segment, skip)[:size]
            parts.append(part)
            skip, size = skip + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def page_state(self, address: int) -> PageState:
        try:
            self.read(address, 1)
        except MissingMemory as error:
            return error.state
        return PageState.PRESENT

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of all memory that can be decompressed, ascending."""
        for segment in self._segments:
            skip = 0
            while skip < segment.stored:
                try:
                    data = self._piece(segment, skip)
                except MissingMemory:
                    skip = self._places[self._chunk_of(segment.offset + skip) + 1] - segment.offset
                    continue
                yield segment.start + skip, data
                skip += len(data)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        first = end = -1
        for address, data in self._pieces():
            if address != end:
                first = -(-address // _PAGE) * _PAGE + at
            end = address + len(data)
            for place in range(max(first, address + (at - address) % _PAGE), end, _PAGE):
                if data.startswith(prefix, place - address) or (
                    place + len(prefix) > end and self._reads(place, prefix)
                ):
                    yield place - at

    def _reads(self, address: int, wanted: bytes) -> bool:
        """Whether memory has these bytes, which can cross the end of a chunk."""
        try:
            return self.read(address, len(wanted)) == wanted
        except MissingMemory:
            return False

    def find(self, pattern: bytes) -> Iterator[int]:
        search = re.compile(re.escape(pattern), re.DOTALL)
        window, end, reach = b"", -1, len(pattern) - 1
        for address, data in self._pieces():
            tail = window[max(0, len(window) - reach) :] if address == end else b""  # a match can begin there
            window, end = tail + data, address + len(data)
            for match in search.finditer(window):
                yield end - len(window) + match.start()


class _Index:
    """The chunks of a file.

    places:  start of each chunk in the decompressed bytes, then the end of the last one.
    offsets: offset of each chunk in the file.
    """

    def __init__(self, path: str, buffer: Buffer) -> None:
        self.path, self.buffer = path, buffer
        self.places, self.offsets = array("Q", [0]), array("Q")
        self.remarks: list[str] = []

    def ranges(self) -> Iterator[Segment]:
        place = 0
        for _ in range(LIMITS.elf_headers):
            span = range_header(self.path, self.buffer, place, MAGIC, 2, self.remarks)
            if span is None:
                return
            first, last = span
            begin, size = self.places[-1], last + 1 - first
            start = place + HEADER_SIZE
            place = self._stream(start, size)
            stored = self.places[-1] - begin
            if stored < size:
                self.remarks.append(
                    f"truncated: range {first:#x}-{last:#x} has {stored:#x} of its {size:#x} bytes in the file"
                )
            else:
                self._trailer(place, place - start, f"range {first:#x}-{last:#x}")
            yield Segment(first, size, begin, stored, PageState.ABSENT)
            place += _TRAILER_SIZE
        text = f"more than {LIMITS.elf_headers} ranges; bytes after offset {place:#x} were not read"
        self.remarks.append(f"{text}; {how_to_raise('elf_headers')}")

    def _stream(self, place: int, size: int) -> int:
        """Add the chunks of a range of `size` bytes. Returns the offset after the last one."""
        end = self.places[-1] + size
        while self.places[-1] < end:
            head = bytes(self.buffer[place : place + _CHUNK_HEAD])
            length = int.from_bytes(head[1:4], "little")
            if len(head) < _CHUNK_HEAD or place + 4 + length > len(self.buffer):
                return len(self.buffer)
            if head[0] in (_COMPRESSED, _PLAIN) and length >= 4:
                self._add(place, self._size(place, length, head[0] == _COMPRESSED), end)
            elif head[0] not in _SKIPPABLE:
                raise SourceError(f"{self.path}: unknown snappy chunk {head[0]:#x} at offset {place:#x}")
            place += 4 + length
        return place

    def _size(self, place: int, length: int, compressed: bool) -> int:
        """Bytes of memory in the chunk at an offset. length: of the chunk in the file, checksum included."""
        start = place + _CHUNK_HEAD
        size = uncompressed_size(bytes(self.buffer[start : start + min(5, length - 4)])) if compressed else length - 4
        if not 0 < size <= CHUNK:
            raise SourceError(
                f"{self.path}: snappy chunk at offset {place:#x}: expected 1 to {CHUNK} bytes, found {size}"
            )
        return size

    def _add(self, offset: int, size: int, end: int) -> None:
        place = self.places[-1] + size
        if place > end:
            self._remark(
                f"the chunk at offset {offset:#x} extends {place - end:#x} bytes beyond its range; they are ignored"
            )
        self.offsets.append(offset)
        self.places.append(min(place, end))

    def _trailer(self, place: int, length: int, what: str) -> None:
        """Compare the length after a stream with the stream."""
        raw = bytes(self.buffer[place : place + _TRAILER_SIZE])
        if len(raw) < _TRAILER_SIZE:
            self._remark(f"truncated: the file ends before the length of the stream of {what}, at offset {place:#x}")
        elif int.from_bytes(raw, "little") != length:
            claimed = int.from_bytes(raw, "little")
            self._remark(f"{what}: its stream has {length:#x} bytes, the length after it claims {claimed:#x}")

    def _remark(self, text: str) -> None:
        if len(self.remarks) <= LIMITS.overlap_remarks:
            self.remarks.append(text if len(self.remarks) < LIMITS.overlap_remarks else "more streams are damaged")
