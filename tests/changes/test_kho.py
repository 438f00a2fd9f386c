# SPDX-License-Identifier: MIT
"""The root before and after: its members, scratch areas and sub-trees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.changes import Kind, Verdict, compare
from luoser.state import Area, Direction, MapStatus, Subtree
from tests.changes.helpers import later, problem, sound, told
from tests.checks.mutants import changed

LOW, HIGH = Area(address=0x1000000, size=0x400000), Area(address=0x2000000, size=0x800000)


def test_members_of_the_root() -> None:
    after = changed(sound(), address=0x5000, compatible="kho-v3")
    assert told(sound(), after) == {"address": Kind.CHANGED, "compatible": Kind.CHANGED}


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ((LOW, HIGH), (LOW, HIGH), False),
        ((LOW, HIGH), (LOW,), True),
        ((LOW,), (LOW, HIGH), True),
        ((LOW,), (HIGH,), True),
        ((HIGH,), (LOW,), True),
        ((LOW,), None, False),
        (None, (LOW,), False),
    ],
)
def test_scratch_areas(before: tuple[Area, ...] | None, after: tuple[Area, ...] | None, differs: bool) -> None:
    kinds = {"scratch": Kind.CHANGED} if differs else {}
    assert told(changed(sound(), scratch=before), changed(sound(), scratch=after)) == kinds


def test_sub_trees_by_name() -> None:
    one, other = Subtree(name="one", address=0x1000, size=64), Subtree(name="other", address=0x2000, size=64)
    both, first = changed(sound(), subtrees=(one, other)), changed(sound(), subtrees=(one,))
    assert told(both, first) == {"subtrees/other": Kind.REMOVED}
    assert told(first, both) == {"subtrees/other": Kind.ADDED}
    moved = changed(sound(), subtrees=(other, replace(one, address=0x3000, size=65)))
    assert told(both, moved) == {"subtrees/one/address": Kind.CHANGED, "subtrees/one/size": Kind.CHANGED}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (Direction.OUTGOING, Direction.INCOMING, Kind.PROGRESS),
        (Direction.INCOMING, Direction.OUTGOING, Kind.CHANGED),
    ],
)
def test_a_root_that_was_handed_on_is_progress(before: Direction, after: Direction, kind: Kind) -> None:
    (change,) = compare(changed(sound(), direction=before), later(direction=after)).changes
    assert (change.where, change.kind) == ("direction", kind)


@pytest.mark.parametrize("known", [Direction.OUTGOING, Direction.INCOMING])
def test_a_direction_that_is_not_known_is_not_compared(known: Direction) -> None:
    sides = changed(sound(), direction=Direction.UNKNOWN), changed(sound(), direction=known)
    for before, after in (sides, sides[::-1]):
        found = compare(before, after)
        assert (found.changes, found.verdict) == ((), Verdict.INCONCLUSIVE)
        assert "direction" in [gap.where for gap in found.not_compared]


@pytest.mark.parametrize(
    ("direction", "status", "consumed"),
    [
        (Direction.INCOMING, MapStatus.INTACT, True),
        (Direction.UNKNOWN, MapStatus.STALE, True),
        (Direction.UNKNOWN, MapStatus.INTACT, False),
        (Direction.OUTGOING, MapStatus.STALE, False),
    ],
)
def test_what_is_gone_was_consumed_only_after_the_kexec(
    direction: Direction, status: MapStatus, consumed: bool
) -> None:
    preserved = replace(sound().handovers[0].preserved, status=status)
    after = later(problem("luo-reused", "luo"), direction=direction, preserved=preserved, luo=None)
    assert told(sound(), after)["luo"] is (Kind.PROGRESS if consumed else Kind.REMOVED)


def test_problems_of_another_root_explain_nothing() -> None:
    other = replace(problem("luo-reused", "luo"), root=0x1000)
    assert told(sound(), later(other, luo=None))["luo"] is Kind.REMOVED


# -- damage --


@pytest.mark.parametrize("about", ["root", "luo.sessions", "luo.flbs", "memblock", "subtrees[0]", "pci[0]"])
def test_what_the_reader_objects_to_on_one_side_is_a_difference(about: str) -> None:
    damaged = replace(sound(), problems=(problem("bad-count", about),))
    for states, said in (((sound(), damaged), ("sound", "damaged")), ((damaged, sound()), ("damaged", "sound"))):
        (change,) = compare(*states).changes
        assert (change.kind, change.where) == (Kind.CHANGED, f"damage/{about}/bad-count")
        assert (change.before, change.after) == said
    assert not compare(damaged, damaged).changes


@pytest.mark.parametrize(
    ("about", "is_freed"), [("luo.sessions", True), ("kho_test", True), ("memblock", False), ("root", False)]
)
def test_only_what_a_kernel_frees_is_damaged_by_age(about: str, is_freed: bool) -> None:
    found = compare(sound(), later(problem("bad-count", about)))
    assert found.verdict is (Verdict.PROGRESS if is_freed else Verdict.DIFFERENT)
