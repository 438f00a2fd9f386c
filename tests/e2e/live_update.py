# SPDX-License-Identifier: MIT
"""A live update of a guest: what its kernels and its user space said at each moment, and dumps of its memory."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.boot import File, files_of
from tests.e2e.guest import initramfs
from tests.e2e.kernels import Kernel
from tests.e2e.machine import Machine, MachineError

__all__ = ["DEVICES", "FORMATS", "SHAPES", "Folio", "Moment", "Run", "folios_of", "live_update", "memory_of"]

FORMATS = ("elf", "kdump-zlib")
SHAPES = ("shapes", (0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, (1 << 64) - 1))
"""The session that user space retrieves after the first kexec, and its tokens."""
AGAIN = "-again"
"""What the names of the sessions of a second live update end with."""
Key = tuple[str, int]
"""(session, token) of a file."""
DEVICES = ("0000:01:00.0", "0000:02:00.0")
"""The devices that kernels with FLBs preserve."""
_PORTS = [
    *("-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-device", "edu,bus=rp1"),
    *("-device", "pcie-root-port,id=rp2,chassis=2,slot=2", "-device", "edu,bus=rp2"),
]


@dataclass(frozen=True, slots=True)
class Folio:
    """A folio of a memfd as the kernel says it to user space. index: of its first page in the file. size: in pages."""

    index: int
    pfn: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment of a live update.

    name:  `pre`, `frozen`, `post`, `finished`, and `pre2`, `frozen2`, `post2` of a second live update.
    dumps: by format.
    said:  the console since the last moment.
    """

    name: str
    dumps: Mapping[str, Path]
    said: str

    def debugfs(self, where: str) -> dict[str, bytes]:
        """The files below /sys/kernel/debug/kho/`where`, by name."""
        found = re.finditer(rf"^DEBUGFS /sys/kernel/debug/kho/{where}/(\S+) (\S*)$", self.said, re.MULTILINE)
        return {match[1]: base64.b64decode(match[2]) for match in found}

    def log(self, pattern: str) -> list[str]:
        """What a pattern with one group matches in the log of the kernel."""
        return re.findall(rf"^LOG \[ *[\d.]+\] {pattern}", self.said, re.MULTILINE)

    def told(self) -> tuple[int, int] | None:
        """(root, array of scratch areas) that the kernel was told at boot. None: nothing."""
        for match in re.finditer(r"^SETUP (\S+) (\S+)$", self.said, re.MULTILINE):
            if int(match[1], 0) == 10:
                data = base64.b64decode(match[2])
                return int.from_bytes(data[:8], "little"), int.from_bytes(data[16:24], "little")
        chosen = {
            match[1]: base64.b64decode(match[2])
            for match in re.finditer(r"^CHOSEN linux,kho-(\S+) (\S+)$", self.said, re.MULTILINE)
        }
        if {"fdt", "scratch"} <= chosen.keys():
            return int.from_bytes(chosen["fdt"][:8], "big"), int.from_bytes(chosen["scratch"][:8], "big")
        return None


@dataclass(slots=True, kw_only=True)
class Run:
    """A live update, or two in a row.

    kernel:    that ran.
    moments:   in their order.
    sessions:  that user space created, in their order.
    preserved: the memfds that it preserved, by (session, token).
    retrieved: those that it retrieved after a kexec.
    folios:    of the preserved memfds.
    kept:      folios of the retrieved memfds.
    """

    kernel: Kernel
    moments: list[Moment] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    preserved: dict[Key, File] = field(default_factory=dict)
    retrieved: dict[Key, File] = field(default_factory=dict)
    folios: dict[Key, list[Folio]] = field(default_factory=dict)
    kept: dict[Key, list[Folio]] = field(default_factory=dict)

    def hear(self, console: str) -> None:
        """Take what user space wrote on the console."""
        created = re.findall(r"^SESSION (\w+)$", console, re.MULTILINE)
        self.sessions = [bytes.fromhex(name).decode() for name in created]
        self.preserved, self.retrieved = (files_of(console, what) for what in ("preserved", "retrieved"))
        self.folios, self.kept = (folios_of(console, what) for what in ("preserved", "retrieved"))

    def preserved_at(self, moment: str) -> dict[Key, File]:
        """The memfds that user space had preserved for the live update to which a moment belongs."""
        return {key: file for key, file in self.preserved.items() if key[0].endswith(AGAIN) is moment.endswith("2")}


def folios_of(console: str, what: str) -> dict[Key, list[Folio]]:
    """The folios of the memfds of which user space wrote. what: `preserved` or `retrieved`."""
    found: dict[Key, list[Folio]] = {}
    for match in re.finditer(rf"^FOLIOS {what} (\w*) (\w+) (\S+)$", console, re.MULTILINE):
        runs = [map(int, run.split(":")) for run in match[3].split(",")]
        found[bytes.fromhex(match[1]).decode(), int(match[2], 0)] = [
            Folio(index + number * size, pfn + number * size, size)
            for index, pfn, size, count in runs
            for number in range(count)
        ]
    return found


def live_update(
    place: Path,
    kernel: Kernel,
    *,
    chain: bool = False,
    sessions: int = 60,
    files: int = 70,
    formats: Sequence[str] = FORMATS,
    nodes: int = 1,
) -> Run:
    """A live update of a guest, with dumps at each moment.

    place:    folder of the run.
    chain:    a second live update follows.
    sessions: empty ones, beside three with files. files: of the session with many.
    formats:  of the dumps; of several, all that QEMU writes at `frozen`.
    nodes:    of the guest's memory (NUMA).

    Raises MachineError, NoKernel.
    """
    scratch = {"4K": "32M,64M,16M", "16K": "64M,64M,32M", "64K": "512M,512M,512M"}[kernel.pages]
    words = (
        f"kho_scratch={scratch} reserve_mem=1M:4096:labmem sessions={sessions} files={files} "
        f"pci_flb={','.join(DEVICES)} chain={int(chain)}"
    )
    run = Run(kernel=kernel)
    image = initramfs(kernel, kexecs=2 if chain else 1)
    memory = memory_of(kernel, nodes)
    more = [*_PORTS, *(_nodes(kernel, memory, nodes) if nodes > 1 else ())]
    with Machine(place, kernel, image, words, memory=str(memory >> 20), more=more) as machine:

        def taken(name: str, said: str) -> None:
            forms = machine.formats() if name == "frozen" and len(formats) > 1 else formats
            run.moments.append(Moment(name=name, dumps={form: machine.dump(name, form) for form in forms}, said=said))

        def at(name: str) -> str:
            said = machine.wait(f"AT {name}\n")
            taken(name, said)
            return said

        def jump(name: str, said: str) -> None:
            address = re.findall(r"^SYMBOL machine_kexec (\w+)$", said, re.MULTILINE)
            if not address or not int(address[-1], 16):
                raise MachineError("the kernel does not say where machine_kexec is")
            with machine.go_to(int(address[-1], 16)):
                taken(name, said)

        jump("frozen", at("pre"))
        at("post")
        machine.go()
        at("finished")
        if chain:
            machine.go()
            jump("frozen2", at("pre2"))
            at("post2")
            machine.go()
            machine.wait("AT finished2\n")
    run.hear(machine.console)
    return run


def memory_of(kernel: Kernel, nodes: int = 1) -> int:
    """Bytes of memory of the guest. With pages of 64 KiB scratch has units of 512 MiB, which each node has to hold."""
    return (4 * nodes if kernel.pages == "64K" else 1) << 30


def _nodes(kernel: Kernel, memory: int, count: int) -> list[str]:
    """Options of QEMU for a machine with nodes, the first with all processors. memory: bytes of all."""
    processors = {"x86-64": ",cpus=0-1", "arm64": ",cpus=0"}[kernel.machine]
    words = []
    for node in range(count):
        words += ["-object", f"memory-backend-ram,id=node{node},size={memory // count}"]
        words += ["-numa", f"node,nodeid={node},memdev=node{node}{'' if node else processors}"]
    return words
