# SPDX-License-Identifier: MIT
"""What explains that a thing is gone is damage in its own place; that of another thing explains nothing."""

from __future__ import annotations

from itertools import pairwise

import luoser
from luoser.abi import luo as abi
from luoser.changes import Kind, compare
from luoser.changes.sides import path_part
from luoser.memory.overlay import Overlay
from luoser.state import Luo, State
from tests import real

BEFORE, AFTER = "7.3-chain/frozen", "7.3-chain/post"


def luo_of(state: State) -> Luo:
    luo = state.handovers[0].luo
    assert luo is not None
    return luo


def kinds(memory: Overlay, where: str) -> list[Kind]:
    """How the change of one path counts between a real handover and what is left of it after the kexec."""
    found = compare(real.read(BEFORE), luoser.read(memory))
    return [change.kind for change in found.changes if change.where == where]


def without_last_session(memory: Overlay) -> str:
    """The block counts one session less; gives the name of the one that is gone."""
    block = luo_of(real.read(AFTER)).session_blocks[0]
    count = int.from_bytes(memory.read(block + 8, 8), "little")
    memory.write(block + 8, (count - 1).to_bytes(8, "little"))
    return luo_of(real.read(AFTER)).sessions[-1].name


def damage_files(memory: Overlay, name: str) -> None:
    """The block of a session's files counts none."""
    session = next(session for session in luo_of(real.read(AFTER)).sessions if session.name == name)
    memory.write(session.blocks[0] + 8, bytes(8))


def test_a_lost_session_is_lost_though_the_files_of_another_are_damaged() -> None:
    memory = real.overlay(AFTER)
    lost = without_last_session(memory)
    damage_files(memory, "vm-web-01")
    assert kinds(memory, f"luo/sessions/{path_part(lost)}") == [Kind.REMOVED]


def test_a_lost_session_is_lost_though_the_entry_of_another_is_damaged() -> None:
    memory = real.overlay(AFTER)
    lost = without_last_session(memory)
    first = luo_of(real.read(AFTER)).sessions[0].address
    memory.write(first or 0, b"\xff" * abi.luo_session_ser.size)
    assert kinds(memory, f"luo/sessions/{path_part(lost)}") == [Kind.REMOVED]


def test_a_session_whose_own_entry_is_damaged_is_progress() -> None:
    memory = real.overlay(AFTER)
    session = luo_of(real.read(AFTER)).sessions[-1]
    memory.write(session.address or 0, b"\xff" * abi.luo_session_ser.size)
    assert kinds(memory, f"luo/sessions/{path_part(session.name)}") == [Kind.PROGRESS]


def test_sessions_of_a_block_that_was_reused_are_progress() -> None:
    memory = real.overlay(AFTER)
    luo = luo_of(real.read(AFTER))
    memory.write(luo.session_blocks[0], b"#!/bin/sh\n" * 400)
    assert kinds(memory, "luo/sessions/vm-web-01") == [Kind.PROGRESS]


def test_a_lost_file_is_lost_though_another_session_is_damaged() -> None:
    memory = real.overlay(AFTER)
    sessions = [session for session in luo_of(real.read(AFTER)).sessions if len(session.files) > 1]
    for one, other in pairwise(sessions[:2]):
        block = one.blocks[0]
        count = int.from_bytes(memory.read(block + 8, 8), "little")
        memory.write(block + 8, (count - 1).to_bytes(8, "little"))
        memory.write(other.blocks[0] + 8, bytes(8))
        gone = one.files[-1].token
        assert kinds(memory, f"luo/sessions/{one.name}/files/{gone:#x}") == [Kind.REMOVED]
        assert kinds(memory, f"luo/sessions/{other.name}/files/{other.files[0].token:#x}") == [Kind.PROGRESS]


def test_an_flb_is_lost_though_a_session_is_damaged() -> None:
    memory = real.overlay(AFTER)
    area = luo_of(real.read(AFTER)).flb_area
    assert area
    count = int.from_bytes(memory.read(area + 8, 8), "little")
    memory.write(area + 8, (count - 1).to_bytes(8, "little"))
    damage_files(memory, "vm-web-01")
    assert kinds(memory, f"luo/flbs/{luo_of(real.read(AFTER)).flbs[-1].name}") == [Kind.REMOVED]
