# SPDX-License-Identifier: MIT
"""Pages for what has no address yet, and the list of what a kernel would preserve."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from luoser.errors import UsageError
from luoser.text import parse_size

__all__ = ["Placer", "blocks_of", "order_of"]

_FIRST = 16 << 20
"""Where assigned pages start: above what firmware and boot code use on a PC."""
_LIMIT = 1 << 52


def order_of(size: int, page_size: int) -> int:
    """The kernel's get_order: the smallest order whose block holds `size` bytes."""
    return max(0, (max(size, 1) - 1) // page_size).bit_length()


def blocks_of(start: int, size: int, page_size: int) -> Iterator[tuple[int, int]]:
    """(address, order) of the largest naturally aligned blocks that make up whole pages."""
    frame, end = start // page_size, -(-(start + size) // page_size)
    while frame < end:
        aligned = (frame & -frame).bit_length() - 1 if frame else 52
        order = min(aligned, (end - frame).bit_length() - 1)
        yield frame * page_size, order
        frame += 1 << order


class Placer:
    """Gives out pages that nothing else uses, and keeps what was preserved."""

    def __init__(self, page_size: int, document: Any, *, taken: Iterable[tuple[int, int]] = ()) -> None:
        """document: what is to be built; every address in it is taken. taken: (address, bytes) of what is besides."""
        self.page_size = page_size
        self.preserved: dict[int, int] = {}
        self._taken = _merged((start, start + size) for start, size in (*_named(document, page_size), *taken))
        self._next = _FIRST

    def take(self, size: int, *, order: int | None = None) -> int:
        """The address of free pages for `size` bytes, aligned as a block of that order (by default get_order's)."""
        unit = self.page_size << (order_of(size, self.page_size) if order is None else order)
        length = -(-max(size, 1) // self.page_size) * self.page_size
        place = -(-self._next // unit) * unit
        while (behind := self._in_the_way(place, place + length)) is not None:
            place = -(-behind // unit) * unit
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
        """Note what the kernel preserves: naturally aligned blocks, as large as they get."""
        for start, order in blocks_of(address, size, self.page_size):
            self.preserved[start] = max(order, self.preserved.get(start, 0))

    def extents(self) -> list[list[Any]]:
        """[address, order, count] of all that is preserved, without what lies in a larger block."""
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


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges by address, those that touch or overlap as one."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return made


_ADDRESSES = frozenset({"address", "data", "driver_data", "session_area", "flb_area", "start"})
_LISTS = frozenset({"nodes", "blocks", "session_blocks", "chunks", "pages"})
_ROWS = {"extents": 0, "list": 1, "folios": 0}


def _named(value: Any, page_size: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of everything that a document gives an address."""
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
