# SPDX-License-Identifier: MIT
"""A source of which no more is read than its size is worth: zeros that are not stored cost nothing to make.

Of a cut without contents, a text stands for what was withheld from its pages. So what the original had beside its
structures, or instead of them, is here, too; only what it was is not known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luoser.budget import Budget
from luoser.errors import LimitError, MissingMemory, PageState
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.memory.wrapper import Wrapper

__all__ = ["Metered"]

_TIMES = 16
"""Each byte that a source holds may be read so many times."""
_STAND_IN = b"left out"
"""Stands for withheld bytes: as a number it is no address of a page, as a text it has no end."""
_LEAST = 512
"""Bytes that the smallest read counts for, so that the number of reads is bounded, too."""


class Metered(Wrapper):
    """Another source, unchanged, until too much was read.

    is_spent: whether a read was refused, with LimitError.
    """

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.is_spent = False
        self._is_exact = False
        self._budget = Budget(LIMITS.read_bytes, lambda: _TIMES * below.held)

    def read(self, address: int, size: int) -> bytes:
        counted = max(size, _LEAST)
        if self.is_spent or self._budget.take(counted) < counted:
            self.is_spent = True
            raise LimitError(address, f"not read: too much was read of this source; {how_to_raise('read_bytes')}")
        self._below.count(size)
        try:
            return self._below.read(address, size)
        except MissingMemory as error:
            if self._is_exact or error.state is not PageState.EXCLUDED or not self.withholds(address, size):
                raise
        return self._completed(address, size)

    def _completed(self, address: int, size: int) -> bytes:
        """Bytes of which some are withheld, with what stands for them. Raises MissingMemory for others."""
        parts, end = list[bytes](), address + size
        number = max(0, bisect_right(self.withheld, (address, 1 << 65)) - 1)
        while address < end:
            start, stop = self.withheld[number] if number < len(self.withheld) else (end, end)
            number += 1
            if address < start:
                parts.append(self._below.read(address, min(start, end) - address))
                address = min(start, end)
            if address < min(stop, end):
                take = min(stop, end) - address
                parts.append((_STAND_IN * (take // 8 + 2))[address % 8 : address % 8 + take])
                address += take
        return b"".join(parts)

    def page_state(self, address: int) -> PageState:
        is_there = not self._is_exact and self.withholds(address, 1)
        return PageState.PRESENT if is_there else self._below.page_state(address)

    def keep(self, address: int, size: int, *, is_name: bool = False) -> None:
        self._below.keep(address, size, is_name=is_name)

    def note_stale(self, address: int) -> None:
        self._below.note_stale(address)

    @contextmanager
    def exactly(self) -> Iterator[None]:
        before, self._is_exact = self._is_exact, True
        try:
            yield
        finally:
            self._is_exact = before

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        self._below.count(self._below.held)
        return self._below.find_pages(prefix, at=at)

    def find(self, pattern: bytes) -> Iterator[int]:
        self._below.count(self._below.held)
        return self._below.find(pattern)

    @property
    def held(self) -> int:
        return self._below.held

    @property
    def is_partial(self) -> bool:
        return self._below.is_partial

    def start_again(self) -> None:
        self._below.start_again()

    def remember(self, make: Callable[[], bytes]) -> None:
        self._below.remember(make)

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self._below.trial():
            yield
