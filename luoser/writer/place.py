# SPDX-License-Identifier: MIT
"""Addresses for structures without one, and the list of preserved memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from luoser.errors import UsageError
from luoser.ranges import merged
from luoser.text import parse_size

__all__ = ["FIRST", "Placer", "blocks_of", "order_of"]

FIRST = {None: 16 << 20, "x86-64": 0x2000_0000, "arm64": 0x6000_0000}
"""First address that is assigned, by machine: where a kernel that boots with 1 GiB of memory has nothing of its own."""
_LIMIT = 1 << 52


def order_of(size: int, page_size: int) -> int:
    """The smallest order of a block that holds some bytes, as get_order() of the kernel.

    size:      bytes.
    page_size: bytes.
    """
    return max(0, (max(size, 1) - 1) // page_size).bit_length()


def blocks_of(start: int, size: int, page_size: int) -> Iterator[tuple[int, int]]:
    """(address, order) of the largest naturally aligned blocks that cover the pages of a range.

    start:     physical address.
    size:      bytes.
    page_size: bytes.
    """
    frame, end = start // page_size, -(-(start + size) // page_size)
    while frame < end:
        aligned = (frame & -frame).bit_length() - 1 if frame else 52
        order = min(aligned, (end - frame).bit_length() - 1)
        yield frame * page_size, order
        frame += 1 << order


class Placer:
    """Assigns addresses of unused pages, and collects the preserved memory.

    preserved: order by address of the preserved blocks.
    """

    def __init__(
        self, page_size: int, document: Any, *, taken: Iterable[tuple[int, int]] = (), base: int | None = None
    ) -> None:
        """page_size: bytes.

        document:  to build; all its addresses are in use.
        base:      first address that is assigned. None: 16 MiB.
        taken:     (address, bytes) of further ranges in use.
        """
        self.page_size = page_size
        self.preserved: dict[int, int] = {}
        self._taken = merged((start, start + size) for start, size in (*_named(document, page_size), *taken))
        self._next = FIRST[None] if base is None else base

    def take(self, size: int, *, order: int | None = None) -> int:
        """Physical address of unused pages.

        size:  bytes.
        order: alignment, as that of a block of this order. None: the order of a block of that size.

        Raises UsageError if all addresses are used up.
        """
        unit = self.page_size << (order_of(size, self.page_size) if order is None else order)
        length = -(-max(size, 1) // self.page_size) * self.page_size
        place = -(-self._next // unit) * unit
        while (end := self._in_the_way(place, place + length)) is not None:
            place = -(-end // unit) * unit
        if place + length > _LIMIT:
            raise UsageError("no physical addresses are left for the image")
        self._next = place + length
        return place

    def _in_the_way(self, start: int, end: int) -> int | None:
        index = bisect_left(self._taken, (start, 0))
        for first, last in self._taken[max(0, index - 1) : index + 1]:
            if first < end and start < last:
                return last
        return None

    def preserve(self, address: int, size: int) -> None:
        """Add preserved memory, as the largest naturally aligned blocks.

        address: physical.
        size:    bytes.
        """
        for start, order in blocks_of(address, size, self.page_size):
            self.preserved[start] = max(order, self.preserved.get(start, 0))

    def extents(self) -> list[list[Any]]:
        """The preserved memory as [address in hex, order, count], without blocks inside of larger ones."""
        made: list[list[Any]] = []
        end = 0
        for address, order in sorted(self.preserved.items()):
            if address < end:
                continue
            size = self.page_size << order
            last = made[-1] if made else None
            if last is not None and last[1] == order and last[0] + last[2] * size == address:
                last[2] += 1
            else:
                made.append([address, order, 1])
            end = address + size
        return [
            [f"{address:#x}", order, count] for address, order, count in sorted(made, key=lambda run: (run[1], run[0]))
        ]


_ADDRESSES = frozenset({"address", "data", "driver_data", "session_area", "flb_area", "start", "scratch_array"})
_LISTS = frozenset({"nodes", "blocks", "session_blocks", "chunks", "pages"})
_ROWS = {"extents": 0, "list": 1, "folios": 0}


def _named(value: Any, page_size: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of everything in a document that has an address."""
    if isinstance(value, list):
        for item in value:
            yield from _named(item, page_size)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name in _ADDRESSES:
            yield from _page(item, page_size, value.get("size"))
        elif name in _LISTS and isinstance(item, list):
            for entry in item:
                yield from _page(entry, page_size, None)
        elif name in _ROWS and isinstance(item, list):
            for row in item:
                if isinstance(row, list) and len(row) > 1:
                    order = (_count(row[1]) or 0) if name != "list" else 0
                    count = (_count(row[2]) or 0) if name == "extents" and len(row) > 2 else 1
                    yield from _page(row[_ROWS[name]], page_size, count * page_size << min(order, 40))
        else:
            yield from _named(item, page_size)


def _page(value: Any, page_size: int, size: Any) -> Iterator[tuple[int, int]]:
    address, length = _count(value), _count(size) or page_size
    if address is not None and 0 < address < _LIMIT:
        start = address - address % page_size
        yield start, -(-(address + min(length, _LIMIT) - start) // page_size) * page_size


def _count(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
