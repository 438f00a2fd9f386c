# SPDX-License-Identifier: MIT
"""The recorder: the source below, and which pages were asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import MissingMemory, PageState
from luoser.memory.kdump import KdumpMemory
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.state import to_document
from tests import real
from tests.images import Image
from tests.memory import writers

MAGIC = b"\xd0\x0d\xfe\xed"


@pytest.fixture(scope="module")
def below() -> Memory:
    image = Image(pages=16)
    for page in range(16):
        image.put(page * 4096, b"PAGE" + bytes([page]) * 4092)
    return image.open()


def test_what_the_source_says_is_passed_on() -> None:
    sound = real.dump("7.3-a/frozen")
    memory = Recorder(sound)
    assert (memory.path, memory.format, memory.page_size) == (sound.path, sound.format, sound.page_size)
    assert (memory.vmcoreinfo, memory.ram, memory.remarks) == (sound.vmcoreinfo, sound.ram, sound.remarks)
    assert memory.segments == sound.segments
    assert list(memory.find_pages(MAGIC)) == list(sound.find_pages(MAGIC))
    assert list(memory.find(MAGIC)) == list(sound.find(MAGIC))
    assert memory.page_state(0) is sound.page_state(0)
    assert (memory.pages, memory.missing) == (set(), {})


@given(st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 20_000)), max_size=8))
def test_pages_are_those_that_were_read(below: Memory, reads: list[tuple[int, int]]) -> None:
    memory, pages, lost = Recorder(below), set[int](), set[int]()
    for address, size in reads:
        if address + size <= 16 * 4096:
            assert memory.read(address, size) == below.read(address, size)
            pages |= {place // 4096 * 4096 for place in range(address, address + size)}
        elif size:
            with pytest.raises(MissingMemory):
                memory.read(address, size)
            pages |= {place // 4096 * 4096 for place in range(address, 16 * 4096)}
            lost.add(max(address, 16 * 4096) // 4096 * 4096)
    assert pages <= memory.pages <= pages | {address // 4096 * 4096 for address, size in reads if not size}
    assert set(memory.missing) == lost


@pytest.mark.parametrize("state", [PageState.EXCLUDED, PageState.ABSENT])
def test_missing_pages_keep_their_state(below: Memory, state: PageState) -> None:
    overlay = Overlay(below)
    overlay.remove(0x3000, state=state)
    memory = Recorder(overlay)
    for address in (0x3005, 0x2FFF):
        with pytest.raises(MissingMemory) as caught:
            memory.read(address, 0x100)
        assert caught.value.state is state
    assert memory.missing == {0x3000: state}
    assert memory.pages == {0x2000} and memory.asked == {0x2000, 0x3000}


def test_missing_page_is_the_one_asked_for_and_not_the_first_of_a_larger_one() -> None:
    data = writers.kdump({1: b"x" * 65536}, pack="plain", block=65536, ram=[0, 1])
    memory = Recorder(KdumpMemory("x", [("x", data)]))
    memory.read(0x1FFFF, 1)
    with pytest.raises(MissingMemory):
        memory.read(0x3005, 1)
    assert memory.missing == {0x3000: PageState.EXCLUDED}
    assert memory.asked == {0x3000, 0x1F000}


@pytest.mark.parametrize("name", real.DUMPS)
def test_recorded_pages_are_enough(name: str) -> None:
    """A source of these pages alone reads the same."""
    recorder = Recorder(real.dump(name))
    document = to_document(luoser.read(recorder, contents=True), full=True)
    only = Overlay(real.dump(name))
    for segment in only.segments:
        for page in range(segment.start, segment.end, 4096):
            if page not in recorder.pages:
                only.remove(page)
    only.ram = only.ram or tuple((segment.start, segment.end) for segment in only.segments)
    assert to_document(luoser.read(only, contents=True), full=True) == document


def test_source_below_is_closed() -> None:
    class Closing(Overlay):
        closed = False

        def close(self) -> None:
            self.closed = True

    memory = Closing(real.dump("7.3-a/frozen"))
    with Recorder(memory):
        pass
    assert memory.closed


def test_what_is_kept_in_a_trial_or_before_a_new_start_does_not_count(below: Memory) -> None:
    memory = Recorder(below)
    memory.keep(0x1000, 8, is_name=True)
    with memory.trial():
        memory.keep(0x2000, 8)
        memory.note_stale(0x3000)
    assert (memory.kept, memory.names, memory.stale_maps) == ({(0x1000, 8)}, {(0x1000, 8)}, set())
    memory.start_again()
    assert not memory.kept and not memory.names
