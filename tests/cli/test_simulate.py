# SPDX-License-Identifier: MIT
"""`luoser simulate`: what it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import real
from tests.conftest import Run

SCENARIO = (real.ROOT / "fixtures/scenarios/cover-letter.toml").read_text()


@pytest.mark.parametrize("target", ["scenario", "machine"])
@pytest.mark.parametrize("named", [False, True])
def test_input_is_not_overwritten_by_force(tmp_path: Path, luoser_command: Run, target: str, named: bool) -> None:
    """Not the topology either, by whichever way it is given."""
    machine = (real.REAL / "7.3-a/topology.json").read_bytes()
    (tmp_path / "machine").write_bytes(machine)
    scenario = ('topology = "machine"\n' if named else "") + SCENARIO
    (tmp_path / "scenario").write_text(scenario)
    way = [] if named else ["--topology", tmp_path / "machine"]
    found = luoser_command("simulate", tmp_path / "scenario", *way, "-o", tmp_path / target, "--force")
    assert found.returncode == 2 and b"output and input are the same file" in found.stderr
    assert ((tmp_path / "machine").read_bytes(), (tmp_path / "scenario").read_text()) == (machine, scenario)


def test_scenario_that_is_no_text_is_named_once(tmp_path: Path, luoser_command: Run) -> None:
    (tmp_path / "scenario").write_bytes(b"series = '\xff'")
    found = luoser_command("simulate", tmp_path / "scenario")
    words = f"luoser: {tmp_path / 'scenario'}: line 1, column 11: expected UTF-8, found byte 0xff\n"
    assert (found.returncode, found.stderr.decode()) == (2, words)


@pytest.mark.parametrize("name", ["-", "live:", "fifo", "../machine", "a\\u0000b"])
def test_a_scenario_names_only_files_beside_it(tmp_path: Path, luoser_process: Run, name: str) -> None:
    """Nothing that waits, and nothing of this machine."""
    (tmp_path / "machine").write_bytes((real.REAL / "7.3-a/topology.json").read_bytes())
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder/fifo")
    (tmp_path / "folder/scenario").write_text(f'topology = "{name}"\n{SCENARIO}')
    found = luoser_process("simulate", "scenario", cwd=tmp_path / "folder", timeout=60)
    assert found.returncode == 2 and found.stderr.count(b"\n") == 1
    assert b"No such file" in found.stderr or b"expected a file in the folder of scenario" in found.stderr


def test_a_session_may_have_any_bytes_as_its_name(tmp_path: Path, luoser_command: Run) -> None:
    scenario = {
        "series": "pci-core-v7",
        "sessions": [{"name": "\udc80", "files": []}],
        "devices": [{"bdf": "0000:41:00.0"}],
    }
    (tmp_path / "scenario").write_text(json.dumps(scenario))
    found = luoser_command("simulate", tmp_path / "scenario")
    assert found.returncode == 0 and b"create session \\x80" in found.stdout
