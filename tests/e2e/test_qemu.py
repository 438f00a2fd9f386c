# SPDX-License-Identifier: MIT
"""A handover in the memory of a QEMU machine, found in every kind of dump that QEMU writes of it.

No kernel boots: the machine is stopped before its first instruction, with a made image in its memory, so that it
takes a second.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import MissingMemory, PageState
from luoser.memory.source import Memory
from luoser.state import to_document
from tests import golden
from tests.images import Image, name

QEMU = shutil.which("qemu-system-x86_64")
if QEMU is None:
    pytest.skip("qemu-system-x86_64 is not installed", allow_module_level=True)
RAM = 16 << 20
PLACE = 0x800000
"""Where the image is: above what firmware uses."""
PAGE = 4096
KDUMPS = [f"kdump-{form}{pack}" for form in ("", "raw-") for pack in ("zlib", "lzo", "snappy")]
KINDS = ["elf", "elf paging", "raw", *KDUMPS]
each_kind = pytest.mark.parametrize("kind", KINDS)


def made() -> Image:
    """A kho-v4 handover with a session and the devices of the golden lists."""
    image = Image(pages=(PLACE >> 12) + 64)
    image.alloc(order=10, keep=False)  # up to PLACE
    form = golden.FORMS["pci-version-2"]
    devices = golden.devices_of(form)
    folio = image.alloc(form.blob(devices, first=image.alloc(form.block_page(devices))))
    flbs = image.alloc(struct.pack("<QQ", 1, 1) + name("pci", 48) + struct.pack("<QQ", folio, 1))
    sessions = image.blocks([name("vm0", 64) + struct.pack("<QQ", 0, 0)])
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 3, sessions, flbs)), 32)})
    return image


class Machine:
    """A stopped machine, spoken to by QMP over its standard input and output."""

    def __init__(self, blob: Path) -> None:
        command = [
            str(QEMU), "-S", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", f"{RAM >> 20}M", "-nodefaults",
            "-no-user-config", "-display", "none", "-qmp", "stdio",
            "-device", f"loader,file={blob},addr={PLACE:#x},force-raw=on",
        ]  # fmt: skip
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: object) -> Any:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.process.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            found = json.loads(line)
            assert "error" not in found, f"{name}: {found}"
            if "return" in found:
                return found["return"]
        raise AssertionError(f"QEMU ended: {self.process.stderr.read()}")

    def dump(self, kind: str, path: Path, **arguments: object) -> None:
        if kind == "raw":
            self.command("pmemsave", val=0, size=RAM, filename=str(path))
        else:
            form, _, paging = kind.partition(" ")
            arguments |= {"paging": bool(paging), "protocol": f"file:{path}", "format": form}
            self.command("dump-guest-memory", **arguments)

    def close(self) -> None:
        self.process.communicate(json.dumps({"execute": "quit"}) + "\n", timeout=600)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    blob = tmp_path_factory.mktemp("qemu") / "blob"
    blob.write_bytes(made().data[PLACE:])
    found = Machine(blob)
    yield found
    found.close()


@pytest.fixture(scope="module")
def offered(machine: Machine) -> set[str]:
    return {"raw", "elf paging", *machine.command("query-dump-guest-memory-capability")["formats"]}


@pytest.fixture
def dumped(machine: Machine, offered: set[str], tmp_path: Path, kind: str) -> Iterator[Memory]:
    """The memory of a dump of that kind."""
    if kind not in offered:
        pytest.skip(f"this QEMU writes no {kind}")
    machine.dump(kind, tmp_path / "dump")
    with luoser.open(tmp_path / "dump") as memory:
        yield memory


def document(memory: Memory) -> dict[str, Any]:
    found = to_document(luoser.read(memory, contents=True), full=True)
    del found["source"]
    return found


@each_kind
def test_the_handover_is_found(dumped: Memory, kind: str) -> None:
    with made().open() as image:
        wanted = document(image)
    assert (dumped.format, dumped.remarks) == (kind[: kind.index("-")] if "-" in kind else kind.split()[0], [])
    (handover,) = document(dumped)["handovers"]
    assert handover == wanted["handovers"][0]
    assert [session["name"] for session in handover["luo"]["sessions"]] == ["vm0"]
    assert [device["bdf"] for device in handover["pci"][0]["devices"]] == [
        f"{device.domain:04x}:{device.bdf >> 8:02x}:{device.bdf >> 3 & 31:02x}.{device.bdf & 7}"
        for device in golden.devices_of(golden.FORMS["pci-version-2"])
    ]


@each_kind
def test_every_page_is_what_was_loaded(dumped: Memory, kind: str) -> None:
    data = bytes(made().data[PLACE:])
    assert dumped.read(PLACE, len(data)) == data
    assert dumped.read(RAM - PAGE, PAGE) == bytes(PAGE)
    assert dumped.page_state(RAM) is PageState.ABSENT


def test_memory_that_a_filter_left_out_is_absent(machine: Machine, tmp_path: Path) -> None:
    machine.dump("elf", tmp_path / "dump", begin=PLACE, length=3 * PAGE)
    data = made().data
    with luoser.open(tmp_path / "dump") as memory:
        assert memory.read(PLACE, 3 * PAGE) == data[PLACE : PLACE + 3 * PAGE]
        for address in (0, PLACE - PAGE, PLACE + 3 * PAGE):
            with pytest.raises(MissingMemory) as caught:
                memory.read(address, 1)
            assert caught.value.state is PageState.ABSENT
