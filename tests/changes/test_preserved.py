# SPDX-License-Identifier: MIT
"""Preserved maps before and after: blocks that came or went, and maps that could not be read to their end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.changes import Kind, Verdict, compare
from luoser.changes.preserved import extent_changes
from luoser.state import Direction, MapStatus, Preserved, PreservedMap
from tests import real
from tests.changes.helpers import FROZEN, sound, told
from tests.checks.mutants import changed
from tests.work import steps

Blocks = list[tuple[int, int, int]]


def found(*extents: tuple[int, int, int]) -> PreservedMap:
    return PreservedMap.from_extents(extents, page_size=4096)


def lost(before: Blocks, after: Blocks) -> list[tuple[Kind, str]]:
    return [(change.kind, change.where) for change in extent_changes(found(*before), found(*after))]


# -- blocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "removed"),
    [
        ([(0x1000, 0, 4)], [(0x1000, 0, 4)], []),
        ([(0x1000, 0, 4)], [], ["0x1000"]),
        ([(0x1000, 0, 4)], [(0x1000, 0, 2)], ["0x3000"]),
        ([(0x1000, 0, 4)], [(0x3000, 0, 2)], ["0x1000"]),
        ([(0x1000, 0, 4)], [(0x2000, 0, 1)], ["0x1000", "0x3000"]),
        ([(0x1000, 0, 9)], [(0x2000, 0, 1), (0x4000, 0, 2), (0x8000, 0, 1)], ["0x1000", "0x3000", "0x6000", "0x9000"]),
        ([(0x1000, 0, 1), (0x4000, 0, 1), (0x8000, 0, 1)], [(0x3000, 0, 2)], ["0x1000", "0x8000"]),
        ([(0x4000, 0, 1)], [(0x1000, 0, 1), (0x3000, 0, 1), (0x5000, 0, 1)], ["0x4000"]),
        ([(0x4000, 1, 1)], [(0x4000, 0, 2)], ["0x4000"]),
        ([(0x4000, 1, 1), (0x8000, 2, 1)], [(0x4000, 1, 1)], ["0x8000"]),
    ],
)
def test_blocks_that_only_one_map_has(before: Blocks, after: Blocks, removed: list[str]) -> None:
    gone = [where.removeprefix("preserved/") for kind, where in lost(before, after) if kind is Kind.REMOVED]
    assert gone == removed
    came = [where.removeprefix("preserved/") for kind, where in lost(after, before) if kind is Kind.ADDED]
    assert came == removed


def test_a_run_of_blocks_is_told_with_its_size() -> None:
    (change,) = extent_changes(found((0x10000, 2, 3)), found())
    assert change.before == "3 x order 2, 48 KiB"


def test_many_blocks_cost_in_proportion() -> None:
    """Every other page of a range, and the pages between: no look at all blocks of one map for each of the other."""
    count = 4000
    even, odd = ([(first + 0x2000 * number, 0, 1) for number in range(count)] for first in (0x100000, 0x101000))
    one, other = found(*even), found(*odd)
    with steps(100 * count):
        assert sum(1 for _ in extent_changes(one, other)) == 2 * count


# -- maps that were not read to their end -----------------------------------------------------------------


def test_a_page_of_the_map_that_is_not_in_the_source_is_not_compared() -> None:
    memory = real.overlay(FROZEN)
    memory.remove(real.read(FROZEN).handovers[0].preserved.nodes[-1])
    for states in ((real.read(FROZEN), luoser.read(memory)), (luoser.read(memory), real.read(FROZEN))):
        result = compare(*states)
        assert result.changes == () and result.verdict is Verdict.INCONCLUSIVE


def test_what_an_incomplete_map_has_is_compared() -> None:
    whole = found((0x1000, 0, 1), (0x5000, 0, 1))
    part = PreservedMap(found((0x1000, 0, 1), (0x9000, 0, 1)).bitmaps, page_size=4096, complete=False)
    assert [(change.kind, change.where) for change in extent_changes(whole, part)] == [(Kind.ADDED, "preserved/0x9000")]
    assert [change.kind for change in extent_changes(part, whole)] == [Kind.REMOVED]


# -- status -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "direction", "kind"),
    [
        (MapStatus.INTACT, MapStatus.DAMAGED, Direction.OUTGOING, Kind.CHANGED),
        (MapStatus.INTACT, MapStatus.DAMAGED, Direction.INCOMING, Kind.PROGRESS),
        (MapStatus.INTACT, MapStatus.STALE, Direction.OUTGOING, Kind.CHANGED),
        (MapStatus.INTACT, MapStatus.STALE, Direction.INCOMING, Kind.PROGRESS),
        (MapStatus.INTACT, MapStatus.STALE, Direction.UNKNOWN, Kind.PROGRESS),
        (MapStatus.INTACT, MapStatus.ABSENT, Direction.INCOMING, Kind.CHANGED),
        (MapStatus.ABSENT, MapStatus.INTACT, Direction.OUTGOING, Kind.PROGRESS),
        (MapStatus.INTACT, MapStatus.MISSING, Direction.OUTGOING, None),
        (MapStatus.MISSING, MapStatus.INTACT, Direction.OUTGOING, None),
        (MapStatus.INTACT, MapStatus.INTACT, Direction.OUTGOING, None),
    ],
)
def test_status_of_the_map(before: MapStatus, after: MapStatus, direction: Direction, kind: Kind | None) -> None:
    whole = sound().handovers[0].preserved

    def of(status: MapStatus) -> Preserved:
        has_map = status in (MapStatus.INTACT, MapStatus.DAMAGED)
        return replace(whole, status=status, map=whole.map if has_map else None)

    one = changed(sound(), preserved=of(before))
    other = changed(sound(), preserved=of(after), direction=direction)
    assert told(one, other) == ({} if kind is None else {"preserved/status": kind})
