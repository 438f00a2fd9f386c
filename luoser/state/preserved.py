# SPDX-License-Identifier: MIT
"""The preserved map as a value: bitmaps of blocks, whatever form they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luoser.bits import bit_runs

__all__ = ["Bitmap", "Block", "Extent", "PreservedMap"]

Extent = tuple[int, int, int]
"""(physical address, order, count): count blocks of 2^order pages, one behind the other."""


@dataclass(frozen=True, slots=True)
class Bitmap:
    """Bit i (least significant first) stands for the 2^order pages at start + (i * page_size << order)."""

    order: int
    start: int
    bits: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """One preserved block: 2^order pages at a physical address."""

    address: int
    order: int


class PreservedMap:
    """What a handover preserves, as read from chunks or from the radix tree.

    Bits are kept as they came; counting and look-ups work on them without making a list of blocks.
    complete: False where a part of the map could not be read, so that entries and pages are lower bounds.
    """

    def __init__(self, bitmaps: Iterable[Bitmap], *, page_size: int, complete: bool = True) -> None:
        self.page_size, self.complete = page_size, complete
        self.bitmaps = tuple(sorted(bitmaps, key=lambda bitmap: (bitmap.order, bitmap.start)))
        self._index: dict[int, dict[int, Bitmap]] = {}
        self.entries = self.pages = 0
        for bitmap in self.bitmaps:
            count = int.from_bytes(bitmap.bits, "little").bit_count()
            self.entries += count
            self.pages += count << bitmap.order
            self._index.setdefault(bitmap.order, {})[bitmap.start // self._span(bitmap)] = bitmap

    @classmethod
    def from_extents(cls, extents: Iterable[Extent], *, page_size: int) -> PreservedMap:
        """The map of given extents, as bitmaps of 32768 bits."""
        made: dict[tuple[int, int], bytearray] = {}
        for address, order, count in extents:
            first = address // (page_size << order)
            for bit in range(first, first + count):
                bits = made.setdefault((order, bit >> 15), bytearray(4096))
                bits[(bit & 32767) >> 3] |= 1 << (bit & 7)
        span = page_size << 15
        return cls(
            (Bitmap(order, (number * span) << order, bytes(bits)) for (order, number), bits in made.items()),
            page_size=page_size,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PreservedMap):
            return NotImplemented
        mine, theirs = (self.bitmaps, self.page_size, self.complete), (other.bitmaps, other.page_size, other.complete)
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]

    def _span(self, bitmap: Bitmap) -> int:
        return (len(bitmap.bits) * 8 * self.page_size) << bitmap.order

    def find(self, address: int) -> Block | None:
        """The preserved block that holds a physical address, or None."""
        for order, index in self._index.items():
            unit = self.page_size << order
            some = next(iter(index.values()))
            bitmap = index.get(address // self._span(some))
            if bitmap is not None:
                bit = (address - bitmap.start) // unit
                if bitmap.bits[bit >> 3] >> (bit & 7) & 1:
                    return Block(bitmap.start + bit * unit, order)
        return None

    def covers(self, address: int, size: int) -> bool:
        """Whether every byte of [address, address + size) is preserved."""
        end = address + max(size, 1)
        while address < end:
            block = self.find(address)
            if block is None:
                return False
            address = block.address + (self.page_size << block.order)
        return True

    def extents(self) -> Iterator[Extent]:
        """Runs of neighbouring blocks, by order, then by address."""
        start = order = count = 0
        for bitmap in self.bitmaps:
            unit = self.page_size << bitmap.order
            for first, length in bit_runs(bitmap.bits):
                address = bitmap.start + first * unit
                if count and bitmap.order == order and address == start + count * unit:
                    count += length
                    continue
                if count:
                    yield start, order, count
                start, order, count = address, bitmap.order, length
        if count:
            yield start, order, count
