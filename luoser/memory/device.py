# SPDX-License-Identifier: MIT
"""Memory that is read block by block from a descriptor, as from /dev/mem and /proc/kcore."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory.source import Memory, Segment

__all__ = ["LIVE", "BlockMemory", "DeviceMemory"]

LIVE = "live:"
"""Name of the best source that this machine has."""
_PAGE = 4096
_BLOCK = 4 << 20


class BlockMemory(Memory):
    """Memory in sorted segments that is read on demand. A page that cannot be read has the state EXCLUDED."""

    _segments: tuple[Segment, ...] = ()

    def _fetch(self, segment: Segment, skip: int, size: int) -> bytes:
        """The bytes [skip, skip + size) of a segment, up to the first one that cannot be read."""
        raise NotImplementedError

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def _segment_at(self, address: int) -> Segment | None:
        index = bisect_right(self._segments, address, key=lambda segment: segment.start) - 1
        segment = self._segments[index] if index >= 0 else None
        return segment if segment is not None and address < segment.end else None

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            segment = self._segment_at(address)
            if segment is None:
                raise MissingMemory(address, PageState.ABSENT)
            take = min(size, segment.end - address)
            data = self._fetch(segment, address - segment.start, take)
            if len(data) < take:
                raise MissingMemory(address + len(data), PageState.EXCLUDED)
            parts.append(data)
            address, size = address + take, size - take
        return b"".join(parts)

    def page_state(self, address: int) -> PageState:
        segment = self._segment_at(address)
        if segment is None:
            return PageState.ABSENT
        return PageState.PRESENT if self._fetch(segment, address - segment.start, 1) else PageState.EXCLUDED

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        if not prefix or prefix[0] == 0:
            raise SourceError(f"cannot search for pages that start with {prefix!r}: expected a first byte other than 0")
        for start, block in self._blocks():
            place = -start % _PAGE + at
            marks = block[place::_PAGE]
            index = marks.find(prefix[0])
            while index >= 0:
                if block.startswith(prefix, place + _PAGE * index):
                    yield start + place - at + _PAGE * index
                index = marks.find(prefix[0], index + 1)

    def find(self, pattern: bytes) -> Iterator[int]:
        end, tail = -1, b""
        for start, block in self._blocks():
            if start != end:
                tail = b""
            window = tail + block
            place = window.find(pattern)
            while place >= 0:
                yield start - len(tail) + place
                place = window.find(pattern, place + 1)
            end, tail = start + len(block), window[max(0, len(window) - len(pattern) + 1) :]

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of all memory that can be read, ascending. A block ends at a page or with its segment."""
        total, done = sum(segment.size for segment in self._segments), 0
        report = self.on_progress or (lambda done, total: None)
        try:
            for segment in self._segments:
                skip = 0
                while skip < segment.size:
                    report(done + skip, total)
                    take = min(_BLOCK - (segment.start + skip) % _BLOCK, segment.size - skip)
                    block = self._fetch(segment, skip, take)
                    if block:
                        yield segment.start + skip, block
                    skip += len(block)
                    if len(block) < take:  # skip the page that cannot be read
                        skip += _PAGE - (segment.start + skip) % _PAGE
                done += segment.size
        finally:  # also if the caller stops early
            report(total, total)


class DeviceMemory(BlockMemory):
    """Memory that is read from a descriptor with pread(). A segment's `offset` is its file position."""

    live = True

    def __init__(self, path: str, descriptor: int) -> None:
        """descriptor: open for reading; `close` closes it."""
        super().__init__(path)
        self._descriptor = descriptor

    def _fetch(self, segment: Segment, skip: int, size: int) -> bytes:
        parts: list[bytes] = []
        end, whole = skip + size, True
        while skip < end:
            take = end - skip if whole else min(end - skip, _PAGE - (segment.start + skip) % _PAGE)
            data = self._pread(segment.offset + skip, take)
            if not data and not whole:
                break
            if data:
                parts.append(data)
                skip += len(data)
            else:
                whole = False  # part of it cannot be read: continue page by page up to that part
        return b"".join(parts)

    def _pread(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError:
            return b""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
