# SPDX-License-Identifier: MIT
"""The preserved map as text: every range has its owners."""

from __future__ import annotations

import re

import pytest

from luoser.render.extents import owners, print_extents
from tests import real
from tests.conftest import Run

ROW = re.compile(r"^  ([0-9a-f]{12})-([0-9a-f]{12}) : (?:\d+ x )?order \d+, \S+ \w+(?:  (.*))?$", re.MULTILINE)


@pytest.mark.parametrize("name", ["7.3-a/frozen", "6.19-a/frozen"])
def test_every_range_names_what_lies_in_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what begins before: a region of reserve_mem has many ranges."""
    state = real.read(name)
    print_extents(state, folded=False)
    rows = [(int(start, 16), int(end, 16), names) for start, end, names in ROW.findall(capsys.readouterr().out)]
    (handover,) = state.handovers
    known = list(owners(handover))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows) and len(rows) > 50
    for start, end, names in rows:
        here = {one.name for one in known if one.address <= end and max(one.address + 1, one.end) > start}
        assert set(names.split(", ") if names else []) == here
    assert sum(names == "reserve_mem labmem" for _, _, names in rows) > 1


def test_of_many_owners_the_others_are_counted(luoser_command: Run) -> None:
    path = real.path("7.3-a/frozen")
    assert b", and 48 more\n" in luoser_command("map", path).stdout
    assert b" more\n" not in luoser_command("map", path, "--all").stdout
    assert luoser_command("map", path, "--all", "--format", "json").returncode == 2
