# SPDX-License-Identifier: MIT
"""A source that is made of another one: all that the other says of itself, and its bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luoser.errors import PageState
from luoser.memory.source import Memory, Segment

__all__ = ["Wrapper"]

_SAID = (
    "files",
    "format",
    "page_size",
    "vmcoreinfo",
    "info_note",
    "is_own_info",
    "machine",
    "ram",
    "remarks",
    "aftermath",
    "known_roots",
    "placeless",
    "symbols",
    "answers",
    "answers_from",
    "at_jump",
    "is_recorded",
    "withheld",
    "stale",
    "left_out",
    "live",
    "is_slow",
    "is_unsearched",
    "is_guess",
    "traffic",
)


class Wrapper(Memory):
    """Another source, unchanged. A subclass says what it does differently.

    What the source holds and whether it is partial is worked out of the segments, as for any source: a subclass that
    does not change them passes on the other source's own word.
    """

    def __init__(self, below: Memory) -> None:
        super().__init__(below.path)
        self._below = below
        for name in _SAID:
            setattr(self, name, getattr(below, name))

    def place(self, ranges: Sequence[Any]) -> None:
        self._below.place(ranges)
        self.ram = self._below.ram

    def count(self, size: int) -> None:
        self._below.count(size)

    @property
    def may_search(self) -> bool:
        return self._below.may_search

    def need_search(self, *why: str) -> None:
        self._below.need_search(*why)

    def read(self, address: int, size: int) -> bytes:
        return self._below.read(address, size)

    def page_state(self, address: int) -> PageState:
        return self._below.page_state(address)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        return self._below.find_pages(prefix, at=at)

    def find(self, pattern: bytes) -> Iterator[int]:
        return self._below.find(pattern)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._below.segments

    def close(self) -> None:
        self._below.close()
