# SPDX-License-Identifier: MIT
"""All bytes that a source holds, in blocks of whole pages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from luoser.errors import MissingMemory
from luoser.limits import LIMITS
from luoser.memory.source import Memory

__all__ = ["Block", "blocks"]

_SIZE = 4 << 20


class Block:
    """Pages of a source, one after the other, also where they are apart in memory.

    data:   their bytes.
    starts: offset in `data` and physical address of each run of pages.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self._offsets, self._addresses = list[int](), list[int]()

    def add(self, address: int, data: bytes) -> None:
        """Add a run of whole pages."""
        self._offsets.append(len(self.data))
        self._addresses.append(address)
        self.data += data

    def address(self, offset: int) -> int:
        """Physical address of a byte."""
        index = bisect_right(self._offsets, offset) - 1
        return self._addresses[index] + offset - self._offsets[index]


def blocks(memory: Memory, page_size: int) -> Iterator[Block]:
    """The blocks of a source, by ascending address, up to LIMITS.salvage_bytes. A page that is not whole is left out.

    memory:    the source.
    page_size: bytes.
    """
    block, left, total = Block(), LIMITS.salvage_bytes, 0
    held = sum(segment.stored for segment in memory.segments)
    for start, end in _runs(memory, page_size):
        while start < end and left > 0:
            take = min(end - start, _SIZE - len(block.data), left // page_size * page_size)
            if not take:
                break
            data, start = _read(memory, start, take, page_size)
            if data:
                block.add(start - len(data), data)
                left, total = left - len(data), total + len(data)
            else:
                start += page_size
            if len(block.data) >= _SIZE:
                yield block
                memory.report(min(total, held), held)
                block = Block()
    if block.data:
        yield block
    memory.report(held, held)


def _runs(memory: Memory, page_size: int) -> Iterator[tuple[int, int]]:
    """[start, end) of whole pages that are stored. Segments of a file of single pages are joined."""
    first = last = 0
    for segment in memory.segments:
        start, end = segment.start, segment.start + segment.stored
        if start == last:
            last = end
            continue
        yield -(-first // page_size) * page_size, last // page_size * page_size
        first, last = start, end
    yield -(-first // page_size) * page_size, last // page_size * page_size


def _read(memory: Memory, start: int, size: int, page_size: int) -> tuple[bytes, int]:
    """(bytes of whole pages up to the first that cannot be read, address after them)."""
    try:
        return memory.read(start, size), start + size
    except MissingMemory as error:
        have = max(0, error.address - start) // page_size * page_size
    return (memory.read(start, have), start + have) if have else (b"", start)
