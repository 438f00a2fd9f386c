# SPDX-License-Identifier: MIT
"""A source that records which pages are read, to find out which pages a result depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from luoser.errors import MissingMemory, PageState
from luoser.memory.source import Memory
from luoser.memory.wrapper import Wrapper

__all__ = ["Recorder"]

_PAGE = 4096


class Recorder(Wrapper):
    """Another source, unchanged, with a record of the pages that were read.

    pages:   physical addresses of the 4 KiB pages that were read, also by a read that met a missing one after them.
    missing: state of each 4 KiB page that could not be read, by physical address.
    kept:    (physical address, size in bytes) of what belongs to what was read.
    names:   the same of the names in it that users chose.
    stale_maps: addresses of the maps that are stale.
    """

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.is_recorded = True
        self.pages: set[int] = set()
        self.missing: dict[int, PageState] = {}
        self.kept: set[tuple[int, int]] = set()
        self.names: set[tuple[int, int]] = set()
        self.stale_maps: set[int] = set()

    def place(self, ranges: Sequence[Any]) -> None:
        super().place(ranges)
        self.start_again()

    def start_again(self) -> None:
        for record in (self.pages, self.missing, self.kept, self.names, self.stale_maps):
            record.clear()

    def remember(self, make: Callable[[], bytes]) -> None:
        self.answers = make()

    @contextmanager
    def trial(self) -> Iterator[None]:
        before = set(self.pages), dict(self.missing), set(self.kept), set(self.names), set(self.stale_maps)
        yield
        self.pages, self.missing, self.kept, self.names, self.stale_maps = before

    def keep(self, address: int, size: int, *, is_name: bool = False) -> None:
        self.kept.add((address, size))
        if is_name:
            self.names.add((address, size))

    def note_stale(self, address: int) -> None:
        self.stale_maps.add(address)

    @property
    def asked(self) -> set[int]:
        """Physical addresses of all 4 KiB pages that were requested: those read and those missing."""
        return self.pages | self.missing.keys()

    @property
    def held(self) -> int:
        return self._below.held

    def read(self, address: int, size: int) -> bytes:
        try:
            data = self._below.read(address, size)
        except MissingMemory as error:
            gap = max(address, error.address) // _PAGE * _PAGE
            self.pages.update(range(address // _PAGE * _PAGE, gap, _PAGE))  # a cut without them would stop earlier
            self.missing[gap] = error.state
            raise
        self.pages.update(range(address // _PAGE * _PAGE, address + size, _PAGE))
        return data
