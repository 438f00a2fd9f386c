# SPDX-License-Identifier: MIT
"""Memory of which each part has to be asked for: of a guest, or of a debugger."""

from __future__ import annotations

import re
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory, Segment
from luoser.text import safe_text

__all__ = ["FetchedMemory", "spans"]

_BLOCK, _WINDOW, _WINDOWS = 8 << 20, 64 << 10, 1024
"""Bytes requested at a time by a search, bytes requested at a time by `read`, and number of the latter in the cache."""


class FetchedMemory(Memory):
    """Ranges of memory, and a function that gives the bytes of a part of one.

    A window of 64 KiB that was read is cached, and a block that was zero in a search is not read by later searches.
    Open the source again to see later changes.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._zeros = bytes(_BLOCK)
        self._zero: set[int] = set()
        self._windows = lru_cache(maxsize=_WINDOWS)(self._fetch)
        self._segments: tuple[Segment, ...] = ()
        self._starts: list[int] = []

    def _cover(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Set what the source covers. ranges: [start, end), sorted. Raises SourceError if it is too much."""
        self._segments = tuple(Segment(start, end - start, 0, end - start) for start, end in ranges)
        self._starts = [segment.start for segment in self._segments]
        if sum(segment.size for segment in self._segments) > LIMITS.guest_size:
            text = f"expected at most {LIMITS.guest_size} bytes; {how_to_raise('guest_size')}"
            raise SourceError(f"{safe_text(self.path)}: guest memory: {text}")

    @abstractmethod
    def _fetch(self, address: int, size: int) -> bytes:
        """Bytes of one segment, read now. Raises SourceError."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def _segment_at(self, address: int) -> Segment | None:
        index = bisect_right(self._starts, address) - 1
        return self._segments[index] if index >= 0 and address < self._segments[index].end else None

    def page_state(self, address: int) -> PageState:
        return PageState.PRESENT if self._segment_at(address) else PageState.ABSENT

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            segment = self._segment_at(address)
            if segment is None:
                raise MissingMemory(address, PageState.ABSENT)
            first = address - address % _WINDOW
            start, end = max(segment.start, first), min(segment.end, first + _WINDOW)
            take = min(size, end - address)
            parts.append(self._windows(start, end - start)[address - start : address - start + take])
            address, size = address + take, size - take
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _blocks(self, segment: Segment) -> Iterator[tuple[int, int, bytes]]:
        """(start, end, bytes) of each block. The bytes of a block of zeros are empty, and it is fetched only once."""
        for start, end in spans(segment):
            data = b"" if start in self._zero else self._fetch(start, end - start)
            if self._zeros.startswith(data):
                self._zero.add(start)
                data = b""
            yield start, end, data

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        if not prefix or prefix[0] == 0:
            raise SourceError(f"cannot search for pages that start with {prefix!r}: expected a first byte other than 0")
        for segment in self._segments:
            for start, _, data in self._blocks(segment):
                first = -start % 4096 + at
                marks = data[first::4096]
                index = marks.find(prefix[0])
                while index >= 0:
                    place = first + 4096 * index
                    if data.startswith(prefix, place):
                        yield start + place - at
                    index = marks.find(prefix[0], index + 1)

    def find(self, pattern: bytes) -> Iterator[int]:
        if not any(pattern):
            raise SourceError(f"cannot search for {pattern!r}: expected a byte other than 0")
        search, reach = re.compile(re.escape(pattern), re.DOTALL), len(pattern) - 1
        total, done = sum(segment.size for segment in self._segments), 0
        for segment in self._segments:
            seam = b""
            for start, end, data in self._blocks(segment):
                self.report(done := done + end - start, total)
                data = seam + (data or bytes(min(end - start, reach)))
                for match in search.finditer(data):
                    yield start - len(seam) + match.start()
                seam = data[max(0, len(data) - reach) :]


def spans(segment: Segment) -> Iterator[tuple[int, int]]:
    """[start, end) of the blocks that a search fetches."""
    start = segment.start
    while start < segment.end:
        end = min(segment.end, start - start % _BLOCK + _BLOCK)
        yield start, end
        start = end
