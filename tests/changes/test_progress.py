# SPDX-License-Identifier: MIT
"""Before and after a real kexec: what was consumed is progress, what can still be read does not differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.changes import Change, Comparison, Kind, Verdict, _pairs, compare
from luoser.errors import UsageError
from luoser.state import Direction, Handover, Problem, State
from tests import real
from tests.changes.helpers import sound

PAIRS = [("6.18-a", "post"), ("6.19-a", "post"), ("7.3-a", "post"), ("7.3-a", "finished"), ("7.3-chain", "post")]


def between(case: str, before: str, after: str) -> Comparison:
    memories = real.dump(f"{case}/{before}"), real.dump(f"{case}/{after}")
    states = [luoser.read(memory, contents=True) for memory in memories]
    return compare(states[0], states[1], memories=memories, contents=True)


def where(changes: tuple[Change, ...], kind: Kind) -> list[str]:
    return [change.where for change in changes if change.kind is kind]


@pytest.mark.parametrize(("case", "moment"), PAIRS)
def test_after_the_jump_there_is_progress_only(case: str, moment: str) -> None:
    found = between(case, "frozen", moment)
    assert found.is_equal
    assert "preserved/status" in where(found.changes, Kind.PROGRESS)


def test_the_page_of_luo_that_was_reused_is_progress() -> None:
    assert "luo" in where(between("7.3-a", "frozen", "post").changes, Kind.PROGRESS)
    assert "luo" not in where(between("7.3-chain", "frozen", "post").changes, Kind.PROGRESS)


def test_a_kernel_that_hands_on_its_own_is_progress() -> None:
    found = between("7.3-chain", "frozen", "frozen2")
    assert found.is_equal
    (change,) = (one for one in found.changes if one.where == "handovers/0xe55000")
    assert change.note == "the next kernel has its own handover now, serialised"


def test_serialising_is_progress() -> None:
    assert between("7.3-a", "pre", "frozen").is_equal


def test_what_was_paired_is_said() -> None:
    assert between("7.3-a", "frozen", "post").pairing == ("0x5cd000 (outgoing) and 0x5cd000 (incoming): the same root",)


def test_the_roots_can_be_named() -> None:
    chain = luoser.read(real.dump("7.3-chain/frozen2"))
    assert compare(chain, chain, roots=(0x5CD000, 0x5CD000)).changes == ()
    with pytest.raises(UsageError, match="no KHO root at 0x1000"):
        compare(chain, chain, roots=(0x1000, 0x5CD000))


def test_a_true_loss_is_no_progress() -> None:
    memory = real.overlay("7.3-chain/post")
    state = luoser.read(memory)
    incoming = next(one for one in state.handovers if one.direction.value == "incoming")
    assert incoming.luo is not None
    flbs = incoming.luo.flb_area
    assert flbs is not None
    count = int.from_bytes(memory.read(flbs + 8, 8), "little")
    memory.write(flbs + 8, (count - 1).to_bytes(8, "little"))
    found = compare(luoser.read(real.dump("7.3-chain/frozen")), luoser.read(memory))
    assert any(path.startswith("luo/flbs/") for path in where(found.changes, Kind.REMOVED))


def test_an_outgoing_map_that_is_destroyed_is_no_progress() -> None:
    memory = real.overlay("7.3-chain/frozen2")
    memory.write(0xE54000, b"#!/bin/sh\n" * 409)
    found = compare(luoser.read(real.dump("7.3-chain/frozen2")), luoser.read(memory))
    assert where(found.changes, Kind.CHANGED) == ["handovers/0xe55000/preserved/status"]


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ([(1, "outgoing")], [(1, "incoming")], ["the same root"]),
        ([(1, "outgoing")], [(2, "outgoing")], ["the same direction"]),
        ([(1, "outgoing")], [(2, "incoming")], ["handed on"]),
        ([(1, "incoming")], [(2, "outgoing")], ["the only ones"]),
        ([(1, "unknown")], [(2, "unknown")], ["the only ones"]),
        ([(None, "unknown")], [(None, "unknown")], ["the only ones"]),
        ([(1, "unknown"), (3, "unknown")], [(2, "unknown")], []),
        ([(1, "unknown")], [(2, "unknown"), (3, "unknown")], []),
        ([(1, "incoming"), (2, "outgoing")], [(2, "incoming"), (3, "outgoing")], ["the same root"]),
        (
            [(1, "incoming"), (2, "outgoing")],
            [(3, "outgoing"), (1, "incoming")],
            ["the same root", "the same direction"],
        ),
    ],
)
def test_which_handovers_are_compared(
    before: list[tuple[int | None, str]], after: list[tuple[int | None, str]], why: list[str]
) -> None:
    def of(roots: list[tuple[int | None, str]]) -> State:
        one = sound().handovers[0]
        made = (replace(one, address=address, direction=Direction(direction)) for address, direction in roots)
        return replace(sound(), handovers=tuple(made))

    assert [word.rpartition(": ")[2] for word in compare(of(before), of(after)).pairing] == why


def test_a_handover_of_another_machine_is_not_compared() -> None:
    foreign = replace(sound().handovers[0], own=False, address=0x7000000)
    both = replace(sound(), handovers=(foreign, *sound().handovers))
    for states in ((both, sound()), (sound(), both)):
        found = compare(*states)
        assert found.changes == () and len(found.pairing) == 1


# -- handovers on one side only ---------------------------------------------------------------------------


def handover(address: int, direction: Direction, *, is_serialised: bool = True) -> Handover:
    """The real handover at another place."""
    found = sound().handovers[0]
    assert found.luo is not None
    return replace(found, address=address, direction=direction, luo=replace(found.luo, serialized=is_serialised))


FIRST, NEXT = handover(0x1000, Direction.INCOMING), handover(0x2000, Direction.OUTGOING)
TAKEN, FRESH = replace(NEXT, direction=Direction.INCOMING), handover(0x3000, Direction.OUTGOING, is_serialised=False)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        # what a kernel was given, and what it hands over, before and after the kexec
        ([FIRST, NEXT], [TAKEN], {"0x1000": Kind.PROGRESS}),
        ([FIRST, NEXT], [TAKEN, FRESH], {"0x1000": Kind.PROGRESS, "0x3000": Kind.PROGRESS}),
        ([NEXT], [TAKEN, replace(FRESH, luo=None)], {"0x3000": Kind.PROGRESS}),
        ([NEXT], [TAKEN, handover(0x3000, Direction.OUTGOING)], {"0x3000": Kind.PROGRESS}),
        ([NEXT], [TAKEN, replace(FRESH, direction=Direction.UNKNOWN)], {"0x3000": Kind.ADDED}),
        ([NEXT, replace(FIRST, direction=Direction.UNKNOWN)], [TAKEN], {"0x1000": Kind.REMOVED}),
        ([NEXT, handover(0x1000, Direction.OUTGOING)], [TAKEN], {"0x1000": Kind.REMOVED}),
        # nothing was handed on
        ([FIRST, NEXT], [NEXT], {"0x1000": Kind.REMOVED}),
        ([NEXT], [NEXT, replace(FRESH, direction=Direction.UNKNOWN)], {"0x3000": Kind.ADDED}),
        ([NEXT], [NEXT, FRESH], {"0x3000": Kind.ADDED}),
        ([FIRST], [], {"0x1000": Kind.REMOVED}),
        ([], [FRESH], {"0x3000": Kind.ADDED}),
    ],
)
def test_a_handover_on_one_side_only(before: list[Handover], after: list[Handover], kinds: dict[str, Kind]) -> None:
    states = [replace(sound(), handovers=tuple(handovers)) for handovers in (before, after)]
    found = {change.where: change for change in compare(*states).changes if change.where.count("/") == 1}
    assert {where.removeprefix("handovers/"): change.kind for where, change in found.items()} == kinds
    for change in found.values():
        assert (change.before or change.after or "").startswith("kho-v4 ")
        assert (change.before is None) != (change.after is None)


def test_a_comparison_takes_its_states_by_name_and_nothing_else_by_place() -> None:
    assert compare(before=sound(), after=sound()).verdict is Verdict.EQUAL
    with pytest.raises(TypeError):
        compare(sound(), sound(), None)  # type: ignore[misc]


@pytest.mark.parametrize("code", ["truncated", "page-size-doubt", "no-own-root", "root-lost", "root-unread", "no-root"])
def test_a_source_that_is_in_doubt_is_not_compared_to_its_end(code: str) -> None:
    doubt = replace(sound(), problems=(Problem(code=code, address=None, message="in doubt"),))
    for states in ((sound(), doubt), (doubt, sound())):
        gaps = [(gap.where, gap.reason) for gap in compare(*states).not_compared]
        assert gaps == ([] if code == "no-root" else [("source", "in doubt")])


@pytest.mark.parametrize("number", [3, 1])
def test_a_later_kernel_makes_its_root_where_an_old_one_was(number: int) -> None:
    """Of roots whose directions are only turned round, the numbers stay."""
    before = luoser.read(real.dump("7.3-chain/frozen2"))
    old, handed = sorted(before.handovers, key=lambda one: one.direction is Direction.OUTGOING)
    assert handed.luo is not None and handed.luo.number == 2
    fresh = replace(handed, address=old.address, luo=replace(handed.luo, number=number, sessions=(), serialized=False))
    incoming = replace(handed, direction=Direction.INCOMING)
    pairs, _ = _pairs(before, replace(before, handovers=(fresh, incoming)))
    assert (handed, incoming) in pairs
    assert ((old, None) in pairs and (None, fresh) in pairs) is (number == 3)
