# SPDX-License-Identifier: MIT
"""A source of which no more is read than its size is worth: zeros that are not stored cost nothing to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from luoser.budget import Budget
from luoser.errors import LimitError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.memory.wrapper import Wrapper

__all__ = ["Metered"]

_TIMES = 16
"""Each byte that a source holds may be read so many times."""
_LEAST = 512
"""Bytes that the smallest read counts for, so that the number of reads is bounded, too."""


class Metered(Wrapper):
    """Another source, unchanged, until too much was read.

    is_spent: whether a read was refused, with LimitError.
    """

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.is_spent = False
        self._budget = Budget(LIMITS.read_bytes, lambda: _TIMES * below.held)

    def read(self, address: int, size: int) -> bytes:
        counted = max(size, _LEAST)
        if self.is_spent or self._budget.take(counted) < counted:
            self.is_spent = True
            raise LimitError(address, f"not read: too much was read of this source; {how_to_raise('read_bytes')}")
        self._below.count(size)
        return self._below.read(address, size)

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
