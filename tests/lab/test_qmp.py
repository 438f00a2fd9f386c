# SPDX-License-Identifier: MIT
"""A live update in QEMU, read through QMP while it goes on, against QEMU's own dumps of the same moments.

LUOSER_LAB_KERNEL and LUOSER_LAB_INITRD name a bzImage and an initrd of the lab. Its init says READY1 on the serial
console when a state is being built, READY2 in the next kernel, READY3 when that has finished the first session, and
goes on with a newline.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.state import to_document
from tests.qemu import Guest, needs_qemu

KERNEL, INITRD = os.environ.get("LUOSER_LAB_KERNEL"), os.environ.get("LUOSER_LAB_INITRD")
pytestmark = [
    pytest.mark.slow,
    needs_qemu,
    pytest.mark.skipif(not (KERNEL and INITRD), reason="LUOSER_LAB_KERNEL and LUOSER_LAB_INITRD name no kernel"),
]
WORDS = (
    "console=ttyS0 kho=on liveupdate=on kho_scratch=32M,64M,16M reserve_mem=1M:4096:labmem labn=3,20 pcilu=0000:01:00.0"
)


class Console:
    """The guest's serial console."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.settimeout(10)
        self._seen = b""

    def wait_for(self, word: bytes, *, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while word not in self._seen:
            assert time.monotonic() < end, f"no {word!r} on the console: {self._seen[-400:]!r}"
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            assert data, f"the console is closed: {self._seen[-400:]!r}"
            self._seen += data
        self._seen = self._seen.split(word, 1)[1]

    def go_on(self) -> None:
        self._socket.sendall(b"\n")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="luoser-") as name:
        yield Path(name)


def document(source: str | Path, **options: Any) -> dict[str, Any]:
    with luoser.open(source, **options) as memory:
        found = to_document(luoser.read(memory, contents=True), full=True)
    assert found["handovers"]
    del found["source"]
    return found


def test_live_guest_reads_like_qemus_dump_of_it(place: Path) -> None:
    options = [
        "-cpu", "max", "-smp", "2", "-kernel", str(KERNEL), "-initrd", str(INITRD), "-append", WORDS,
        "-serial", f"unix:{place}/serial.sock,server=on,wait=off", "-device", "vmcoreinfo",
        "-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-device", "e1000e,bus=rp1",
    ]  # fmt: skip
    with Guest(place, *options, memory="1G", running=True) as guest:
        console = Console(place / "serial.sock")
        for moment in (b"READY1", b"READY2", b"READY3"):
            console.wait_for(moment)
            running, held = document(guest.source), document(guest.source, pause=True)
            assert guest.status == "running"
            guest.qmp("stop")
            wanted = document(guest.dump(place / "core"))
            (place / "core").unlink()
            assert held == wanted, moment
            (remark,) = (problem for problem in running["problems"] if "running guest" in problem["message"])
            running["problems"].remove(remark)
            assert running == wanted, moment
            guest.qmp("cont")
            console.go_on()
