# SPDX-License-Identifier: MIT
"""Chains of blocks: pages that are gone, loops, counts that cannot be."""

from __future__ import annotations

import pytest

import luoser
from luoser.errors import PageState
from luoser.state import Session
from tests import real
from tests.images import Image, u64
from tests.reader.helpers import FROZEN, brief, luo_image, luo_of, luo_ser, problems, session_entry, sound_luo
from tests.work import steps


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_session_block_that_is_gone_is_not_read_as_zeros(state: PageState) -> None:
    memory = real.overlay(FROZEN)
    (block,) = sound_luo().session_blocks
    memory.remove(block, state=state)
    found = luoser.read(memory)
    luo = luo_of(found)
    assert luo.sessions == ()
    assert luo.flbs == sound_luo().flbs
    (problem,) = problems(found, "excluded" if state is PageState.EXCLUDED else "missing")
    assert problem.address == block


def file_block(session: Session) -> int:
    return session.blocks[0]


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_file_block_that_is_gone_leaves_the_other_sessions(state: PageState) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(file_block(sound_luo().sessions[0]), state=state)
    found = luoser.read(memory)
    luo = luo_of(found)
    assert luo.sessions[0].files == ()
    assert luo.sessions[0].count == 3
    assert luo.sessions[1:] == sound_luo().sessions[1:]
    assert problems(found, "excluded" if state is PageState.EXCLUDED else "missing")
    assert problems(found, "file-count")


def test_session_block_that_names_itself_is_a_problem() -> None:
    """The blocks that were visited are remembered: the loop costs no more than the sound dump, 130,000 lines."""
    memory = real.overlay(FROZEN)
    (block,) = sound_luo().session_blocks
    memory.write(block, u64(block))
    with steps(400_000):
        found = luoser.read(memory)
    (problem,) = problems(found, "loop")
    assert problem.address == block and f"{block:#x}" in problem.message
    assert brief(luo_of(found)) == brief(sound_luo())


def test_loop_over_two_blocks_is_a_problem_with_both_addresses() -> None:
    image = Image()
    entries = [session_entry(f"s{i}", 0, 0) for i in range(60)]
    first = image.blocks(entries)
    second = int.from_bytes(image.data[first : first + 8], "little")
    image.put(second, u64(first))
    state = luo_image(image, luo_ser(1, first))
    (problem,) = problems(state, "loop")
    assert problem.address == second
    assert f"{first:#x}" in problem.message and f"{second:#x}" in problem.message
    assert len(luo_of(state).sessions) == 60


@pytest.mark.parametrize("count", [0, 52, 1 << 32, (1 << 64) - 1])
def test_session_block_with_an_impossible_count_is_a_problem(count: int) -> None:
    memory = real.overlay(FROZEN)
    (block,) = sound_luo().session_blocks
    memory.write(block + 8, u64(count))
    found = luoser.read(memory)
    assert luo_of(found).sessions == ()
    (problem,) = problems(found, "bad-count")
    assert problem.address == block and str(count) in problem.message and "51" in problem.message


def test_session_block_may_be_full() -> None:
    image = Image()
    first = image.blocks([session_entry(f"s{i}", 0, 0) for i in range(51)])
    state = luo_image(image, luo_ser(1, first))
    assert [session.name for session in luo_of(state).sessions] == [f"s{i}" for i in range(51)]
    assert state.problems == ()


@pytest.mark.parametrize("count", [0, 64])
def test_file_block_with_an_impossible_count_is_a_problem(count: int) -> None:
    memory = real.overlay(FROZEN)
    block = file_block(sound_luo().sessions[0])
    memory.write(block + 8, u64(count))
    found = luoser.read(memory)
    assert luo_of(found).sessions[0].files == ()
    assert [problem.address for problem in problems(found, "bad-count")] == [block]
    assert luo_of(found).sessions[1:] == sound_luo().sessions[1:]
