# SPDX-License-Identifier: MIT
"""Runs of like files and sessions: nothing is lost, and only like ones are together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.render.runs import file_runs, ranges_text, session_runs
from luoser.state import File
from tests import real
from tests.conftest import Run


def sound(_: File) -> bool:
    """Whether a file is odd: none is."""
    return False


@pytest.mark.parametrize("name", real.DUMPS)
def test_runs_have_every_session_and_file(name: str) -> None:
    for handover in luoser.read(real.dump(name)).handovers:
        sessions = handover.luo.sessions if handover.luo is not None else ()
        assert [session for run in session_runs(sessions, sound) for session in run] == list(sessions)
        for session in sessions:
            runs = list(file_runs(session.files, sound))
            assert sorted(file.token for run in runs for file in run) == sorted(file.token for file in session.files)
            for run in runs:
                assert len({(file.compatible, file.memfd and file.memfd.size) for file in run}) == 1
                assert len(run) == 1 or not any(file.memfd and file.memfd.position for file in run)


def test_sessions_with_other_tokens_are_not_alike() -> None:
    (handover,) = luoser.read(real.dump("7.3-a/frozen")).handovers
    assert handover.luo is not None
    assert [len(run) for run in session_runs(handover.luo.sessions, sound)] == [1, 3, 1, 1]


@given(st.lists(st.integers(0, 40), max_size=12, unique=True))
def test_ranges(numbers: list[int]) -> None:
    shown = ranges_text(numbers)
    parts = shown.partition(" and ")[0].split(", ") if shown else []
    found = [n for part in parts for n in range(int(part.split("-")[0], 16), int(part.split("-")[-1], 16) + 1)]
    assert found == numbers[: len(found)]
    assert len(found) == len(numbers) or "more range" in shown


@pytest.mark.parametrize(("count", "end"), [(5, "and 1 more range"), (6, "and 2 more ranges")])
def test_ranges_that_are_left_out_are_counted(count: int, end: str) -> None:
    assert ranges_text(range(0, 2 * count, 2)) == f"0x0, 0x2, 0x4, 0x6 {end}"


MANY = """
[[handovers]]
[handovers.luo]
"""


def test_a_state_of_many_sessions_fits_a_screen(luoser_command: Run, tmp_path: Path) -> None:
    """13 sessions of 40 files: two sizes by turns, and other tokens in each session."""
    text = MANY
    for session in range(13):
        files = ", ".join(
            f'{{ token = {0x1000 * session + token}, memfd = {{ size = "{4 << token % 2}K" }} }}' for token in range(40)
        )
        text += f'[[handovers.luo.sessions]]\nname = "vm-{session}"\nfiles = [{files}]\n'
    (tmp_path / "spec.toml").write_text(text)
    assert luoser_command("build", tmp_path / "spec.toml", "-o", tmp_path / "many.elf").returncode == 0
    shown = luoser_command("inspect", tmp_path / "many.elf").stdout.decode()
    assert len(shown.splitlines()) <= 60
    assert "serialised: 13 sessions, 520 files, 3.05 MiB" in shown
    assert shown.count("20 memfds of 8 KiB") == 13
    whole = luoser_command("inspect", "--all", tmp_path / "many.elf").stdout.decode()
    assert whole.count("── file 0x") == 520
