# SPDX-License-Identifier: MIT
"""`%luo` in drgn's own command line, which finds it by the entry point alone."""

from __future__ import annotations

import importlib
import os
import pty
import select
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests import real
from tests.conftest import Run
from tests.drgn.programs import drgn, unpacked

DEFAULT_COMMAND_NAMESPACE = pytest.importorskip("drgn.commands").DEFAULT_COMMAND_NAMESPACE
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DRGN_")}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(real.path("7.3-a/frozen"), tmp_path_factory.mktemp("core"))


def run(path: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """What drgn prints when it runs commands one after another."""
    code = "from drgn.commands import run_command, _write_command_error as say\nimport sys\n"
    for command in commands:
        code += f"run_command(prog, {command!r}, onerror=lambda e: say(sys.stdout, e))\n"
    words = [sys.executable, "-m", "drgn", "-q", "-c", str(path), "-e", code]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)


def test_drgn_finds_the_command_by_itself(path: Path, luoser_command: Run) -> None:
    assert [one.value for one in entry_points(group="drgn.plugins", name="luoser")] == ["luoser.drgn.plugin"]
    done = run(path, "luo check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == luoser_command("check", str(path)).stdout.decode()


def test_output_goes_through_pipes_and_into_files(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = run(path, "luo inspect | grep -c KHO", f"luo pci --format json > {target}")
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert target.read_text().startswith("{")


def test_errors_are_lines(path: Path) -> None:
    done = run(path, "luo chekc", "luo check --nope", "luo hexdump nowhere", "luo check --select XXX", "luo decode x")
    assert done.stderr == "" and "Traceback" not in done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and all(line.startswith("drgn: error: ") for line in lines)
    assert "did you mean check?" in lines[0] and "--nope" in lines[1]


def test_help(path: Path) -> None:
    done = run(path, "luo", "luo help check")
    assert done.stderr == "" and "Traceback" not in done.stdout
    assert "  hexdump   Show the bytes of one node" in done.stdout
    assert "Usage: luo check" in done.stdout


def test_drgn_has_a_description_of_the_command() -> None:
    importlib.import_module("luoser.drgn.plugin")
    found = DEFAULT_COMMAND_NAMESPACE.lookup(drgn.Program(), "luo")
    assert found.format_usage() == "luo COMMAND [OPTION]..."
    assert "handover" in found.description() or "kexec" in found.description()
    assert "luo help check" in found.format_help().replace("\n", " ")


def test_a_reader_that_goes_away_is_no_error(path: Path) -> None:
    done = run(path, "luo inspect --full --format json | head -c 10")
    assert (done.stdout[:1], done.stderr) == ("{", "")


def test_a_start_of_drgn_loads_nothing_else_of_luoser(path: Path) -> None:
    code = "import sys; print(*sorted(name for name in sys.modules if name.startswith(('luoser', 'click'))))"
    words = [sys.executable, "-m", "drgn", "-q", "-c", str(path), "-e", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.split() == ["luoser", "luoser.drgn", "luoser.drgn.plugin"]


def shown_until(terminal: int, words: bytes, end: float) -> bytes:
    """What a terminal shows until it ends with some words, or is closed."""
    shown = b""
    while not shown.endswith(words):
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        try:
            data = os.read(terminal, 4096) if ready else b""
        except OSError:  # closed
            return shown
        assert data, shown
        shown += data
    return shown


def test_at_the_prompt(path: Path, tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    more = {"HOME": str(tmp_path), "TERM": "dumb", "COLUMNS": "100", "PYTHON_BASIC_REPL": "1"}
    words = [sys.executable, "-m", "drgn", "-q", "-c", str(path)]
    streams = {"stdin": inside, "stdout": inside, "stderr": inside}
    end, text = time.monotonic() + 60, b""
    with subprocess.Popen(words, env=ENVIRONMENT | more, start_new_session=True, **streams) as process:
        os.close(inside)
        try:
            shown_until(terminal, b"helpers.linux import *\r\n>>> ", end)
            for command in (b"%luo pci", b"%luo chekc"):
                os.write(terminal, command + b"\n")
                text += shown_until(terminal, b"\r\n>>> ", end)
            os.write(terminal, b"exit()\n")
            shown_until(terminal, b"never", end)
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(terminal)
    assert b"0000:" in text and b"Traceback" not in text
    assert b"drgn: error: no command 'chekc'; did you mean check?" in text


def test_a_drgn_without_commands_is_left_alone() -> None:
    code = "import sys; sys.modules['drgn.commands'] = None; import luoser.drgn.plugin, luoser.drgn; luoser.drgn.luo"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_drgn_is_the_real_one() -> None:
    assert drgn.Program.__module__ == "_drgn"
