# SPDX-License-Identifier: MIT
"""The preserved map as text: every range has its owners."""

from __future__ import annotations

import re

import pytest

from luoser.checks import check
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


PART = re.compile(r"^ {4}([0-9a-f]{12})-([0-9a-f]{12}) : (.*)$", re.MULTILINE)


def test_what_nobody_owns_is_what_check_counts(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    (finding,) = check(state, select=("MAP020",)).findings
    print_extents(state)
    text = capsys.readouterr().out
    sizes = [int(end, 16) + 1 - int(start, 16) for start, end, name in PART.findall(text) if name == "no known owner"]
    assert f"{sum(sizes) >> 10} KiB of preserved memory" in finding.message
    assert f"{sum(sizes) >> 10} KiB  no known owner\n" in text


def test_all_shows_the_part_of_each_owner(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    print_extents(state, folded=False)
    parts = {(int(start, 16), int(end, 16), name) for start, end, name in PART.findall(capsys.readouterr().out)}
    for start, end, name in (
        (0x7CC000, 0x7CCFFF, "driver_data of 0000:05:00.0"),
        (0x67E000, 0x67FFFF, "kho_test folio"),
    ):
        assert (start, end, name) in parts


def test_scratch_is_at_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    print_extents(real.read("7.3-chain/frozen2"))
    for text in capsys.readouterr().out.split("\nKHO root")[1:]:
        starts = [int(start, 16) for start in re.findall(r"^  ([0-9a-f]{12})-", text, re.MULTILINE)]
        assert starts == sorted(starts) and " : scratch, " in text
