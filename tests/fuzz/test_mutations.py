# SPDX-License-Identifier: MIT
"""Every real dump with its metadata damaged at random: nothing raises, nothing takes long.

Seeds are fixed, so that a failure names a case that fails again.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import cache

import pytest

import luoser
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import State, to_document
from tests import real
from tests.work import processor_time

ROUNDS = 16
"""Damaged copies of each dump."""
LONGEST = 50
"""No single one may take more processor time than so many undamaged ones."""
EXTREME = [
    0,
    1,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 52) - 4096,
    1 << 52,
    1 << 63,
    (1 << 64) - 4096,
    (1 << 64) - 1,
]


@cache
def metadata(name: str) -> tuple[int, ...]:
    """Addresses of all pages that a reader of the dump reads."""
    pages: set[int] = set()

    class Spy(Overlay):
        def read(self, address: int, size: int) -> bytes:
            pages.update(range(address & ~4095, address + size, 4096))
            return super().read(address, size)

    luoser.read(Spy(real.dump(name)))
    return tuple(sorted(page for page in pages if real.dump(name).page_state(page) == "present"))


Mutation = Callable[[random.Random, Overlay, tuple[int, ...]], None]


def some_place(rng: random.Random, memory: Overlay, pages: tuple[int, ...], size: int) -> int:
    """An address in metadata, mostly one that holds something."""
    for _ in range(20):
        place = rng.choice(pages) + rng.randrange(0, min(4096, rng.choice([64, 512, 4096]))) // size * size
        if any(memory.read(place, size)):
            break
    return place


def flip(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    place = some_place(rng, memory, pages, 1)
    memory.write(place, bytes([memory.read(place, 1)[0] ^ 1 << rng.randrange(8)]))


def extreme(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    size = rng.choice([4, 8])
    place = some_place(rng, memory, pages, size)
    value = rng.choice(EXTREME) & ((1 << 8 * size) - 1)
    memory.write(place, value.to_bytes(size, rng.choice(["little", "big"])))


def redirect(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    """Something becomes a pointer to another page of metadata: loops, shared nodes, wrong kinds."""
    memory.write(some_place(rng, memory, pages, 8), rng.choice(pages).to_bytes(8, "little"))


def swap(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    one, other = rng.choice(pages), rng.choice(pages)
    first, second = memory.read(one, 4096), memory.read(other, 4096)
    memory.write(one, second)
    memory.write(other, first)


def scribble(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    memory.write(rng.choice(pages), rng.choice([rng.randbytes(4096), b"\xff" * 4096, bytes(4096)]))


def small(rng: random.Random, memory: Overlay, pages: tuple[int, ...]) -> None:
    place = some_place(rng, memory, pages, 8)
    memory.write(
        place,
        max(0, int.from_bytes(memory.read(place, 8), "little") + rng.choice([-1, 1, 8, 4096])).to_bytes(9, "little")[
            :8
        ],
    )


MUTATIONS: list[Mutation] = [flip, flip, extreme, extreme, redirect, swap, scribble, small]


def damaged(name: str, seed: int) -> Overlay:
    rng = random.Random(f"{name} {seed}")
    memory = real.overlay(name)
    for _ in range(rng.choice([1, 1, 2, 4, 16, 64])):
        rng.choice(MUTATIONS)(rng, memory, metadata(name))
    return memory


def use(memory: Overlay, capsys: pytest.CaptureFixture[str]) -> State:
    """Everything that `inspect` does with a dump."""
    state = luoser.read(memory, contents=True)
    json.dumps(to_document(state, full=True), ensure_ascii=True)
    json.dumps(to_document(state), ensure_ascii=True)
    print_state(state)
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    for problem in state.problems:
        assert problem.code and problem.message and "\n" not in problem.message
    return state


@pytest.mark.parametrize("name", real.DUMPS)
def test_damaged_dump_is_read_without_an_exception_and_in_time(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = real.overlay(name)
    sound = processor_time(lambda: use(whole, capsys), rounds=2)
    for seed in range(ROUNDS):
        begun = time.thread_time()
        try:
            use(damaged(name, seed), capsys)
        except Exception as error:
            raise AssertionError(f"damaged({name!r}, {seed}): {error!r}") from error
        assert time.thread_time() - begun < LONGEST * sound, f"damaged({name!r}, {seed}) took too long"


@pytest.mark.parametrize("name", ["7.3-a/frozen", "6.18-a/frozen"])
def test_damage_is_noticed(name: str) -> None:
    """The mutations reach what the reader reads: most of them show in the document."""
    sound = to_document(luoser.read(real.dump(name), contents=True), full=True)
    found = (to_document(luoser.read(damaged(name, seed), contents=True), full=True) for seed in range(ROUNDS))
    changed = sum(document != sound for document in found)
    assert changed > ROUNDS // 2


@pytest.mark.parametrize("name", real.DUMPS)
def test_every_metadata_page_may_be_gone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pages = metadata(name)
    rng = random.Random(name)
    for page in rng.sample(pages, min(len(pages), 8)):
        memory = real.overlay(name)
        memory.remove(page)
        use(memory, capsys)
