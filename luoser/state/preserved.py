# SPDX-License-Identifier: MIT
"""The preserved map as a value: bitmaps of blocks, for both forms of the map."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import takewhile
from typing import NamedTuple

from luoser.bits import next_one, next_zero, run_ends

__all__ = ["Bitmap", "Block", "Extent", "PreservedMap"]

Extent = tuple[int, int, int]
"""(physical address, order, count): count adjacent blocks of 2^order pages."""


_FULL = (1 << 32768) - 1


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One bit per block of 2^order pages.

    order: of the blocks.
    start: physical address of bit 0. Bit i is for the block at start + (i * page_size << order).
    bits:  least significant bit first.
    """

    order: int
    start: int
    bits: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """One preserved block: 2^order pages at a physical address."""

    address: int
    order: int


class _Order(NamedTuple):
    """The bitmaps of one order.

    unit:    bytes of a block.
    span:    bytes of memory that a bitmap covers.
    bitmaps: by start // span.
    numbers: the keys, ascending.
    """

    unit: int
    span: int
    bitmaps: dict[int, Bitmap]
    numbers: list[int]


class PreservedMap:
    """The memory that a handover preserves.

    bitmaps:   from chunks or from the radix tree. They are kept as bits: counts and look-ups do not list the blocks.
    page_size: bytes.
    complete:  False: a part of the map could not be read, so that `entries` and `pages` are lower bounds.

    entries: number of preserved blocks. pages: number of their pages.
    """

    def __init__(self, bitmaps: Iterable[Bitmap], *, page_size: int, complete: bool = True) -> None:
        self.page_size, self.complete = page_size, complete
        self.bitmaps = tuple(sorted(bitmaps, key=lambda bitmap: (bitmap.order, bitmap.start)))
        index: dict[int, dict[int, Bitmap]] = {}
        self.entries = self.pages = count = 0
        last: bytes | None = None
        for bitmap in self.bitmaps:
            if bitmap.bits is not last:  # those of one extent are the same object
                last, count = bitmap.bits, int.from_bytes(bitmap.bits, "little").bit_count()
            self.entries += count
            self.pages += count << bitmap.order
            index.setdefault(bitmap.order, {})[bitmap.start // self._span(bitmap)] = bitmap
        self._orders = {
            order: _Order(page_size << order, self._span(next(iter(found.values()))), found, list(found))
            for order, found in index.items()
        }

    @classmethod
    def from_extents(cls, extents: Iterable[Extent], *, page_size: int, complete: bool = True) -> PreservedMap:
        """A map from extents, with bitmaps of 32768 bits.

        extents:   (physical address, order, count of blocks) in any order.
        page_size: bytes.
        complete:  as in the constructor.
        """
        made: dict[tuple[int, int], int] = {}
        for address, order, count in extents:
            first = address // (page_size << order)
            while count > 0:
                place = first & 32767
                take = min(count, 32768 - place)
                key = order, first >> 15
                made[key] = _FULL if take == 32768 else made.get(key, 0) | ((1 << take) - 1) << place
                first, count = first + take, count - take
        span = page_size << 15
        equal = {bits: bits.to_bytes(4096, "little") for bits in {bits for bits in made.values() if bits is not _FULL}}
        full = _FULL.to_bytes(4096, "little")
        bitmaps = (
            Bitmap(order, (number * span) << order, full if bits is _FULL else equal[bits])
            for (order, number), bits in made.items()
        )
        return cls(bitmaps, page_size=page_size, complete=complete)

    def __eq__(self, other: object) -> bool:
        """Whether both maps preserve the same blocks. The widths of their bitmaps may differ."""
        if not isinstance(other, PreservedMap):
            return NotImplemented
        mine, theirs = (self.entries, self.page_size, self.complete), (other.entries, other.page_size, other.complete)
        if mine != theirs:
            return False
        return self.bitmaps == other.bitmaps or list(self.extents()) == list(other.extents())

    __hash__ = None  # type: ignore[assignment]

    def _span(self, bitmap: Bitmap) -> int:
        return (len(bitmap.bits) * 8 * self.page_size) << bitmap.order

    def _at(self, address: int, *, order: int | None = None) -> tuple[Bitmap, int] | None:
        """(bitmap, number of the bit) of the block that holds an address. None: it is not preserved.

        order: of the block. None: any.
        """
        for unit, span, bitmaps, _ in self._orders.values() if order is None else (self._orders[order],):
            bitmap = bitmaps.get(address // span)
            if bitmap is not None:
                bit = (address - bitmap.start) // unit
                if bitmap.bits[bit >> 3] >> (bit & 7) & 1:
                    return bitmap, bit
        return None

    def find(self, address: int) -> Block | None:
        """The preserved block that holds a physical address. None: not preserved."""
        found = self._at(address)
        if found is None:
            return None
        bitmap, bit = found
        return Block(bitmap.start + bit * (self.page_size << bitmap.order), bitmap.order)

    def head(self, address: int) -> int | None:
        """Order of the preserved block that starts at a physical address. None: no block starts there."""
        for order in self._orders:
            if address % (self.page_size << order) == 0 and self._at(address, order=order) is not None:
                return order
        return None

    def heads(self, addresses: Iterable[int]) -> Iterator[int | None]:
        """As `head`, for many addresses. Fast where they follow each other as the blocks do."""
        start = end = 0
        unit, order = self.page_size, None
        for address in addresses:
            if start <= address < end and address % unit == 0:
                yield order
                continue
            follows, order = order is not None and address == start + unit, self.head(address)
            yield order
            start = end = address
            if order is not None:
                unit = self.page_size << order
                if follows:
                    end = self._end_of_run(order, address)

    def _end_of_run(self, order: int, address: int) -> int:
        """Where a run of blocks ends that holds no block of a lower order. address: of one of the blocks."""
        found = self._at(address, order=order)
        assert found is not None
        bitmap, bit = found
        end = bitmap.start + next_zero(bitmap.bits, bit) * (self.page_size << order)
        lower = self.first_within(address, end, below=order)
        return end if lower is None else address

    def gap(self, start: int, end: int) -> int | None:
        """First physical address of [start, end) that is not preserved. None: all of it is preserved."""
        while start < end:
            found = self._at(start)
            if found is None:
                return start
            bitmap, bit = found
            start = bitmap.start + next_zero(bitmap.bits, bit) * (self.page_size << bitmap.order)
        return None

    def covers(self, address: int, size: int) -> bool:
        """Whether every byte of [address, address + size) is preserved."""
        return self.gap(address, address + max(size, 1)) is None

    def first_within(self, start: int, end: int, *, below: int | None = None) -> Block | None:
        """The first block of the lowest order with a byte in a range. None: no such block.

        start: physical address.
        end:   physical address after the range.
        below: consider only orders below this. None: all orders.
        """
        for order, (unit, span, bitmaps, numbers) in self._orders.items():
            if below is not None and order >= below:
                break
            for place in range(bisect_left(numbers, start // span), len(numbers)):
                bitmap = bitmaps[numbers[place]]
                if bitmap.start >= end:
                    break
                address = bitmap.start + next_one(bitmap.bits, max(0, start - bitmap.start) // unit) * unit
                if address < min(end, bitmap.start + span):
                    return Block(address, order)
        return None

    def overlap(self) -> tuple[Block, Block] | None:
        """Two blocks that share memory, the one of lower order first. None: there are none."""
        lowest = next(iter(self._orders), 0)
        for address, order, count in self.extents(above=lowest):
            unit = self.page_size << order
            block = self.first_within(address, address + count * unit, below=order)
            if block is not None:
                return block, Block(max(address, block.address - block.address % unit), order)
        return None

    def by_address(self) -> Iterator[Extent]:
        """Runs of adjacent blocks of one order, by address."""

        def of(order: int) -> Iterator[Extent]:
            return takewhile(lambda extent: extent[1] == order, self.extents(above=order - 1))

        return merge(*map(of, self._orders))

    def extents(self, *, above: int = -1) -> Iterator[Extent]:
        """Runs of adjacent blocks, by order, then by address. above: yield only orders above this."""
        start = order = count = 0
        last, firsts, ends = b"", list[int](), list[int]()
        for bitmap in self.bitmaps:
            if bitmap.order <= above:
                continue
            if bitmap.bits is not last:
                last, (firsts, ends) = bitmap.bits, run_ends(bitmap.bits)
            if not firsts:
                continue
            unit, base = self.page_size << bitmap.order, bitmap.start
            address, length = base + firsts[0] * unit, ends[0] - firsts[0] + 1
            if count and bitmap.order == order and address == start + count * unit:
                count += length
            else:
                if count:
                    yield start, order, count
                start, order, count = address, bitmap.order, length
            if len(firsts) > 1:  # only the last one may go on in the next bitmap
                yield start, order, count
                if firsts is ends:
                    yield from [(base + first * unit, order, 1) for first in firsts[1:-1]]
                else:
                    middle = zip(firsts[1:-1], ends[1:-1], strict=True)
                    yield from [(base + first * unit, order, end - first + 1) for first, end in middle]
                start, count = base + firsts[-1] * unit, ends[-1] - firsts[-1] + 1
        if count:
            yield start, order, count

    def bits_at(self, order: int, start: int, count: int) -> int:
        """Which of `count` adjacent blocks are in the map, as a number; bit 0 is the block at `start`.

        order: of the blocks.
        start: physical address, aligned as the first block of a bitmap is.
        count: of blocks.
        """
        if order not in self._orders:
            return 0
        unit, span, bitmaps, _ = self._orders[order]
        made = 0
        for number in range(start // span, -(-(start + count * unit) // span)):
            if number in bitmaps:
                bits, shift = int.from_bytes(bitmaps[number].bits, "little"), (bitmaps[number].start - start) // unit
                made |= bits << shift if shift >= 0 else bits >> -shift
        return made & ((1 << count) - 1)

    def without(self, other: PreservedMap) -> PreservedMap:
        """The blocks of this map that are not blocks of the same order of another map. Only bits are compared."""

        def left() -> Iterator[Bitmap]:
            for bitmap in self.bitmaps:
                size = len(bitmap.bits)
                taken = other.bits_at(bitmap.order, bitmap.start, 8 * size)
                if bits := int.from_bytes(bitmap.bits, "little") & ~taken:
                    yield Bitmap(bitmap.order, bitmap.start, bits.to_bytes(size, "little"))

        return PreservedMap(left(), page_size=self.page_size, complete=self.complete)
