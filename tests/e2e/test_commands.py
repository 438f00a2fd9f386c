# SPDX-License-Identifier: MIT
"""The judge of `map`, `hexdump` and `simulate`, on dumps of a real kernel and what it said."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from luoser.state import Direction
from tests import real
from tests.e2e.boot import File
from tests.e2e.commands import commands
from tests.e2e.kernels import Kernel
from tests.e2e.live_update import Folio, Moment, Run, folios_of

KERNEL = Kernel(series="7.3", release="7.3.4", machine="x86-64", pages="4K", image=Path("image"), symbols=Path("map"))


def run_of(name: str) -> Run:
    """A run whose user space says what a dump has."""
    run = Run(kernel=KERNEL)
    (luo,) = (one.luo for one in real.read(name).handovers if one.direction is Direction.OUTGOING)
    for session in luo.sessions if luo is not None else ():
        run.sessions.append(session.name)
        for file in session.files:
            memfd, key = file.memfd, (session.name, file.token)
            run.preserved[key] = File(memfd.size, memfd.position, memfd.seals or 0, "") if memfd else File(0, 0, 0, "")
            run.folios[key] = [Folio(one.index, one.address >> 12, 1) for one in memfd.folios.list] if memfd else []
    return run


def judged(name: str, run: Run, said: str = "") -> dict[str, str]:
    moment = Moment(name=name.partition("/")[2], dumps={"elf": real.path(name)}, said=said)
    return dict(commands(run, moment, real.read(name)))


def test_a_dump_agrees_with_what_user_space_said_of_its_files() -> None:
    name, key = "7.3-chain/frozen", ("vm-web-01", 0x1A)
    run = run_of(name)
    agree = {"map, ranges", "map, pages of files", "simulate, sessions and files", "simulate, memory of sessions"}
    assert judged(name, run) == dict.fromkeys(agree, "")
    run.preserved[key] = replace(run.preserved[key], size=run.preserved[key].size - 4096)
    run.folios[key][0] = replace(run.folios[key][0], index=1)
    found = judged(name, run)
    assert {what for what, fault in found.items() if fault} == agree - {"map, ranges"}
    assert found["map, pages of files"].startswith("folios of vm-web-01/0x1a: expected [Folio(index=1, ")


def debugfs(name: str, data: bytes) -> str:
    return f"DEBUGFS /sys/kernel/debug/kho/{name} {base64.b64encode(data).decode()}\n"


def test_hexdump_prints_the_bytes_of_debugfs() -> None:
    files = real.truth("7.3-a")[0]["debugfs"]
    blobs = {name: bytes.fromhex(text) for name, text in files.items() if "scratch" not in name}
    said = "".join(debugfs(*entry) for entry in blobs.items())
    assert judged("7.3-a/pre", run_of("7.3-a/frozen"), said)["hexdump of debugfs out"] == ""
    wrong = bytearray(blobs["out/sub_fdts/kexec-metadata"])
    wrong[0x40] ^= 1  # in a row after rows of zeros
    fault = judged("7.3-a/pre", run_of("7.3-a/frozen"), said + debugfs("out/sub_fdts/kexec-metadata", bytes(wrong)))
    assert fault["hexdump of debugfs out"] == "subtrees[kexec-metadata]: 73 bytes for 73, other ones from 0x40 on"


def test_folios_of_a_console() -> None:
    console = "FOLIOS preserved 766d 0x1 0:256:1:2,2:1024:512:2\nFOLIOS retrieved 766d 0x2 0:1:1:1\n"
    assert folios_of(console, "preserved") == {
        ("vm", 1): [Folio(0, 256, 1), Folio(1, 257, 1), Folio(2, 1024, 512), Folio(514, 1536, 512)]
    }
