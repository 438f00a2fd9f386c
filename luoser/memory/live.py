# SPDX-License-Identifier: MIT
"""`live:`, the running machine: the best available source of its memory, and the roots that its kernel exposes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from luoser.abi.kho import CHOSEN_FDT, CHOSEN_SCRATCH, SETUP_KEXEC_KHO, kho_data
from luoser.errors import SourceError
from luoser.memory.debugfs import DebugfsMemory
from luoser.memory.device import LIVE
from luoser.memory.devmem import DevMemory
from luoser.memory.kcore import KcoreMemory
from luoser.memory.source import KnownRoot, Memory
from luoser.text import safe_text

__all__ = ["open_live"]


def open_live(*, base: Path = Path("/")) -> Memory:
    """The memory of this machine: /proc/kcore, else /dev/mem, else the debugfs blobs of KHO.

    `known_roots` has the roots in the boot parameters.

    base: root directory of the file system.

    Raises SourceError with the reason for each of them if none can be read.
    """
    failures: list[str] = []
    roots = tuple(_known_roots(base))
    for make in (_kcore, _devmem, _debugfs):
        try:
            memory = make(base, roots)
        except SourceError as error:
            failures.append(str(error))
            continue
        memory.remarks += [f"not used: {failure}" for failure in failures]
        return memory
    hint = ""
    if any("Operation not permitted" in failure for failure in failures):
        hint = " (the kernel is locked down, or CAP_SYS_RAWIO is missing; use a dump made by kdump or a hypervisor)"
    if os.geteuid() != 0:
        hint = " (only root may read the memory of a running machine)"
    raise SourceError(f"{LIVE} no source of memory can be read{hint}: {'; '.join(failures)}")


def _open(path: Path, kind: Callable[[str, int], Memory]) -> Memory:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{safe_text(str(path))}: {error.strerror or error}") from error
    try:
        return kind(safe_text(str(path)), descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _kcore(base: Path, roots: tuple[KnownRoot, ...]) -> Memory:
    return _with_roots(_open(base / "proc/kcore", KcoreMemory), base, roots)


def _devmem(base: Path, roots: tuple[KnownRoot, ...]) -> Memory:
    iomem = str(base / "proc/iomem")
    memory = _open(base / "dev/mem", lambda path, descriptor: DevMemory(path, descriptor, iomem=iomem))
    return _with_roots(memory, base, roots)


def _with_roots(memory: Memory, base: Path, roots: tuple[KnownRoot, ...]) -> Memory:
    memory.known_roots, memory.symbols = roots, str(base / "proc/kallsyms")
    return memory


def _debugfs(base: Path, roots: tuple[KnownRoot, ...]) -> Memory:
    """The debugfs blobs. The address of the root in `in` comes from the boot parameters."""
    folder = base / "sys/kernel/debug/kho"
    return DebugfsMemory(safe_text(str(folder)), folder, incoming=roots[0] if len(roots) == 1 else None)


def _known_roots(base: Path) -> Iterator[KnownRoot]:
    """The roots in the kernel's boot parameters: setup_data on x86-64, /chosen of the devicetree elsewhere."""
    for folder in sorted((base / "sys/kernel/boot_params/setup_data").glob("*")):
        kind, data = _bytes(folder / "type"), _bytes(folder / "data")
        if kind.strip() in (b"0x%x" % SETUP_KEXEC_KHO, b"%d" % SETUP_KEXEC_KHO) and len(data) >= kho_data.size:
            node = kho_data.parse(data)
            if node.fdt_addr:
                scratch, who = (node.scratch_addr, node.scratch_size), f"setup_data {folder.name}"
                yield KnownRoot(root=node.fdt_addr, incoming=True, scratch=scratch, evidence=who)
    tree = base / "proc/device-tree"
    root = _span(tree, _bytes(tree / "chosen" / CHOSEN_FDT))
    if root is not None:
        spans = (_span(tree, _bytes(tree / "chosen" / name)) for name in CHOSEN_SCRATCH)
        scratch_span = next(filter(None, spans), None)
        yield KnownRoot(root=root[0], incoming=True, scratch=scratch_span, evidence="/chosen of the devicetree")


def _span(tree: Path, value: bytes) -> tuple[int, int] | None:
    """(address, size in bytes) of a devicetree property with big-endian cells. None if it does not have that size."""
    cells = 4 * _cells(tree / "#address-cells")
    if len(value) != cells + 4 * _cells(tree / "#size-cells"):
        return None
    return int.from_bytes(value[:cells], "big"), int.from_bytes(value[cells:], "big")


def _cells(file: Path) -> int:
    data = _bytes(file)
    return int(struct.unpack(">I", data)[0]) if len(data) == 4 else 2


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(1 << 16)
    except OSError:
        return b""
