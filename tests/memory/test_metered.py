# SPDX-License-Identifier: MIT
"""The meter: the source below, until more was read than it is worth."""

from __future__ import annotations

import pytest

import luoser
from luoser.errors import LimitError, MissingMemory, PageState
from luoser.limits import Limits, limited
from luoser.memory.kdump import KdumpMemory
from luoser.memory.metered import Metered
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory, Segment, SegmentedMemory
from tests import real
from tests.memory import writers

PAGE = 4096


def sparse(stored: int, zeros: int) -> Memory:
    return SegmentedMemory("x", b"x" * stored, [Segment(0, stored, 0, stored), Segment(1 << 32, zeros, 0, 0)])


@pytest.fixture
def zeros() -> Memory:
    memory = sparse(PAGE, 1 << 40)
    memory.format = "x"
    return memory


def test_what_the_source_says_is_passed_on() -> None:
    sound = real.dump("7.3-a/frozen")
    memory = Metered(sound)
    assert (memory.path, memory.format, memory.page_size) == (sound.path, sound.format, sound.page_size)
    assert (memory.vmcoreinfo, memory.ram, memory.remarks) == (sound.vmcoreinfo, sound.ram, sound.remarks)
    assert (memory.segments, memory.held, memory.is_partial) == (sound.segments, sound.held, sound.is_partial)
    place = sound.segments[0].start
    assert (memory.page_state(place), memory.read(place, 8)) == (sound.page_state(place), sound.read(place, 8))


def test_zeros_that_are_not_stored_can_be_read_up_to_a_limit(zeros: Memory) -> None:
    with limited(Limits(read_bytes=1 << 20)):
        memory = Metered(zeros)
    assert memory.read(1 << 32, 1 << 20) == bytes(1 << 20)
    assert not memory.is_spent
    with pytest.raises(LimitError, match="--limit read_bytes=N") as caught:
        memory.read(1 << 33, 1 << 20)
    assert isinstance(caught.value, MissingMemory) and caught.value.state is PageState.EXCLUDED
    assert (caught.value.address, caught.value.page) == (1 << 33, 1 << 33)
    assert memory.is_spent


def test_many_small_reads_are_bounded_too(zeros: Memory) -> None:
    with limited(Limits(read_bytes=1 << 20)):
        memory = Metered(zeros)
    count = 0
    with pytest.raises(LimitError):
        for _ in range(10_000):
            memory.read(1 << 32, 1)
            count += 1
    assert count == ((1 << 20) + 16 * PAGE) // 512


def test_held_are_the_bytes_of_the_file() -> None:
    assert sparse(8 * PAGE, 1 << 40).held == 8 * PAGE
    twice = [Segment(start, PAGE, 0, PAGE) for start in range(0, 64 * PAGE, PAGE)]
    assert SegmentedMemory("x", bytes(PAGE), twice).held == PAGE


def test_pages_that_share_their_bytes_are_held_once() -> None:
    data = writers.kdump(dict.fromkeys(range(4096), b"same".ljust(PAGE, b"!")))
    memory = KdumpMemory("x", [("x", data)])
    assert memory.held == min(4096 * PAGE, 32 * len(data))
    assert luoser.read(memory).handovers == ()


def cut() -> SegmentedMemory:
    """Two pages, of which 0x100 to 0x200 and the second one are withheld, and an excluded one."""
    parts = [Segment(0, 0x100, 0, 0x100), Segment(0x200, 0xE00, 0x200, 0xE00)]
    gaps = [(0x100, 0x200), (0x1000, 0x2000), (0x2000, 0x3000)]
    memory = SegmentedMemory(
        "x", b"x" * PAGE, [*parts, *(Segment(start, end - start, 0, 0, PageState.EXCLUDED) for start, end in gaps)]
    )
    memory.format, memory.withheld = "x", tuple(gaps[:2])
    return memory


def test_a_text_stands_for_what_a_cut_withheld() -> None:
    memory = Metered(cut())
    assert memory.read(0xF8, 0x110) == b"x" * 8 + b"left out" * 32 + b"x" * 8
    assert memory.read(0x103, 8) == b"t outlef"
    assert memory.read(0xFF8, 0x18) == b"x" * 8 + b"left outleft out"
    assert memory.page_state(0x180) is memory.page_state(0x1000) is PageState.PRESENT


@pytest.mark.parametrize("address", [0x1FF8, 0x2000, 0x3000])
def test_nothing_stands_for_other_bytes(address: int) -> None:
    with pytest.raises(MissingMemory):
        Metered(cut()).read(address, 16)


def test_nothing_stands_for_them_where_bytes_are_shown() -> None:
    memory = Metered(cut())
    with memory.exactly():
        assert memory.page_state(0x180) is PageState.EXCLUDED
        with pytest.raises(MissingMemory) as caught:
            memory.read(0xF8, 16)
    assert caught.value.address == 0x100
    assert memory.read(0xF8, 16) == b"x" * 8 + b"left out"


def test_what_is_kept_is_passed_on() -> None:
    record = Recorder(real.dump("7.3-a/frozen"))
    memory = Metered(record)
    memory.keep(0x1000, 8)
    memory.keep(0x2000, 8, is_name=True)
    memory.note_stale(0x3000)
    assert (record.kept, record.names) == ({(0x1000, 8), (0x2000, 8)}, {(0x2000, 8)})
    assert record.stale_maps == {0x3000} and memory.is_recorded
