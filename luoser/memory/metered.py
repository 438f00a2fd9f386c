# SPDX-License-Identifier: MIT
"""A source of which no more is read than its size is worth: zeros that are not stored cost nothing to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from luoser.errors import LimitError, PageState
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory, Segment

__all__ = ["Metered"]

_TIMES = 16
"""Each byte that a source holds may be read so many times."""
_LEAST = 512
"""Bytes that the smallest read counts for, so that the number of reads is bounded, too."""


class Metered(Memory):
    """Another source, unchanged, until too much was read.

    is_spent: whether a read was refused, with LimitError.
    """

    def __init__(self, below: Memory) -> None:
        super().__init__(below.path)
        self._below = below
        self.format, self.page_size, self.machine = below.format, below.page_size, below.machine
        self.known_roots, self.placeless, self.symbols = below.known_roots, below.placeless, below.symbols
        self.live, self.is_guess = below.live, below.is_guess
        self.info_note, self.answers = below.info_note, below.answers
        self.vmcoreinfo, self.ram, self.remarks = below.vmcoreinfo, below.ram, below.remarks
        self.is_spent = False
        self._held = below.held
        self._left = LIMITS.read_bytes + _TIMES * self._held

    def read(self, address: int, size: int) -> bytes:
        self._left -= max(size, _LEAST)
        if self._left < 0:
            self.is_spent = True
            raise LimitError(address, f"not read: too much was read of this source; {how_to_raise('read_bytes')}")
        return self._below.read(address, size)

    @property
    def held(self) -> int:
        return self._held

    @property
    def is_partial(self) -> bool:
        return self._below.is_partial

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._below.segments

    def start_again(self) -> None:
        self._below.start_again()

    def remember(self, make: Callable[[], bytes]) -> None:
        self._below.remember(make)

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self._below.trial():
            yield

    def place(self, ranges: Sequence[Any]) -> None:
        self._below.place(ranges)
        self.ram = self._below.ram

    def page_state(self, address: int) -> PageState:
        return self._below.page_state(address)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        return self._below.find_pages(prefix, at=at)

    def find(self, pattern: bytes) -> Iterator[int]:
        return self._below.find(pattern)

    def close(self) -> None:
        self._below.close()
