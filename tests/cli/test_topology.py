# SPDX-License-Identifier: MIT
"""`luoser topology`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from luoser.cli.main import cli
from luoser.topology import SYSFS, read_topology
from tests import real, schemas
from tests.conftest import Run
from tests.topology.guest import GUEST, unpack

LIST = str(real.REAL / "7.3-a/topology.json")


def out(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["topology", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_shows_devices_below_their_bridges(tmp_path: Path) -> None:
    lines = [line.rstrip() for line in out(str(unpack(tmp_path))).splitlines()]
    assert lines[0].endswith("  sysfs  19 devices, 7 bridges, 2 virtual functions")
    for line in (
        "  0000:00:02.0         060400   1b36:000c   pcieport   on           02-04",
        "        0000:04:00.0   020000   8086:10d3   e1000e     on           -",
        "    0000:05:00.1       010802   1b36:0010   -          off          -       VF of 0000:05:00.0",
    ):
        assert line in lines
    assert not any("not known" in line for line in lines)


def test_what_is_not_known_is_said() -> None:
    shown = out(str(GUEST / "lspci-vmmnnDk.txt"))
    for words in ("hierarchy", "virtual functions", "bus mastering", "bus numbers"):
        assert [line for line in shown.splitlines() if line.startswith("not known: ") and words in line]
    assert "0000:41:00.0   020000   8086:10d3   e1000e     ?            -       parent unknown" in shown


def test_json_is_the_snapshot() -> None:
    document = json.loads(out(LIST, "--format", "json"))
    assert schemas.errors(document) == []
    assert [device["bdf"] for device in document["devices"]] == [
        entry["bdf"] for entry in real.truth("7.3-a")[0]["pci"]
    ]


def test_a_snapshot_is_the_machine_that_it_was_taken_of(tmp_path: Path) -> None:
    said = out(LIST, "-o", str(tmp_path / "snapshot"))
    assert said == f"{tmp_path}/snapshot: 15 devices, 6 bridges\n"
    assert read_topology(tmp_path / "snapshot") == read_topology(LIST)
    assert (tmp_path / "snapshot").read_text() == out(LIST, "--format", "json")


def test_an_existing_file_stays(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_text("mine")
    result = luoser_command("topology", LIST, "-o", tmp_path / "snapshot")
    assert result.returncode == 2 and b"--force" in result.stderr
    assert (tmp_path / "snapshot").read_text() == "mine"
    assert luoser_command("topology", LIST, "-o", tmp_path / "snapshot", "--force").returncode == 0
    assert read_topology(tmp_path / "snapshot") == read_topology(LIST)


def test_standard_input(luoser_process: Run) -> None:
    result = luoser_process("topology", "-", input=Path(LIST).read_bytes())
    assert result.returncode == 0
    assert result.stdout.startswith(b"standard input  list  15 devices")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"[", b"[]", b"{}", b"\xfd7zXZ\0rubbish"])
def test_what_is_no_topology_is_2_and_one_line(luoser_command: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    result = luoser_command("topology", tmp_path / "file")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.count(b"\n") == 1 and b"file: " in result.stderr


def test_remarks_are_on_standard_error(luoser_command: Run) -> None:
    result = luoser_command("topology", "-", input=b'[{"bdf": "00:01.0"}, {"bdf": "00:01.0"}, {"bdf": "\\u001b[2J"}]')
    assert result.returncode == 0
    assert (
        result.stderr.count(b"\n") == 2
        and b"is a duplicate of the one at [0]" in result.stderr
        and b"\x1b" not in result.stderr
    )


def test_names_steer_no_terminal(luoser_command: Run) -> None:
    entries = [{"bdf": "00:01.0", "driver": "\x1b[2J\x9b31m\u202e[bold]"}]
    snapshot = {
        "schema": "luoser/topology/1",
        "devices": [],
        "remarks": ["\x1b[2J"],
        "source": {"path": "\x1b", "form": "\x1b"},
    }
    snapshot["devices"] = [{"bdf": "0000:00:01.0"}]
    for document in (entries, snapshot):
        for more in ([], ["--format", "json"]):
            result = luoser_command("topology", "-", *more, input=json.dumps(document).encode())
            assert result.returncode == 0
            assert b"\x1b" not in result.stdout + result.stderr
            assert b"\xe2\x80\xae" not in result.stdout
    assert rb"\x1b[2J\x9b31m\u202e[bold]" in luoser_command("topology", "-", input=json.dumps(entries).encode()).stdout


def test_a_large_machine_is_shown_line_by_line(luoser_command: Run) -> None:
    entries = [{"bdf": f"0000:{bus:02x}:{slot:02x}.0"} for bus in range(64) for slot in range(32)]
    result = luoser_command("topology", "-", input=json.dumps(entries).encode())
    assert result.returncode == 0
    assert sum(line.startswith(b"  0000:") for line in result.stdout.splitlines()) == 2048


def test_without_a_source_it_is_this_machine(luoser_command: Run) -> None:
    result = luoser_command("topology")
    if Path(SYSFS).is_dir() and any(Path(SYSFS).iterdir()):
        assert result.returncode == 0 and result.stdout.startswith(f"{SYSFS}  sysfs  ".encode())
    else:
        assert result.returncode == 2 and SYSFS.encode() in result.stderr


def test_input_is_not_overwritten_by_force(tmp_path: Path, luoser_command: Run) -> None:
    (tmp_path / "list").write_bytes(Path(LIST).read_bytes())
    found = luoser_command("topology", tmp_path / "list", "-o", tmp_path / "list", "--force")
    assert found.returncode == 2 and b"output and input are the same file" in found.stderr
    assert (tmp_path / "list").read_bytes() == Path(LIST).read_bytes()
