# SPDX-License-Identifier: MIT
"""Boot a fresh kernel that is told that it was kexec'ed into a handover which luoser built.

x86-64: a copy of the bzImage has the address of the setup_data node. arm64: QEMU's own devicetree, with the /chosen.
The image itself is put into memory by QEMU's loader device.

    python -m tests.e2e.boot IMAGE.elf --kernel 7.3 --machine arm64 --show vm:1:2
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import luoser
from luoser import fdt
from luoser.abi.kho import CHOSEN_FDT, CHOSEN_SCRATCH
from luoser.writer.image import Passed
from tests.e2e.guest import initramfs
from tests.e2e.kernels import Kernel, NoKernel, kernel
from tests.e2e.machine import Machine, MachineError, program_of

__all__ = ["ABOUT", "File", "Outcome", "boot", "files_of", "passed"]

_SETUP_SECTORS, _CODE32, _SETUP_DATA = 0x1F1, 0x214, 0x250
"""Offsets of hdr.setup_sects, hdr.code32_start and hdr.setup_data. Source: Documentation/arch/x86/boot.rst."""
_EARLY = {"x86-64": "earlyprintk=serial", "arm64": "earlycon"}
"""By which a kernel writes to the console before it has one."""
_ENDS = {
    "x86-64": {4096: (1 << 30) - (32 << 20)},
    "arm64": {4096: 2 << 30, 16384: 2 << 30, 65536: 4 << 30},
}
"""End of the memory that an image may use, by machine and bytes of a page."""
_STARTS = {"x86-64": 0x0800_0000, "arm64": 0x4800_0000}
"""Its start, by machine: after the kernel."""
_MEMORY = {4096: 1 << 30, 16384: 1 << 30, 65536: 3 << 30}
"""Bytes of memory of the machine, by bytes of a page."""


@dataclass(frozen=True, slots=True)
class File:
    """What user space sees of a memfd. sha256: of all its bytes, in hex."""

    size: int
    position: int
    seals: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a kernel did with an image.

    ended: `done`: user space came to its end. `panic`, `oops`, or `silent`.
    log:   lines of the kernel about KHO, LUO and their users.
    said:  lines of user space about what it could not do.
    files: by (session, token).
    """

    ended: str
    log: tuple[str, ...]
    said: tuple[str, ...]
    files: Mapping[tuple[str, int], File]


def boot(
    place: Path,
    kernel: Kernel,
    image: Path,
    told: Passed,
    show: Mapping[str, Sequence[int]],
    *,
    words: str = "",
    seconds: int = 240,
    scratch: int | None = None,
    memory: int = 0,
) -> Outcome:
    """What a kernel does with an image.

    place: folder of the run.
    image: an ELF core.
    told:  what the kernel is told at boot.
    show:  tokens to retrieve, by session.
    words: of the command line.
    scratch: address in a scratch area where a kernel of x86-64 is put, as kexec does. None: where QEMU puts it.
    memory: bytes of the machine. 0: enough for what luoser puts in places of its own.
    """
    program_of(kernel.machine)  # it is asked for the board's devicetree, too
    place.mkdir(parents=True, exist_ok=True)
    wanted = ",".join(f"{os.fsencode(name).hex()}:{':'.join(map(hex, tokens))}" for name, tokens in show.items())
    line = f"{_EARLY[kernel.machine]} stage=boot show={wanted} {words}"
    room = str((memory or _MEMORY[told.root_size]) >> 20)
    more = ["-device", f"loader,file={image}", *_told(place, kernel, told, room, scratch)]
    with Machine(place, kernel, initramfs(kernel), line, memory=room, more=more) as machine:
        try:
            machine.wait("DONE boot", seconds=seconds)
            ended = "done"
        except MachineError:
            ended = "panic" if re.search("Kernel panic|PANIC: early exception", machine.console) else "silent"
        console = machine.console
    if ended != "panic" and re.search(r"\bOops\b|BUG: unable to handle|Unable to handle kernel", console):
        ended = "oops"
    head = "DMESG " if ended == "done" else ""  # the console has lines that are cut by others
    log = [found[1] for found in re.finditer(rf"^{head}\[ *[\d.]+\] (.*)$", console, re.MULTILINE)]
    about = [entry for entry in log if re.search(ABOUT, entry, re.IGNORECASE) and "ommand line" not in entry]
    said = tuple(re.findall(r"^LUO (.*: .*)$", console, re.MULTILINE))
    return Outcome(ended=ended, log=tuple(dict.fromkeys(about)), said=said, files=files_of(console, "retrieved"))


ABOUT = (
    r"^(kho|luo|liveupdate|test_kho|pci_flb|memfd|revived|node '|kernel panic|bug:|oops|warning|rip: |pc : |unable to |"
    r"internal error|failed to)|labmem"
)
"""Lines of the kernel's log that are about a handover or about a crash."""


def files_of(console: str, what: str) -> dict[tuple[str, int], File]:
    """The memfds of which user space wrote, by (session, token). what: `preserved` or `retrieved`."""
    found = {}
    for match in re.finditer(rf"^MEMFD {what} (\w*) (\w+) (\w+) (\w+) (\w+) (\w+)$", console, re.MULTILINE):
        token, size, position, seals = (int(word, 0) for word in match.groups()[1:5])
        found[os.fsdecode(bytes.fromhex(match[1])), token] = File(size, position, seals, match[6])
    return found


def _told(place: Path, kernel: Kernel, told: Passed, memory: str, scratch: int | None) -> list[str]:
    """Options of QEMU by which the kernel is told."""
    if kernel.machine == "x86-64":
        data, more = bytearray(kernel.image.read_bytes()), list[str]()
        data[_SETUP_DATA : _SETUP_DATA + 8] = told.node.to_bytes(8, "little")
        if scratch is not None:
            start = (data[_SETUP_SECTORS] + 1) * 512
            (place / "protected").write_bytes(data[start:])
            data[_CODE32 : _CODE32 + 4] = scratch.to_bytes(4, "little")
            del data[start + 4096 :]  # what is left QEMU puts to 1 MiB
            more = ["-device", f"loader,file={place / 'protected'},addr={scratch:#x},force-raw=on"]
        (place / "bzImage").write_bytes(data)
        return ["-kernel", str(place / "bzImage"), *more]
    plain, changed = place / "board.dtb", place / "told.dtb"
    plain.unlink(missing_ok=True)
    board = ["-machine", f"virt,dumpdtb={plain}", "-cpu", "cortex-a76", "-m", memory]
    command = ["qemu-system-aarch64", *board, "-nographic", "-no-user-config", "-nodefaults", "-device", "vmcoreinfo"]
    subprocess.run([*command, "-serial", "null"], check=True, capture_output=True)
    root = fdt.parse(plain.read_bytes()).root
    chosen = root.node("chosen")
    assert chosen is not None
    for name, address, size in (
        (CHOSEN_FDT, told.root, told.root_size),
        (CHOSEN_SCRATCH[0], told.array, told.size),
    ):
        chosen.properties.append((name.encode(), address.to_bytes(8, "big") + size.to_bytes(8, "big")))
    changed.write_bytes(fdt.flatten(fdt.sequential(root)))
    return ["-dtb", str(changed)]


def passed(image: Path, machine: str) -> Passed:
    """What a kernel has to be told of an image, by the image itself. Raises SystemExit if it does not say."""
    with luoser.open(image) as memory:
        handovers = luoser.read(memory).handovers
        page = memory.page_size or 4096
    if len(handovers) != 1:
        raise SystemExit(f"{image}: expected one handover, found {len(handovers)}")
    (handover,) = handovers
    preserved = handover.preserved.map
    extents = preserved.extents() if preserved else ()
    start = min((start for start, _, _ in extents), default=_STARTS[machine])
    end = max((start + count * (page << order) for start, order, count in extents), default=0)
    if start < _STARTS[machine] or end > _ENDS[machine][page]:
        room = f"{_STARTS[machine]:#x}-{_ENDS[machine][page]:#x}"
        word = f"it preserves {start:#x}-{end:#x}: expected {room}, RAM of the machine without its kernel and initrd"
        raise SystemExit(f"{image}: {word}; see `luoser build --machine {machine}`")
    found = re.search(r"the (?:setup_data node|devicetree) at (0x[0-9a-f]+)", "\n".join(handover.evidence))
    if handover.address is None or handover.scratch_array is None or found is None or handover.scratch is None:
        raise SystemExit(
            f"{image}: expected an incoming root with scratch areas; see `luoser build --machine {machine}`"
        )
    size = 16 * len(handover.scratch)
    return Passed(
        root=handover.address, root_size=page, array=handover.scratch_array, size=size, node=int(found[1], 16)
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.boot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--kernel", default="7.3")
    parser.add_argument("--machine", default="x86-64", choices=("x86-64", "arm64"))
    parser.add_argument("--pages", default="4K", choices=("4K", "16K", "64K"))
    parser.add_argument("--show", action="append", default=[], metavar="SESSION:TOKEN:...", help="what to retrieve")
    given = parser.parse_args()
    names = [one.split(":") for one in given.show]
    show = {name: [int(token, 0) for token in tokens] for name, *tokens in names}
    try:
        found = kernel(given.kernel, given.machine, given.pages)
        with tempfile.TemporaryDirectory() as place:
            outcome = boot(Path(place), found, given.image.resolve(), passed(given.image, given.machine), show)
    except (NoKernel, MachineError, luoser.LuoserError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join((*outcome.log, *outcome.said)))
    for (name, token), file in outcome.files.items():
        print(f"{name} {token:#x}: {file.size} bytes, position {file.position:#x}, seals {file.seals}, {file.sha256}")
    print(outcome.ended)
    return outcome.ended != "done"


if __name__ == "__main__":
    sys.exit(main())
