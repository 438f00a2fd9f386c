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

__all__ = ["DEVICES", "FORMATS", "SHAPES", "Moment", "Run", "live_update"]

FORMATS = ("elf", "kdump-zlib")
SHAPES = ("shapes", (0x10, 0x11, 0x12, 0x13, 0x14, 0x15, (1 << 64) - 1))
"""The session that user space retrieves after the first kexec, and its tokens."""
DEVICES = ("0000:01:00.0", "0000:02:00.0")
"""The devices that kernels with FLBs preserve."""
_PORTS = [
    *("-device", "pcie-root-port,id=rp1,chassis=1,slot=1", "-device", "edu,bus=rp1"),
    *("-device", "pcie-root-port,id=rp2,chassis=2,slot=2", "-device", "edu,bus=rp2"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment of a live update.

    name:    `pre`, `frozen`, `post`, `finished`, and `pre2`, `frozen2`, `post2` of a second live update.
    dumps:   by format.
    said:    the console since the last moment.
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
    preserved: the memfds that user space preserved, by (session, token).
    retrieved: those that it retrieved after the first kexec.
    """

    kernel: Kernel
    moments: list[Moment] = field(default_factory=list)
    preserved: dict[tuple[str, int], File] = field(default_factory=dict)
    retrieved: dict[tuple[str, int], File] = field(default_factory=dict)


def live_update(
    place: Path,
    kernel: Kernel,
    *,
    chain: bool = False,
    sessions: int = 60,
    files: int = 70,
    formats: Sequence[str] = FORMATS,
) -> Run:
    """A live update of a guest, with a dump in each format at each moment.

    place:    folder of the run.
    chain:    a second live update follows.
    sessions: empty ones, beside three with files. files: of the session with many.

    Raises MachineError, NoKernel.
    """
    big = kernel.pages == "64K"
    scratch = {"4K": "32M,64M,16M", "16K": "64M,64M,32M", "64K": "512M,512M,512M"}[kernel.pages]
    words = (
        f"kho_scratch={scratch} reserve_mem=1M:4096:labmem sessions={sessions} files={files} "
        f"pci_flb={','.join(DEVICES)} chain={int(chain)}"
    )
    run = Run(kernel=kernel)
    image = initramfs(kernel, kexecs=2 if chain else 1)
    with Machine(place, kernel, image, words, memory="4G" if big else "1G", more=_PORTS) as machine:

        def taken(name: str, said: str) -> None:
            run.moments.append(Moment(name=name, dumps={form: machine.dump(name, form) for form in formats}, said=said))

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
        said = at("finished")
        run.preserved, run.retrieved = files_of(machine.console, "preserved"), files_of(said, "retrieved")
        if chain:
            machine.go()
            jump("frozen2", at("pre2"))
            at("post2")
            for key, file in files_of(machine.console, "preserved").items():
                run.preserved.setdefault(key, file)
    return run
