# SPDX-License-Identifier: MIT
"""A source that is made of another one says all that the other says."""

from __future__ import annotations

import luoser
from luoser.memory.source import KnownRoot, Memory
from luoser.memory.wrapper import Wrapper
from tests import real

METHODS = {"start_again", "remember", "trial", "report", "on_progress", "file_data", "expansion"}
"""What a recorder, a search and a file have of their own."""


def test_every_attribute_of_a_source_is_passed_on() -> None:
    sound = luoser.open(real.path("7.3-a/frozen"))
    sound.known_roots = (KnownRoot(root=0x1000, incoming=True, evidence="told"),)
    sound.placeless, sound.symbols, sound.answers = frozenset({0x2000}), "System.map", b"answers"
    sound.live = sound.is_guess = True
    names = {name for name in Memory.__annotations__ if name not in METHODS}
    assert {name: getattr(Wrapper(sound), name) for name in names} == {name: getattr(sound, name) for name in names}


def test_bytes_states_and_searches_are_passed_on() -> None:
    sound = luoser.open(real.path("7.3-a/frozen"))
    memory = Wrapper(sound)
    place = sound.segments[0].start
    assert (memory.segments, memory.known_ram) == (sound.segments, sound.known_ram)
    assert (memory.read(place, 8), memory.page_state(place)) == (sound.read(place, 8), sound.page_state(place))
    magic = bytes.fromhex("d00dfeed")
    assert list(memory.find_pages(magic)) == list(sound.find_pages(magic)) != []
    assert list(memory.find(magic)) == list(sound.find(magic)) != []
