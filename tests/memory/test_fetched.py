# SPDX-License-Identifier: MIT
"""Memory that is asked for part by part. What QMP and a debugger stub make of it is in their tests."""

from __future__ import annotations

import pytest

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory.fetched import FetchedMemory

DATA = b"".join(bytes([number]) * 4096 for number in range(1, 65)) + bytes(4096)
BASE = 0x10000


class Fetched(FetchedMemory):
    """DATA in two segments with a hole between them. asked: (address, size) of what was fetched."""

    format = "fetched"

    def __init__(self) -> None:
        super().__init__("fetched")
        self.asked: list[tuple[int, int]] = []
        self._cover([(BASE, BASE + 0x20000), (BASE + 0x30000, BASE + len(DATA))])

    def _fetch(self, address: int, size: int) -> bytes:
        self.asked.append((address, size))
        return DATA[address - BASE :][:size]


def test_windows_are_of_one_segment_and_fetched_once() -> None:
    memory = Fetched()
    assert memory.read(BASE + 0xFFFE, 4) == DATA[0xFFFE:0x10002]
    assert memory.read(BASE + 0x3FFFF, 2) == DATA[0x3FFFF:0x40001]
    assert memory.read(BASE, 1) == b"\1"
    assert memory.asked == [(BASE, 0x10000), (0x20000, 0x10000), (0x40000, 0x10000), (0x50000, 0x1000)]


def test_what_no_segment_covers_is_absent() -> None:
    memory = Fetched()
    assert [memory.page_state(BASE + at) for at in (0x1FFFF, 0x20000, 0x30000)] == [
        PageState.PRESENT,
        PageState.ABSENT,
        PageState.PRESENT,
    ]
    with pytest.raises(MissingMemory) as caught:
        memory.read(BASE + 0x1FFF0, 0x20)
    assert caught.value.address == BASE + 0x20000


def test_searches_find_pages_and_patterns() -> None:
    memory = Fetched()
    assert list(memory.find_pages(b"\3")) == [BASE + 0x2000]
    assert list(memory.find_pages(b"\x28")) == []  # in the hole
    assert list(memory.find(b"\1\2")) == [BASE + 0xFFF]
    assert list(memory.find(b"\x20\x31")) == []  # over the hole


def test_a_search_shows_its_progress() -> None:
    memory, seen = Fetched(), list[tuple[int, int]]()
    memory.on_progress = lambda done, total: seen.append((done, total))
    list(memory.find(b"\1\2"))
    total = len(DATA) - 0x10000
    assert seen == [(0x20000, total), (total, total)]


@pytest.mark.parametrize("pattern", [b"", b"\0\0"])
def test_search_for_zeros_is_refused(pattern: bytes) -> None:
    for search in (Fetched().find, Fetched().find_pages):
        with pytest.raises(SourceError, match="expected a"):
            next(search(pattern))


def test_amount_of_memory_has_a_limit() -> None:
    with limited(Limits(guest_size=100)), pytest.raises(SourceError, match="at most 100 bytes; --limit guest_size=N"):
        Fetched()
