# SPDX-License-Identifier: MIT
"""Another source with some bytes replaced or removed, to see what luoser makes of a changed dump."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.errors import MissingMemory, PageState
from luoser.memory.source import Memory, Segment, swept
from luoser.memory.wrapper import Wrapper

__all__ = ["Overlay"]

_PAGE = 4096


class Overlay(Wrapper):
    """Another source with some pages rewritten or removed. The other source is not changed."""

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self._pages: dict[int, bytes] = {}
        self._gone: dict[int, PageState] = {}

    def write(self, address: int, data: bytes) -> None:
        """Replace bytes at a physical address. A page that the other source does not have starts as zeros."""
        for page in range(address // _PAGE * _PAGE, address + len(data), _PAGE):
            old = bytearray(self._page(page))
            low, high = max(address, page), min(address + len(data), page + _PAGE)
            old[low - page : high - page] = data[low - address : high - address]
            self._pages[page] = bytes(old)
            self._gone.pop(page, None)

    def remove(self, address: int, size: int = _PAGE, *, state: PageState = PageState.ABSENT) -> None:
        """Remove the pages of [address, address + size): reading them raises MissingMemory with this state."""
        for page in range(address // _PAGE * _PAGE, address + size, _PAGE):
            self._gone[page] = state
            self._pages.pop(page, None)

    def _page(self, page: int) -> bytes:
        if page in self._pages:
            return self._pages[page]
        try:
            return self._below.read(page, _PAGE)
        except MissingMemory:
            return bytes(_PAGE)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the other source with the changes applied. Offsets of rewritten pages have no meaning."""
        changed = [Segment(page, _PAGE, 0, _PAGE) for page in self._pages]
        changed += [Segment(page, _PAGE, 0, 0, state) for page, state in self._gone.items()]
        return tuple(swept([*changed, *self._below.segments])) if changed else self._below.segments

    def read(self, address: int, size: int) -> bytes:
        parts = []
        while size > 0:
            page = address // _PAGE * _PAGE
            take = min(size, page + _PAGE - address)
            if page in self._gone:
                raise MissingMemory(address, self._gone[page])
            if page in self._pages:
                parts.append(self._pages[page][address - page : address - page + take])
            else:
                parts.append(self._below.read(address, take))
            address, size = address + take, size - take
        return b"".join(parts)

    def page_state(self, address: int) -> PageState:
        page = address // _PAGE * _PAGE
        if page in self._gone:
            return self._gone[page]
        return PageState.PRESENT if page in self._pages else self._below.page_state(address)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        below = (page for page in self._below.find_pages(prefix, at=at) if not self._changed(page))
        own = (page for page, data in self._pages.items() if data[at:].startswith(prefix))
        yield from sorted({*below, *own})

    def find(self, pattern: bytes) -> Iterator[int]:
        size = len(pattern)
        below = (place for place in self._below.find(pattern) if not any(map(self._changed, (place, place + size - 1))))
        yield from sorted({*below, *self._find_own(pattern)})

    def _find_own(self, pattern: bytes) -> Iterator[int]:
        """Matches that include bytes of a rewritten page. They can begin before it and end after it."""
        reach = len(pattern) - 1
        for page in self._pages:
            before, after = self._edge(page - reach, reach), self._edge(page + _PAGE, reach)
            start, window = page - len(before), before + self._pages[page] + after
            place = window.find(pattern)
            while place >= 0:
                yield start + place
                place = window.find(pattern, place + 1)

    def _edge(self, address: int, size: int) -> bytes:
        """Bytes next to a page. Empty unless all of them are known."""
        try:
            return self.read(address, size) if address >= 0 else b""
        except MissingMemory:
            return b""

    def _changed(self, address: int) -> bool:
        page = address // _PAGE * _PAGE
        return page in self._pages or page in self._gone
