# SPDX-License-Identifier: MIT
"""`luoser` alone, its help, and what it says to a name that is not a command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import luoser
from luoser.cli.common import NUMBER
from luoser.cli.main import _COMMANDS
from tests import golden, real
from tests.conftest import Run
from tests.real import ROOT

FROZEN = str(real.path("7.3-a/frozen"))
FOLIO = str(golden.GOLDEN / "pci-folio.bin")
SER = str(golden.GOLDEN / "luo-ser.bin")


@pytest.mark.parametrize("arguments", [[], ["abi"]])
def test_a_group_alone_prints_its_help(luoser_command: Run, arguments: list[str]) -> None:
    alone = luoser_command(*arguments)
    asked = luoser_command(*arguments, "--help")
    assert (alone.returncode, alone.stderr) == (0, b"")
    assert alone.stdout == asked.stdout and alone.stdout.startswith(b"Usage: luoser")


@pytest.mark.parametrize("arguments", [[], ["check"], ["abi"], ["abi", "show"]])
def test_help_of_a_command(luoser_command: Run, arguments: list[str]) -> None:
    shown, asked = luoser_command("help", *arguments), luoser_command(*arguments, "--help")
    assert (shown.returncode, shown.stdout) == (0, asked.stdout)


def test_help_of_what_has_no_commands(luoser_command: Run) -> None:
    result = luoser_command("help", "check", "more")
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"luoser check has no commands" in result.stderr


def test_version_in_short(luoser_command: Run) -> None:
    assert luoser_command("-V").stdout == luoser_command("--version").stdout


def test_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "luoser", "-V"], check=True, capture_output=True, cwd=ROOT)
    assert result.stdout == f"luoser, version {luoser.__version__}\n".encode()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["inspct"], "No such command 'inspct'; did you mean inspect?"),
        (["help", "chek"], "did you mean check?"),
        (["abi", "shwo"], "did you mean show?; expected one of detect, export, list, show"),
        (["abi", "show", "pci-lu-v2-3"], "did you mean pci-lu-v2-03"),
        (["decode", FOLIO, "--as", "pci-lu-v2-3"], "did you mean pci-lu-v2-03"),
        (["rules", "tokn-duplicate"], "did you mean token-duplicate"),
        (["check", FROZEN, "--select", "flag-illegal"], "did you mean flags-illegal?"),
        (["build", "x", "-o", "y", "--mutate", "flag-illegal"], "did you mean flags-illegal?"),
        (["hexdump", FROZEN, "luo.sesions[0]"], "did you mean sessions"),
        (["hexdump", FROZEN, "luo.sessions[vm-web-02]"], "did you mean vm-web-01"),
        ([FOLIO], f"as a bare blob it can be pci-lu-v2-06: luoser decode {FOLIO}"),
        ([FROZEN], f"luoser inspect {FROZEN}"),
        ([str(ROOT / "fixtures/specs/handover.toml")], "luoser build"),
        (["live:"], "luoser inspect live:"),
        (["not/here"], "no such file, either"),
        (["inspect", FOLIO], f"as a bare blob it can be pci-lu-v2-06: luoser decode {FOLIO}"),
        (["inspect", SER], f"as a bare blob it can be luo-v5: luoser decode {SER}\n"),
        (["decode", FROZEN], f"it is a dump (elf): luoser inspect {FROZEN}"),
    ],
)
def test_what_is_meant_is_named(luoser_command: Run, arguments: list[str], word: str) -> None:
    result = luoser_command(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert word in result.stderr.decode()
    assert b"Traceback" not in result.stderr and b"\\x0a" not in result.stderr


NAMES = [[name] for name in sorted(_COMMANDS)] + [["abi", name] for name in ("list", "show", "detect")]


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_every_help_has_an_example_with_known_options(luoser_command: Run, names: list[str]) -> None:
    shown = luoser_command(*names, "--help").stdout.decode()
    examples = re.findall(rf"^ +luoser {' '.join(names)}\b(.*)$", shown, re.MULTILINE)
    assert examples
    options = shown.partition("Options:")[2]
    assert all(option in options for example in examples for option in re.findall(r" (--[a-z-]+|-o)\b", example))


@pytest.mark.parametrize(
    ("name", "own"), [("inspect", "--depth"), ("check", "--topology"), ("extract", "--memfd"), ("hexdump", "--plain")]
)
def test_own_options_come_before_shared_ones(luoser_command: Run, name: str, own: str) -> None:
    shown = luoser_command(name, "--help").stdout.decode()
    assert 0 < shown.index(f"  {own}") < shown.index("  --symbols")


@pytest.mark.parametrize(("text", "value"), [("3G", 3 << 30), ("0x1000", 4096), ("64KiB", 65536), ("12", 12)])
def test_numbers_may_have_a_unit(text: str, value: int) -> None:
    assert NUMBER.convert(text, None, None) == value


def test_an_error_of_the_system_names_its_file(luoser_process: Run, tmp_path: Path) -> None:
    spec = ROOT / "fixtures/specs/pci-cover-letter.toml"
    result = luoser_process("build", str(spec), "-o", str(tmp_path / "no" / "out"))
    assert result.returncode == 2
    assert result.stderr.decode() == f"luoser: {tmp_path}/no/out: No such file or directory\n"
