# SPDX-License-Identifier: MIT
"""A source without contents: of the pages that were read only what belongs to the structures of a handover.

What is not shown to be such a structure is left out. Zeros are kept: no reader takes them for more than nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from luoser.bits import is_zero
from luoser.errors import MissingMemory, PageState
from luoser.extracts.core import next_start
from luoser.memory.elf import parse_vmcoreinfo
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.memory.wrapper import Wrapper

__all__ = ["NO_CONTENTS", "Spared", "Still"]

NO_CONTENTS = "a cut without contents: it has structures of the handover and of the kernel only"
_PAGE = 4096
_END = 1 << 64
_INFO_LINE = re.compile(rb"[A-Z][A-Z0-9_-]*(\([A-Za-z0-9_.>-]+\))?=[ -~]{0,256}")
"""A line of VMCOREINFO."""


class Still(Wrapper):
    """A live source whose pages stay as they were read first: what is written is what was looked at."""

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        pages = range(address // _PAGE * _PAGE, address + size, _PAGE)
        for page in pages:
            if page not in self._pages:
                try:
                    self._pages[page] = self._below.read(page, _PAGE)
                except MissingMemory:  # a part of it may be there
                    return self._below.read(address, size)
        data = b"".join(self._pages[page] for page in pages)
        return data[address % _PAGE :][:size]


class Spared(Wrapper):
    """Another source, of which only some bytes are there: the others are withheld, or their pages excluded.

    pages: physical addresses of all 4 KiB pages that are in the cut, or that it says are excluded.
    """

    def __init__(
        self, below: Memory, record: Recorder, whole: Recorder, names: Mapping[tuple[int, int], bytes]
    ) -> None:
        """A source and what of it is kept.

        below:   the source.
        record:  what was read of it without contents.
        whole:   what was read of it with contents.
        names:   bytes that replace others, by (physical address, size in bytes).
        """
        super().__init__(below)
        kept = {page for start, size in record.kept for page in range(start // _PAGE * _PAGE, start + size, _PAGE)}
        read = record.asked | kept
        self._excluded = whole.pages - read
        self._names = sorted((start, data.ljust(size, b"\0")) for (start, size), data in names.items())
        self._longest = max((len(name) for _, name in self._names), default=0)
        self.pages = read | whole.asked
        self.stale = frozenset(record.stale_maps)
        found = [*_withheld(below, read, list(_merged(record.kept))), *below.withheld]
        self.withheld = tuple(_merged((start, end - start) for start, end in found))
        self.info_note = b"".join(line + b"\n" for line in below.info_note.split(b"\n") if _INFO_LINE.fullmatch(line))
        self.vmcoreinfo = parse_vmcoreinfo(self.info_note) if below.info_note else below.vmcoreinfo

    def read(self, address: int, size: int) -> bytes:
        end, gap = address + size, _END
        number = bisect_right(self.withheld, (address, _END)) - 1
        if number >= 0 and self.withheld[number][1] > address:
            gap = address
        elif number + 1 < len(self.withheld):
            gap = self.withheld[number + 1][0]
        for page in range(address // _PAGE * _PAGE, min(end, gap), _PAGE):
            if page in self._excluded:
                gap = min(gap, max(page, address))
                break
        if gap < end:
            self._below.read(address, gap - address)  # what is missing before it comes first
            raise MissingMemory(gap, PageState.EXCLUDED)
        return self._renamed(address, self._below.read(address, size))

    def _renamed(self, address: int, data: bytes) -> bytes:
        """Bytes with the names in them replaced."""
        if not self._names:
            return data
        made, end = bytearray(data), address + len(data)
        for start, name in self._names[bisect_right(self._names, (address - self._longest, b"")) :]:
            if start >= end:
                break
            low, high = max(start, address), min(start + len(name), end)
            if low < high:
                made[low - address : high - address] = name[low - start : high - start]
        return bytes(made)

    def page_state(self, address: int) -> PageState:
        if self.withholds(address, 1) or address // _PAGE * _PAGE in self._excluded:
            return PageState.EXCLUDED
        return self._below.page_state(address)


def _merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(start, end) of all bytes in ranges of (address, size), ascending and disjoint."""
    first = last = 0
    for start, size in sorted(ranges):
        if start > last:
            if last > first:
                yield first, last
            first, last = start, start + size
        last = max(last, start + size)
    if last > first:
        yield first, last


def _withheld(memory: Memory, pages: set[int], kept: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of pages that are not kept: from their first byte that is not zero on. Parts of zeros are not."""
    starts = [start for start, _ in kept]
    last: tuple[int, int] | None = None
    for page in sorted(pages):
        number = max(0, bisect_right(starts, page) - 1)
        edges = [page]
        while number < len(kept) and kept[number][0] < page + _PAGE:
            start, end = (min(max(place, page), page + _PAGE) for place in kept[number])
            edges += [start, end]
            number += 1
        edges.append(page + _PAGE)
        for start, end in list(pairwise(edges))[::2]:
            for part in _present(memory, start, end):
                if last is not None and last[1] == part[0]:
                    part = last[0], part[1]
                elif last is not None:
                    yield last
                last = part
    if last is not None:
        yield last


def _present(memory: Memory, start: int, end: int) -> Iterator[tuple[int, int]]:
    """[first byte that is not zero, end) of [start, end), and of its pieces if parts are not in the source."""
    while start < end:
        try:
            data, stop = memory.read(start, end - start), end
        except MissingMemory as error:
            stop = max(start, error.address)
            data = memory.read(start, stop - start) if stop > start else b""
        if not is_zero(data):
            yield start + len(data) - len(data.lstrip(b"\0")), stop
        start = next_start(memory, stop, end) if stop < end else end
