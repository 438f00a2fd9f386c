# SPDX-License-Identifier: MIT
"""Bitmaps of page frames in a dump file. They are indexed, not loaded."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

from luoser.bits import bit_runs
from luoser.memory.flattened import known, stored
from luoser.memory.source import ByteSource

__all__ = ["FrameBitmap"]

_BLOCK = 4096
"""Bytes of a block. The index has, for each block, the number of ones before it."""
_BITS = 8 * _BLOCK
_STRIDE = 64
"""Bytes of a stride. A block that is in use has, for each stride, the number of ones before it in the block."""
_RECENT = 8
"""Blocks in use, whose bytes are kept: frames are looked up near each other."""


class FrameBitmap:
    """One bit for each page frame, least significant bit first.

    size:  number of frames before the first one whose bit is not in a truncated file.
    count: number of frames that are set.

    The bitmap of 1 TiB of memory has 32 MiB, so it stays in the file. Blocks without ones are not indexed.
    """

    def __init__(self, source: ByteSource, start: int, frames: int) -> None:
        """start: offset of the bitmap in the file. frames: number of bits."""
        self._source, self._start = source, start
        begin, end = next(known(source, start, start + -(-frames // 8)), (start, start))
        self.size = min(frames, 8 * (end - start)) if begin == start else 0
        self.count = 0
        self._recent = lru_cache(maxsize=_RECENT)(self._counted)
        self._blocks, self._before = array("Q"), array("Q")
        for number in self._stored_blocks():
            ones = int.from_bytes(self._block(number), "little").bit_count()
            if ones:
                self._blocks.append(number)
                self._before.append(self.count)
                self.count += ones

    def _stored_blocks(self) -> Iterator[int]:
        following = 0
        for low, high in stored(self._source, self._start, self._start + -(-self.size // 8)):
            first, last = (low - self._start) // _BLOCK, (high - 1 - self._start) // _BLOCK
            yield from range(max(first, following), last + 1)
            following = max(following, last + 1)

    def _block(self, number: int, size: int | None = None) -> bytes:
        """The bytes of a block. Bits from frame `size` on are cleared."""
        size = self.size if size is None else size
        start, end = number * _BLOCK, min((number + 1) * _BLOCK, -(-size // 8))
        raw = self._source[self._start + start : self._start + end]
        if size % 8 and end == -(-size // 8):
            raw = raw[:-1] + bytes([raw[-1] & ((1 << size % 8) - 1)])
        return raw

    def __contains__(self, frame: int) -> bool:
        if not 0 <= frame < self.size:
            return False
        raw, _ = self._recent(frame // _BITS)
        return bool(raw[frame % _BITS >> 3] >> (frame & 7) & 1)

    def rank(self, frame: int) -> int:
        """Number of set frames below this one."""
        frame = min(frame, self.size)
        number = frame // _BITS
        index = bisect_left(self._blocks, number)
        if index == len(self._blocks) or self._blocks[index] != number:
            return self._before[index] if index < len(self._blocks) else self.count
        raw, counts = self._recent(number)
        stride, bit = divmod(frame % _BITS, 8 * _STRIDE)
        bits = int.from_bytes(raw[stride * _STRIDE : (stride + 1) * _STRIDE], "little")
        return self._before[index] + counts[stride] + (bits & ((1 << bit) - 1)).bit_count()

    def _counted(self, number: int) -> tuple[bytes, list[int]]:
        """The bytes of a block, and the number of ones in it before each stride."""
        raw = self._block(number)
        strides = (raw[start : start + _STRIDE] for start in range(0, len(raw), _STRIDE))
        return raw, list(accumulate((int.from_bytes(one, "little").bit_count() for one in strides), initial=0))

    def frame_of(self, rank: int) -> int:
        """The set frame that has `rank` set frames below it. Raises IndexError unless 0 <= rank < count."""
        index = bisect_right(self._before, rank) - 1
        left = rank - self._before[index]
        for first, count in bit_runs(self._block(self._blocks[index])):
            if left < count:
                return self._blocks[index] * _BITS + first + left
            left -= count
        raise IndexError(rank)

    def runs(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
        """(first frame, number of frames) of set frames in [first, last). A run can be split at a block boundary.

        last: None is the end of the bitmap.
        """
        last = self.size if last is None else last
        for index in range(bisect_left(self._blocks, first // _BITS), len(self._blocks)):
            start = self._blocks[index] * _BITS
            if start >= last:
                return
            for begin, count in bit_runs(self._block(self._blocks[index])):
                low, high = max(first, start + begin), min(last, start + begin + count)
                if low < high:
                    yield low, high - low

    def agrees(self, other: FrameBitmap) -> bool:
        """Whether all bits that are known in both bitmaps are equal."""
        size = min(self.size, other.size)
        end = -(-size // _BITS)
        numbers = {number for blocks in (self._blocks, other._blocks) for number in blocks if number < end}
        return all(self._block(number, size) == other._block(number, size) for number in numbers)
