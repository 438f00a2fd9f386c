# SPDX-License-Identifier: MIT
"""A dump that lacks a page of the handover, or its end, is never sound.

The default run takes a sample with a fixed seed, `make test-slow` all of it.
"""

from __future__ import annotations

import lzma
import random
from functools import cache

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import PageState, SourceError
from luoser.memory.elf import ElfMemory
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.state import MapStatus
from tests import real
from tests.flips import DUMPS

PAGE = 4096
GONE = (PageState.EXCLUDED, PageState.DAMAGED, PageState.ABSENT)


def verdict(memory: Memory) -> Verdict | None:
    """None: no KHO root is left."""
    state = luoser.read(memory, contents=True)
    return check(state, ram=memory.known_ram).verdict if state.handovers else None


@cache
def metadata(name: str) -> tuple[int, ...]:
    """Pages that are read of the handovers with an intact map, and belong to them: the root, the map, what it covers.

    Not those that a source need not have: the array of scratch areas, setup_data, the command line.
    """
    pages = set[int]()
    for one in real.read(name).handovers:
        if one.preserved.status is not MapStatus.INTACT or one.preserved.map is None:
            continue
        recorder = Recorder(real.dump(name))
        luoser.read(recorder, root=one.address)
        own = {one.address, *one.preserved.nodes}
        pages |= {page for page in recorder.pages if page in own or one.preserved.map.find(page) is not None}
    return tuple(sorted(pages))


def sound_without(name: str, pages: tuple[int, ...], states: tuple[PageState, ...]) -> list[str]:
    found = []
    for page in pages:
        for state in states:
            memory = Overlay(real.dump(name))
            memory.remove(page, state=state)
            if verdict(memory) is Verdict.SOUND:
                found.append(f"{name}: page {page:#x} {state.value}")
    return found


@pytest.mark.parametrize("name", DUMPS)
def test_a_page_that_is_not_there_is_not_sound(name: str) -> None:
    rng = random.Random(name)
    pages = tuple(rng.sample(metadata(name), min(5, len(metadata(name)))))
    assert sound_without(name, pages, (rng.choice(GONE),)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DUMPS)
def test_no_page_that_is_not_there_is_sound(name: str) -> None:
    assert sound_without(name, metadata(name), GONE) == []


def sound_to(name: str, sizes: list[int], data: bytes) -> list[str]:
    found = []
    for size in sizes:
        try:
            memory = ElfMemory("x", data[:size])
        except SourceError:
            continue
        if verdict(memory) is Verdict.SOUND:
            found.append(f"{name}: {size} of {len(data)} bytes")
    return found


@pytest.mark.parametrize("name", DUMPS)
def test_a_truncated_dump_is_not_sound(name: str) -> None:
    data = lzma.decompress(real.path(name).read_bytes())
    sizes = random.Random(name).sample(range(PAGE, len(data), PAGE), 4)
    assert sound_to(name, [*sizes, len(data) - 1], data) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DUMPS)
def test_no_truncated_dump_is_sound(name: str) -> None:
    data = lzma.decompress(real.path(name).read_bytes())
    assert sound_to(name, list(range(PAGE, len(data), PAGE)), data) == []
