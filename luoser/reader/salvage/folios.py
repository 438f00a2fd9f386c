# SPDX-License-Identifier: MIT
"""Whether the folios of a salvaged memfd can be those of one file: by themselves, and as a map has them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain

from luoser.state import Memfd, PreservedMap
from luoser.text import counted

__all__ = ["Frames", "differs_from_map", "does_not_tile", "last_folio", "spans", "within"]

_LARGEST = 1 << 18
"""Pages of the largest folio: 1 GiB in pages of 4 KiB."""


class Frames:
    """A set of page frames, of some bits for each as long as they are near each other."""

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def add(self, frame: int) -> bool:
        """Add a frame. Whether it was in the set."""
        number, bit = frame >> _WORD, 1 << (frame & (1 << _WORD) - 1)
        word = self._words.get(number, 0)
        self._words[number] = word | bit
        return bool(word & bit)


_WORD = 9
"""Frames of a word of the set: 2^9, as in a large page."""


def spans(memfd: Memfd) -> Iterator[tuple[int, int, int]]:
    """(index in the file, physical address, pages up to the next folio) of each folio; the last one up to the end.

    memfd: with its folios in the order of their indices. Pages are those of its list.
    """
    folios = memfd.folios.list
    ends = (index for index, _, _ in folios.rows())
    next(ends, None)
    for (index, address, _), end in zip(folios.rows(), chain(ends, (_pages(memfd),)), strict=True):
        yield index, address, end - index


def last_folio(memfd: Memfd) -> tuple[int, int, int]:
    """(index in the file, physical address, pages up to the end) of the last folio. memfd: has one."""
    last = memfd.folios.list[-1]
    return last.index, last.address, _pages(memfd) - last.index


def _pages(memfd: Memfd) -> int:
    return -(-memfd.size // memfd.folios.list.page_size)


def does_not_tile(memfd: Memfd) -> str | None:
    """Why folios cannot be all pages of a file, in words. None: they can.

    A preserved file has no holes, and a folio of 2^n pages is a multiple of so many in the file and in memory. So each
    ends where the next one begins; only the last one may go on after the end.

    Source: docs/abi/memfd.md.
    """
    page, last, expected = memfd.folios.list.page_size, memfd.folios.count - 1, 0
    for number, (index, address, pages) in enumerate(spans(memfd)):
        if index != expected:
            return "its first folio is not at its beginning: the kernel preserves all pages of a file"
        size = 1 << (pages - 1).bit_length()
        frame, expected = address // page, index + pages
        if size > _LARGEST or index % size or frame % size:
            if number == last:
                return "its last folio ends before its size: the kernel preserves all pages of a file"
            return f"its folio {number} cannot reach to the next one: the kernel preserves all pages of a file"
        if number != last and size != pages:
            return f"its folio {number} would have {pages} pages, which is no power of two"
    return None


def differs_from_map(memfd: Memfd, preserved: PreservedMap) -> str | None:
    """How the folios of a file are not the blocks of a map, in words. None: each is a block that ends at the next.

    memfd:     with all its folios.
    preserved: the map that has its descriptor.
    """
    strange, last = 0, memfd.folios.count - 1
    orders = preserved.heads(memfd.folios.list.addresses())
    for number, ((_, _, pages), order) in enumerate(zip(spans(memfd), orders, strict=True)):
        size = 0 if order is None else 1 << order
        strange += size < pages if number == last else size != pages
    return None if not strange else f"{counted(strange, 'folio')} of it are not the blocks of the map that has it"


def within(places: Sequence[int], memfd: Memfd) -> Iterator[int]:
    """Those of some addresses that lie in the folios of a file. places: ascending."""
    page = memfd.folios.list.page_size
    for _, address, pages in spans(memfd):
        at = bisect_left(places, address)
        while at < len(places) and places[at] < address + pages * page:
            yield places[at]
            at += 1
