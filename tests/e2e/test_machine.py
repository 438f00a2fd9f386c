# SPDX-License-Identifier: MIT
"""A machine whose QEMU hangs at its start, as one in some thousand does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.e2e import machine as module
from tests.e2e.machine import Machine, NoAnswer

QEMU = """#!{python}
import json, os, socket, sys, time
place = os.path.dirname(sys.argv[sys.argv.index("-initrd") + 1])
with open(place + "/tries", "a") as tries:
    tries.write("x")
def at(name):
    made = socket.socket(socket.AF_UNIX)
    made.bind(place + "/" + name)
    made.listen()
    return made
serial, monitor = at("serial"), at("qmp")
console, (talk, _) = serial.accept(), monitor.accept()
talk.sendall(b'{{"QMP": {{}}}}\\n')
if os.path.getsize(place + "/tries") < {answers}:
    time.sleep(60)
for line in talk.makefile():
    talk.sendall(b'{{"return": {{}}}}\\n')
    if "quit" in line:
        break
"""


def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, answers: int) -> Machine:
    """A machine with a QEMU that answers when it is started for that time."""
    program = tmp_path / "bin" / "qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text(QEMU.format(python=sys.executable, answers=answers))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "_START", 1.5)
    kernel = SimpleNamespace(machine="x86-64", image=Path("bzImage"))
    return Machine(tmp_path / "run", kernel, b"", "")  # type: ignore[arg-type]


def test_it_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, monkeypatch, answers=2) as machine:
        assert machine.command("query-status") == {}


def test_after_the_second_time_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoAnswer, match=r"did not answer for 1\.5 s, twice"):
        started(tmp_path, monkeypatch, answers=3)
