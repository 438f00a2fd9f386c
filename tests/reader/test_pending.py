# SPDX-License-Identifier: MIT
"""What a running kernel will hand over, out of its own lists: against another reader, in cuts, and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.kernel.objects import Object
from luoser.memory.overlay import Overlay
from luoser.state import Direction, Pending, State, to_document
from tests.conftest import Run
from tests.kernel import real

SIDES = {"pre": ("outgoing", Direction.OUTGOING), "finished": ("incoming", Direction.INCOMING)}


def pending(state: State, direction: Direction) -> Pending:
    (found,) = [one.pending for one in state.handovers if one.direction is direction]
    assert found is not None
    return found


def sessions(moment: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = real.walked(moment)[SIDES[moment][0]]["sessions"]
    return found


@pytest.mark.parametrize("moment", SIDES)
def test_sessions_and_files_equal_those_of_another_reader(moment: str) -> None:
    found = pending(real.read(moment), SIDES[moment][1])
    assert found.complete
    assert [(one.name, [(file.token, file.data, file.compatible) for file in one.files]) for one in found.sessions] == [
        (one["name"], [(int(file["token"], 16), int(file["data"], 16), file["compatible"]) for file in one["files"]])
        for one in sessions(moment)
    ]


def test_sizes_and_positions_equal_those_of_another_reader() -> None:
    found = [file for one in pending(real.read("pre"), Direction.OUTGOING).sessions for file in one.files]
    walked = [file for one in sessions("pre") for file in one["files"]]
    assert [(file.size, file.position) for file in found] == [
        (int(file["inode_size"], 16), int(file["pos"], 16)) for file in walked
    ]
    assert {file.size for file in found} >= {4 << 20, 64 << 10, 64 << 20}


@pytest.mark.parametrize("moment", SIDES)
def test_flbs_and_handlers_equal_those_of_another_reader(moment: str) -> None:
    side, direction = SIDES[moment]
    found = pending(real.read(moment), direction)
    walked = real.walked(moment)
    assert [(flb.name, flb.count, flb.data) for flb in found.flbs] == [
        (flb["name"], flb[side]["count"], int(flb[side]["data"], 16)) for flb in walked["flbs"]
    ]
    assert list(found.handlers) == walked["handlers"]


def test_a_cut_with_the_tables_and_one_with_the_answers_say_the_same(tmp_path: Path, luoser_command: Run) -> None:
    cut = tmp_path / "cut.elf"
    assert luoser_command("extract", real.FIXTURES / "pre.elf.xz", "-o", cut).returncode == 0
    with luoser.open(cut) as memory:
        assert memory.answers
        ours, theirs = to_document(luoser.read(memory)), to_document(real.read("pre"))
    assert {**ours, "source": None} == {**theirs, "source": None}


def test_the_lists_before_the_jump_are_what_was_serialised() -> None:
    (frozen,) = [one for one in real.read("frozen").handovers if one.direction is Direction.OUTGOING]
    assert frozen.pending is not None and frozen.luo is not None
    assert [(one.name, [file.token for file in one.files]) for one in frozen.pending.sessions] == [
        (one.name, [file.token for file in one.files]) for one in frozen.luo.sessions
    ]
    before = pending(real.read("pre"), Direction.OUTGOING)
    assert [one.files for one in before.sessions] == [one.files for one in frozen.pending.sessions]


def test_without_its_own_symbols_nothing_is_pending() -> None:
    assert [one.pending for one in luoser.read(real.memory("pre"), kallsyms=False).handovers] == [None]


# -- damage ------------------------------------------------------------------------------------------------


def header(path: str = "outgoing.list") -> Object:
    kernel = real.running("pre")
    assert kernel.types is not None
    address, number = kernel.address("luo_session_global"), kernel.types.struct("luo_session_global")
    assert address is not None and number is not None
    return Object(kernel.space, kernel.types, address, number).member(path)


@pytest.mark.parametrize(
    ("path", "value", "code", "message", "left"),
    [
        ("outgoing.list.next", 0x10, "pending-broken", "item 0 at 0x10", 0),
        ("outgoing.list.next", 0xDEAD_0000_0000_0100, "pending-broken", "item 0 at 0xdead000000000100", 0),
        ("outgoing.count", 7, "pending-broken", "count is 7, the list has 6 sessions", 6),
    ],
)
def test_lists_that_are_damaged(path: str, value: int, code: str, message: str, left: int) -> None:
    memory = Overlay(real.memory("pre"))
    memory.write(header(path).physical, value.to_bytes(8, "little"))
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert not found.complete and len(found.sessions) == left
    assert any(problem.code == code and message in problem.message for problem in state.problems)


def test_a_session_whose_page_is_lost() -> None:
    memory = Overlay(real.memory("pre"))
    memory.remove(pending(real.read("pre"), Direction.OUTGOING).sessions[2].address // 4096 * 4096)
    found = pending(luoser.read(memory), Direction.OUTGOING)
    assert not found.complete and len(found.sessions) < 6


def test_a_loop_of_files() -> None:
    kernel = real.running("pre")
    assert kernel.types is not None
    memory = Overlay(real.memory("pre"))
    first = pending(real.read("pre"), Direction.OUTGOING).sessions[1].files[3]
    number = kernel.types.struct("luo_file")
    place = kernel.types.find(number, "list.next") if number is not None else None
    assert place is not None
    own = int.from_bytes(memory.read(first.address + place.offset, 8), "little")
    before = int.from_bytes(memory.read(first.address + place.offset + 8, 8), "little")
    assert own != before
    memory.write(first.address + place.offset, before.to_bytes(8, "little"))
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert not found.complete and len(found.sessions[1].files) == 4
    assert any("prev of item 4 is" in problem.message for problem in state.problems)
