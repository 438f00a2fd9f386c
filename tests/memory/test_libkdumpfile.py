# SPDX-License-Identifier: MIT
"""The test cases of libkdumpfile, another reader of dumps, read by luoser.

A case is a shell script in libkdumpfile's folder `tests`: it has a dump written, has it printed, and compares that
with a text of its own. Here each script is run as it is, but the programs that read are luoser's: see dumpdata.
None of libkdumpfile is in this repository. To run these tests, build its writers and name its source tree:

    git clone https://github.com/ptesarik/libkdumpfile && cd libkdumpfile
    apt-get install gcc make autoconf automake libtool pkg-config zlib1g-dev liblzo2-dev libsnappy-dev libzstd-dev
    autoreconf -fi && ./configure --without-python
    make -C tests mkelf mkdiskdump mklkcd mksadump mkbinary
    LUOSER_LIBKDUMPFILE=$PWD pytest tests/memory/test_libkdumpfile.py

Cases that are left out: those of formats that luoser does not read, only of virtual addresses, or only of things
that luoser does not have (registers, the version of the kernel).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import luoser
from luoser.errors import MissingMemory, SourceError
from tests.memory.dumpdata import PAGE
from tests.real import ROOT

NAME = "LUOSER_LIBKDUMPFILE"
TESTS = Path(os.environ.get(NAME, "/nonexistent")) / "tests"
WRITERS = ["mkelf", "mkdiskdump", "mklkcd", "mksadump", "mkbinary"]
OTHERS = ["multiread", "fdset"]
"""Programs of libkdumpfile that the scripts call and that have nothing to say of luoser."""
_SOURCED = re.compile(r'^\. "\$srcdir"/(\S+)', re.MULTILINE)
_SHOWS = re.compile(r"\./dumpdata |^(?:file|memory)\.pagemap = |^linux\.vmcoreinfo\.lines\.", re.MULTILINE)
_OTHER_MACHINE = re.compile(r"^(?:arch_name = |arch=|arch\.name = string: ?)(?:ia32|arm|ppc64|s390x)$", re.MULTILINE)
_FOREIGN = "file.format = string: xc_core_elf"


@cache
def script(name: str) -> str:
    """The text of a case, with that of the script that it shares with other cases."""
    text = (TESTS / name).read_text()
    return text + "".join(script(other) for other in _SOURCED.findall(text))


def cases(*writers: str) -> list[str]:
    """The names of the cases that call one of these writers."""
    if not all((TESTS / writer).exists() for writer in WRITERS):
        return []
    files = (file for file in sorted(TESTS.iterdir()) if file.is_file() and "." not in file.name)
    names = [file.name for file in files if os.access(file, os.X_OK) and file.read_bytes()[:2] == b"#!"]
    calls = [f"./{writer} " for writer in writers]
    return [name for name in names if any(call in script(name) for call in calls)]


WRITTEN = cases("mkelf", "mkdiskdump", "mkbinary")
SHOWN = [name for name in WRITTEN if _SHOWS.search(script(name)) and _FOREIGN not in script(name)]
FOREIGN = [*cases("mklkcd", "mksadump"), *(name for name in WRITTEN if _FOREIGN in script(name))]
pytestmark = pytest.mark.skipif(not WRITTEN, reason=f"{NAME} names no source tree of libkdumpfile with its writers")


@dataclass
class Run:
    """What a case did. said: the output of the script. calls: those of dumpdata and checkattr, and what they said."""

    code: int
    said: str
    calls: str
    dumps: list[Path]


def run(name: str, folder: Path, *, reads: bool = True) -> Run:
    """Run a case in a folder. reads: False if nothing is to be read, only written."""
    for writer in WRITERS:
        (folder / writer).symlink_to(TESTS / writer)
    python = f"exec {shlex.quote(sys.executable)} -m tests.memory.dumpdata"
    for program in ("dumpdata", "checkattr", *OTHERS):
        line = f'{python} {program} "$@"' if reads and program not in OTHERS else "exit 0"
        (folder / program).write_text(f"#!/bin/sh\n{line}\n")
        (folder / program).chmod(0o755)
    for data in TESTS.glob("*.data"):  # some scripts name their data without a folder
        (folder / data.name).symlink_to(data)
    calls = folder / "calls"
    calls.touch()
    more = {"srcdir": str(TESTS), "PYTHONPATH": str(ROOT), "LUOSER_CALLS": str(calls)}
    done = subprocess.run(
        ["sh", str(TESTS / name)],
        cwd=folder,
        env=os.environ | more,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    dumps = sorted((folder / "out").glob(f"{name}.dump*"))
    return Run(done.returncode, done.stdout + done.stderr, calls.read_text(), dumps)


def is_other_machine(dump: Path, name: str) -> bool:
    """Whether a dump is of a 32-bit or big-endian machine."""
    head = dump.read_bytes()[:6]
    if head.startswith(b"\x7fELF"):
        return head[4:] != b"\x02\x01"
    return bool(_OTHER_MACHINE.search(script(name))) or name.endswith(("-arm", "-ia32"))


@pytest.mark.parametrize("name", SHOWN)
def test_case(name: str, tmp_path: Path) -> None:
    ran = run(name, tmp_path)
    assert ran.calls, f"nothing was read: {ran.said}"
    if "virtual address" in ran.calls:
        pytest.skip("reads virtual addresses")
    if any(is_other_machine(dump, name) for dump in ran.dumps):
        assert "expected a core of a 64-bit little-endian machine" in ran.calls or "expected a 64-bit" in ran.calls
        return
    assert ran.code == 0, f"{ran.calls}\n{ran.said[-4000:]}"


@pytest.mark.parametrize("name", WRITTEN)
def test_each_dump_is_read_or_refused(name: str, tmp_path: Path) -> None:
    for dump in run(name, tmp_path, reads=False).dumps:
        try:
            memory = luoser.open(dump)
        except SourceError as error:
            assert str(error).startswith(str(dump))
            continue
        with memory:
            for segment in memory.segments:
                for address in range(segment.start, segment.end, PAGE)[:4096]:
                    try:
                        assert len(memory.read(address, 1)) == 1
                    except MissingMemory as error:
                        assert error.state is memory.page_state(address)


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    for dump in run(name, tmp_path, reads=False).dumps:
        with pytest.raises(SourceError):
            luoser.open(dump)
