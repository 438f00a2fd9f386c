# SPDX-License-Identifier: MIT
"""The root file system of a guest: busybox, the program luo, /init, and for a kexec the next kernel with its own."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.kernels import CACHE, Archive, Kernel, NoKernel, compiler, host

__all__ = ["initramfs"]

_HERE = Path(__file__).parent / "guest"
_DIRECTORY, _PROGRAM, _FILE = 0o040755, 0o100755, 0o100644


def initramfs(
    kernel: Kernel,
    *,
    kexecs: int = 0,
    after: Kernel | None = None,
    more: Mapping[str, tuple[int, bytes]] | None = None,
) -> bytes:
    """A root file system, as a packed cpio archive.

    kernel: that boots it.
    kexecs: in a row; each needs the kernel and the file system of the next boot.
    after:  that it loads for a kexec. None: itself.
    more:   (mode, bytes) of further files and folders by name; a folder comes before what is in it.
    """
    own = {
        "bin": (_DIRECTORY, b""),
        "bin/busybox": (_PROGRAM, _busybox(kernel.machine).read_bytes()),
        "bin/luo": (_PROGRAM, _luo(kernel.machine).read_bytes()),
        "init": (_PROGRAM, (_HERE / "init").read_bytes()),
    }
    own = {**(more or {}), **own}
    made = gzip.compress(_cpio(own), 1)
    for _ in range(kexecs):
        own |= {"kernel": (_FILE, (after or kernel).image.read_bytes()), "initrd.img": (_FILE, made)}
        made = gzip.compress(_cpio(own), 1)
    return made


def _cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An archive in the format newc. files: (mode, bytes) by name."""
    parts = []
    for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
        parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
    return b"".join(parts)


def _luo(machine: str) -> Path:
    source, made = _HERE / "luo.c", CACHE / f"luo-{machine}"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        if shutil.which(compiler(machine)) is None:
            raise NoKernel(f"{compiler(machine)} is not installed")
        CACHE.mkdir(parents=True, exist_ok=True)
        command = [compiler(machine), "-static", "-O2", "-o", str(made), str(source)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            raise NoKernel(f"{compiler(machine)} cannot link static programs; install libc6-dev for {machine}")
    return made


def _busybox(machine: str) -> Path:
    installed = Path("/bin/busybox")
    if machine == host() and installed.exists() and b"/ld-linux" not in installed.read_bytes()[:4096]:
        return installed
    place = CACHE / f"busybox-{machine}"
    made = place / "bin/busybox"
    if not made.exists() and not (made := place / "usr/bin/busybox").exists():
        place.mkdir(parents=True, exist_ok=True)
        Archive({"x86-64": "amd64", "arm64": "arm64"}[machine]).unpack(place, "busybox-static")
        made = next(found for found in (place / "bin/busybox", place / "usr/bin/busybox") if found.exists())
    return made
