# SPDX-License-Identifier: MIT
"""LiME, AVML, VMware files and luoser's own cuts, damaged where they say what is where: inspect, extract, memfds.

Nothing but luoser's own errors is raised, nothing takes long, and what can be read is read alike from a cut.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache

import pytest

import luoser
from luoser.errors import PageState, SourceError, UsageError
from luoser.extracts.core import write_core
from luoser.extracts.memfd import write_memfd
from luoser.memory.avml import AvmlMemory
from luoser.memory.elf import ElfMemory
from luoser.memory.lime import LimeMemory
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.memory.vmware import VmwareMemory
from luoser.state import State, to_document
from tests import real
from tests.fuzz.containers import avml_places, elf_places, lime_places
from tests.memory import writers
from tests.work import processor_time

NAME = "7.3-a/frozen"
ROUNDS = 16
"""Damaged copies of each format."""
LONGEST = 50
"""No single one may take more processor time than so many undamaged ones."""
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 4096, 1 << 40, 1 << 52, 1 << 63, (1 << 64) - 1]


@cache
def spans() -> tuple[tuple[int, bytes], ...]:
    memory = real.dump(NAME)
    return tuple((part.start, memory.read(part.start, part.size)) for part in memory.segments)


def cut_of(memory: Memory, pages: set[int]) -> bytes:
    file = io.BytesIO()
    write_core(file, memory, pages)
    return file.getvalue()


def own_cut() -> tuple[bytes]:
    memory = real.overlay(NAME)
    memory.remove(real.read(NAME).handovers[0].pci[0].address, state=PageState.EXCLUDED)
    recorder = Recorder(memory)
    luoser.read(recorder, contents=True)
    return (cut_of(memory, recorder.asked),)


@cache
def sound(kind: str) -> tuple[bytes, ...]:
    return {
        "lime": lambda: (writers.lime(spans()),),
        "avml": lambda: (writers.avml(spans(), most=1 << 20),),
        "vmware": lambda: writers.vmware(spans()),
        "elf": own_cut,
    }[kind]()


@cache
def places(kind: str) -> list[int]:
    """Offsets in the last file that say what is where."""
    found: dict[str, Callable[[bytes], Iterator[int]]] = {
        "lime": lime_places,
        "avml": avml_places,
        "vmware": lambda data: iter(range(len(data))),
        "elf": elf_places,
    }
    return list(found[kind](sound(kind)[-1]))


def damaged(kind: str, seed: int) -> list[bytes]:
    rng = random.Random(f"{kind} {seed}")
    data = bytearray(sound(kind)[-1])
    for _ in range(rng.choice([1, 1, 2, 4, 12])):
        place = rng.choice(places(kind)) if rng.random() < 0.85 else rng.randrange(len(data))
        size = rng.choice([1, 2, 4, 8])
        how = rng.randrange(6)
        if how == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[place : place + size] = rng.choice(NUMBERS).to_bytes(8, "little")[:size]
        elif how == 2:
            other = rng.choice(places(kind))
            data[place : place + 8 * size] = data[other : other + 8 * size]
        elif how == 3:
            del data[1 + rng.randrange(len(data)) :]
        elif how == 4:
            del data[1 + place : 1 + place + size]
        else:
            data[place:place] = rng.randbytes(size)
    return [*sound(kind)[:-1], bytes(data)]


OPEN: dict[str, Callable[..., Memory]] = {
    "lime": lambda data: LimeMemory("x", data),
    "avml": lambda data: AvmlMemory("x", data),
    "vmware": lambda vmem, state: VmwareMemory("x", vmem, "y", state),
    "elf": lambda data: ElfMemory("x", data),
}


def use(memory: Memory) -> State:
    """What `inspect` and `extract` do with a source."""
    recorder = Recorder(memory)
    state = luoser.read(recorder, contents=True)
    found = to_document(state, full=True)["handovers"]
    if state.handovers:
        cut = ElfMemory("cut", cut_of(memory, recorder.asked))
        assert to_document(luoser.read(cut, contents=True), full=True)["handovers"] == found
    for handover in state.handovers[:1]:
        for session in handover.luo.sessions[:3] if handover.luo is not None else ():
            for file in session.files[:3]:
                put_together(memory, state, f"{session.name}/{file.token}")
    assert len(memory.remarks) < 60 and all(len(remark) < 400 and remark.isprintable() for remark in memory.remarks)
    return state


def put_together(memory: Memory, state: State, name: str) -> None:
    with tempfile.TemporaryFile() as file:
        try:
            said = write_memfd(file, memory, state, name)
        except UsageError as error:
            said = str(error)
        assert said.isprintable() and len(said) < 800


@pytest.mark.parametrize("kind", OPEN)
def test_sound_file_is_used_whole(kind: str) -> None:
    assert use(OPEN[kind](*sound(kind))).handovers


@pytest.mark.parametrize("kind", OPEN)
def test_damaged_file_raises_nothing_else_and_takes_no_time(kind: str) -> None:
    sound_file = OPEN[kind](*sound(kind))
    used, peer = 0, processor_time(lambda: use(sound_file), rounds=2)
    for seed in range(ROUNDS):
        begun = time.thread_time()
        try:
            used += bool(use(OPEN[kind](*damaged(kind, seed))).handovers)
        except SourceError as error:
            assert str(error).isprintable()
        except Exception as error:
            raise AssertionError(f"damaged({kind!r}, {seed}): {error!r}") from error
        assert time.thread_time() - begun < LONGEST * peer, f"damaged({kind!r}, {seed}) took too long"
    assert used, "no damaged copy was read at all"
