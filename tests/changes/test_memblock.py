# SPDX-License-Identifier: MIT
"""The sub-tree memblock before and after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.changes import Kind, compare
from luoser.state import Memblock, Reservation
from tests.changes.helpers import later, problem, sound, told
from tests.checks.mutants import changed

ONE, OTHER = Reservation(name="one", start=0x1000, size=0x1000), Reservation(name="other", start=0x4000, size=0x2000)


def regions(*reservations: Reservation) -> Memblock:
    return Memblock(address=0xFDD000, reservations=reservations)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (regions(ONE), regions(ONE), {}),
        (regions(ONE), regions(ONE, OTHER), {"memblock/other": Kind.ADDED}),
        (regions(ONE, OTHER), regions(OTHER), {"memblock/one": Kind.REMOVED}),
        (regions(ONE, OTHER), regions(OTHER, ONE), {}),
        (regions(ONE), regions(replace(ONE, size=0x3000)), {"memblock/one/size": Kind.CHANGED}),
        (regions(ONE), regions(replace(ONE, start=0x2000)), {"memblock/one/start": Kind.CHANGED}),
        (regions(), None, {"memblock": Kind.REMOVED}),
        (None, regions(), {"memblock": Kind.ADDED}),
        (None, None, {}),
    ],
)
def test_regions_by_name(before: Memblock | None, after: Memblock | None, kinds: dict[str, Kind]) -> None:
    assert told(changed(sound(), memblock=before), changed(sound(), memblock=after)) == kinds


def test_regions_that_came_or_went_are_told_with_their_number_or_start() -> None:
    both, one, without = (changed(sound(), memblock=found) for found in (regions(ONE, OTHER), regions(ONE), None))
    assert [(change.before, change.after) for change in compare(both, without).changes] == [("2 regions", None)]
    assert [(change.before, change.after) for change in compare(without, both).changes] == [(None, "2 regions")]
    assert [(change.before, change.after) for change in compare(one, without).changes] == [("1 region", None)]
    assert [(change.before, change.after) for change in compare(both, one).changes] == [("0x4000", None)]
    assert [(change.before, change.after) for change in compare(one, both).changes] == [(None, "0x4000")]


@pytest.mark.parametrize("about", ["memblock", "subtrees[1]", "subtrees[2]", "luo"])
def test_no_kernel_frees_the_tree_of_regions_that_are_gone(about: str) -> None:
    after = later(problem("bad-memblock", about), memblock=None)
    assert told(sound(), after) == {"memblock": Kind.REMOVED}
