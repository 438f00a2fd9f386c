# SPDX-License-Identifier: MIT
"""scripts/luoser-gdb.py in a gdb on the debugger stub of a real QEMU."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import luoser
from luoser.state import to_document
from tests import real
from tests.memory.test_gdb import Stub, frozen
from tests.memory.test_qmp import place
from tests.qemu import needs_qemu

__all__ = ["place"]

SCRIPT = real.ROOT / "scripts/luoser-gdb.py"
ROOT = "--root 0x5cd000"
MODE = "maintenance packet qqemu.PhyMemMode"


def _can_run() -> bool:
    gdb = shutil.which("gdb")
    python = [gdb or "", "-nx", "-batch", "-ex", "python print(6 * 7)"]
    return gdb is not None and b"42" in subprocess.run(python, check=False, capture_output=True).stdout


pytestmark = [needs_qemu, pytest.mark.skipif(not _can_run(), reason="no gdb with Python is installed")]


def started(target: str, *commands: str, program: str = f"{sys.executable} -m luoser") -> subprocess.Popen[bytes]:
    """gdb with the script. target: what it connects to; empty: nothing."""
    connect = [f"target remote {target}"] if target else []
    words = [word for line in (f"source {SCRIPT}", *connect, *commands) for word in ("-ex", line)]
    environment = {**os.environ, "LUOSER": program, "PYTHONPATH": str(real.ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(["gdb", "-nx", "-batch", *words], stdout=pipe, stderr=pipe, env=environment)


def ran(target: str, *commands: str, program: str = f"{sys.executable} -m luoser") -> tuple[str, str]:
    """(stdout, stderr) of gdb."""
    said = started(target, *commands, program=program).communicate(timeout=600)
    return said[0].decode(), said[1].decode()


def stub_of(guest: Stub) -> str:
    return guest.gdb.removeprefix("gdb:")


def test_state_in_gdb_is_that_of_qmp(place: Path) -> None:
    command = f"luoser inspect {ROOT} --full --contents --format json"
    with Stub(place, memory="32M", blobs=frozen()) as guest:
        said, _ = ran(stub_of(guest), command, "p $_luoser_exitcode", MODE, "disconnect")
        assert guest.status == "prelaunch"
        with luoser.open(guest.source) as memory:
            wanted = to_document(luoser.read(memory, root=0x5CD000, contents=True, search=False), full=True)
    text, _, rest = said[said.index("{\n") :].partition("\n}\n")
    found = json.loads(text + "}")
    assert (found["handovers"], found["problems"]) == (wanted["handovers"], wanted["problems"])
    assert rest.splitlines()[0] == "$1 = 0" and 'received: "0"' in rest


def test_commands_take_their_arguments_and_the_mode_stays_as_it_was(place: Path) -> None:
    set_mode = "maintenance packet Qqemu.PhyMemMode:1"
    with Stub(place, memory="32M", blobs=frozen()) as guest:
        commands = [f"luoser hexdump luo {ROOT}", f"luoser pci {ROOT}", "luoser map --format nope", MODE, "disconnect"]
        said, errors = ran(stub_of(guest), set_mode, *commands)
    assert "luo-v5" in said and "0000:41:00.0" in said
    assert "luoser: Invalid value for '--format'" in errors
    assert 'received: "1"' in said.rpartition("sending:")[2]


def test_reports_name_what_gdb_is_connected_to(place: Path) -> None:
    with Stub(place, memory="32M", blobs=frozen()) as guest:
        said, _ = ran(stub_of(guest), f"luoser check {ROOT} --format jsonl", "disconnect")
    assert re.findall(r"gdb:[^\"\s]+", said) == [guest.gdb] * 2  # of the result, and of the document in it


def test_mode_is_put_back_after_ctrl_c(place: Path) -> None:
    waits = "import time; print('begun', flush=True); time.sleep(600)"
    program = f'{sys.executable} -c "{waits}"'
    with Stub(place, memory="32M") as guest:
        with started(stub_of(guest), "luoser inspect", MODE, "disconnect", program=program) as gdb:
            assert gdb.stdout is not None
            while b"begun" not in gdb.stdout.readline():
                pass
            time.sleep(0.2)
            gdb.send_signal(signal.SIGINT)
            said, _ = gdb.communicate(timeout=600)
        assert b'received: "0"' in said
        assert guest.status == "prelaunch"


def test_what_cannot_be_done_is_said(place: Path) -> None:
    _, errors = ran("", "luoser inspect", "luoser rules", program="/nonexistent/luoser")
    assert "expected a guest that is stopped: target remote" in errors
    assert "others need no guest: shell luoser" in errors
    with Stub(place, memory="32M") as guest:
        said, errors = ran(stub_of(guest), "luoser inspect", MODE, "disconnect", program="/nonexistent/luoser")
    assert "/nonexistent/luoser: No such file or directory" in errors
    assert 'received: "0"' in said


def test_a_process_of_this_machine_is_refused() -> None:
    said, errors = ran("", "file /bin/true", "starti", "luoser inspect")
    if "Program stopped" not in said:
        pytest.skip("gdb may not start programs here")
    assert "no remote target" in errors
