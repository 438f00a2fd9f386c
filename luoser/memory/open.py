# SPDX-License-Identifier: MIT
"""Opens a dump: the format is recognised by content, packed files are unpacked on the way."""

from __future__ import annotations

import errno
import gzip
import lzma
import mmap
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from luoser import fdt
from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS
from luoser.memory import avml, devmem, elf, flattened, kdump, lime, live, vmware
from luoser.memory.debugfs import DebugfsMemory, is_root
from luoser.memory.elf import ElfMemory
from luoser.memory.kcore import KcoreMemory
from luoser.memory.raw import Range, RawMemory, data_segments
from luoser.memory.source import Buffer, Memory, Segment
from luoser.text import safe_text

__all__ = ["FORMATS", "open_memory", "read_file"]

_PACKED: dict[bytes, Any] = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open}
_OTHER = {
    b"QEVM": "a QEMU migration stream; use dump-guest-memory or `virsh dump --memory-only` instead",
    b"LibvirtQemud": "a guest saved by libvirt; use `virsh dump --memory-only` instead",
}
_CHUNK = 1 << 20
_RAW_AT_LEAST = 16 << 20
"""A file of this many bytes may be a raw image that was cut off inside of a page."""


def open_memory(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    ranges: Sequence[Range] = (),
    pause: bool = False,
) -> Memory:
    """A memory source for a file, `-` for standard input, `live:` for this machine, `qmp:SOCKET` for a QEMU guest.

    Reads ELF cores (64-bit little-endian), kdump-compressed files (flattened or not), LiME and AVML dumps,
    VMware .vmem files and raw images, each also inside .xz or .gz. `more`: the other files of a split kdump,
    or the .vmss or .vmsn of a .vmem. A folder is one of debugfs blobs, /sys/kernel/debug/kho or a copy of it.

    ranges: where the bytes of a raw image belong. pause: hold a guest while it is read. Raises SourceError with
    one clear line when a file cannot be read, is empty, or is of a kind that is no memory image.
    """
    if os.fspath(path).startswith("qmp:") or pause:
        return _guest(os.fspath(path), more, pause)
    memory = _special(os.fspath(path)) if not more else None
    if memory is None:
        named = [_load(name) for name in (path, *more)]
        memory = _recognise(named[0]) if len(named) == 1 else _recognise_set(named)
    if ranges:
        memory.place(ranges)
        memory.is_guess = False
    memory.path = os.fspath(path)
    return memory


def _guest(path: str, more: tuple[object, ...], pause: bool) -> Memory:
    if more or not path.startswith("qmp:"):
        raise UsageError("a guest, qmp:SOCKET, is read by itself, and --pause is for guests only")
    from luoser.memory.qmp import QmpMemory  # sockets are loaded where one is asked for

    return QmpMemory(path, path.removeprefix("qmp:"), pause=pause)


def _special(name: str) -> Memory | None:
    """What is no file to be mapped: the live machine, a device, a folder of debugfs blobs. None for all else."""
    if name == live.NAME:
        return live.open_live()
    if name == "-":
        return None
    shown = safe_text(name)
    try:
        status = Path(name).stat()
        if stat.S_ISDIR(status.st_mode):
            return DebugfsMemory(shown, Path(name))
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == devmem.DEVICE:
            return _device(shown, name, devmem.DevMemory)
        if stat.S_ISREG(status.st_mode) and Path(name).resolve() == Path("/proc/kcore"):
            return _device(shown, name, KcoreMemory)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}{_root_hint(error)}") from error
    return None


def _device(shown: str, name: str, kind: Callable[[str, int], Memory]) -> Memory:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return kind(shown, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _root_hint(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return (
            "; the kernel is locked down, or the process lacks CAP_SYS_RAWIO: try a dump made by kdump or a hypervisor"
        )
    return "; only root may read the memory of a running machine" if error.errno == errno.EACCES else ""


class _File(NamedTuple):
    """shown: the name, safe to print. pieces: where a sparse file has data, None for any other."""

    shown: str
    buffer: Buffer
    pieces: list[Segment] | None


def _load(path: str | os.PathLike[str], limit: int = LIMITS.decompressed) -> _File:
    """limit: bytes that may come out of a pipe or a packed file."""
    name = os.fspath(path)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        return _buffer(name, shown, limit)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error


def read_file(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """The bytes of a small file, `-` for standard input; unpacked where it is .xz or .gz. Raises SourceError."""
    shown, buffer, _ = _load(path, limit)
    if len(buffer) > limit:
        raise SourceError(f"{shown}: {len(buffer)} bytes, more than the {limit} that are read here")
    return bytes(buffer)


def _buffer(name: str, shown: str, limit: int) -> _File:
    """The whole file mapped or, when packed or piped, unpacked into an unnamed temporary file and mapped."""
    if name == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed")
        return _map(_unpacked(_spool(sys.stdin.buffer, shown, limit), shown, limit), shown, limit)
    with Path(name).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        plain = file if stat.S_ISREG(mode) else _spool(file, shown, limit)
        return _map(_unpacked(plain, shown, limit), shown, limit)


def _unpacked(file: BinaryIO, shown: str, limit: int) -> BinaryIO:
    """The file itself or, when it is .xz or .gz, its unpacked contents."""
    file.seek(0)
    head = file.read(6)
    file.seek(0)
    for magic, unpack in _PACKED.items():
        if head.startswith(magic):
            with unpack(file, "rb") as packed:
                return _spool(cast(BinaryIO, packed), shown, limit)
    return file


def _spool(source: BinaryIO, shown: str, limit: int) -> BinaryIO:
    spool = tempfile.TemporaryFile(prefix="luoser-")  # noqa: SIM115 - the mapping outlives this function
    size = 0
    try:
        while block := source.read(_CHUNK):
            size += len(block)
            if size > limit:
                raise SourceError(f"{shown}: more than the {limit} bytes that are read here")
            _write_sparse(spool, block, size)
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SourceError(f"{shown}: damaged compressed file after {size} unpacked bytes: {error}") from error
    spool.truncate(size)
    spool.flush()
    return cast(BinaryIO, spool)


def _write_sparse(spool: BinaryIO, block: bytes, end: int) -> None:
    if block.count(0) == len(block):
        spool.seek(end)
    else:
        spool.write(block)


def _map(file: BinaryIO, shown: str, limit: int) -> _File:
    status = os.fstat(file.fileno())
    size = status.st_size
    if size == 0:
        if file.read(1):  # files of debugfs and proc do not tell their size
            file.seek(0)
            return _map(_spool(file, shown, limit), shown, limit)
        raise SourceError(f"{shown}: the file is empty")
    try:
        buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno != errno.ENODEV:  # files of debugfs and sysfs can be read only
            raise
        return _map(_spool(file, shown, limit), shown, limit)
    pieces = data_segments(file.fileno(), size) if status.st_blocks * 512 < size else None
    return _File(shown, buffer, pieces)


def _recognise(file: _File) -> Memory:
    shown, buffer = file.shown, file.buffer
    head = bytes(buffer[:16])
    for magics, kind in FORMATS:
        if head.startswith(magics):
            return kind(shown, buffer)
    if head.startswith(vmware.MAGICS):
        raise SourceError(f"{shown}: a VMware state file; name its .vmem first, then this file")
    if head.startswith(fdt.MAGIC) and len(buffer) <= LIMITS.fdt_size:
        if is_root(bytes(buffer)):
            return DebugfsMemory(shown, bytes(buffer))
        raise SourceError(f"{shown}: a single flattened devicetree that is no KHO root; try `luoser decode`")
    for magic, word in _OTHER.items():
        if head.startswith(magic):
            raise SourceError(f"{shown}: {word}")
    if len(buffer) < 2 * 4096 or (len(buffer) % 4096 and len(buffer) < _RAW_AT_LEAST):
        raise SourceError(f"{shown}: no known dump format: {len(buffer)} bytes that start with {head.hex(' ')}")
    return RawMemory(shown, buffer, file.pieces)


def _recognise_flattened(shown: str, buffer: Buffer, layer: flattened.Flattened) -> Memory:
    """The format below a flattened file; its pieces stay where they are."""
    head = layer[:16]
    if head.startswith(kdump.MAGICS):
        memory: Memory = kdump.KdumpMemory(shown, [(shown, layer)])
    elif head.startswith(elf.MAGIC):
        memory = ElfMemory(shown, buffer, layer)
    else:
        raise SourceError(f"{shown}: a flattened dump of neither kdump nor ELF: it starts with {head.hex(' ')}")
    if layer.truncated:
        memory.remarks.insert(0, f"truncated: {shown} has no end record")
    return memory


FORMATS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[str, Buffer], Memory]], ...] = (
    (
        flattened.MAGIC,
        lambda shown, buffer: _recognise_flattened(shown, buffer, flattened.Flattened(shown, buffer)),
    ),
    (elf.MAGIC, ElfMemory),
    (kdump.MAGICS, lambda shown, buffer: kdump.KdumpMemory(shown, [(shown, buffer)])),
    (lime.MAGIC, lime.LimeMemory),
    (avml.MAGIC, avml.AvmlMemory),
)
"""The bytes that a file of a format starts with, and what reads it by name and contents: a line for each format."""


def _recognise_set(named: list[_File]) -> Memory:
    heads = [bytes(file.buffer[:16]) for file in named]
    if all(head.startswith(kdump.MAGICS) for head in heads):
        return kdump.KdumpMemory(named[0].shown, [(file.shown, file.buffer) for file in named])
    if len(named) == 2 and heads[1].startswith(vmware.MAGICS):
        vmem, state = named
        return vmware.VmwareMemory(vmem.shown, vmem.buffer, state.shown, state.buffer)
    names = ", ".join(file.shown for file in named)
    raise SourceError(f"{names}: several files are read together only as a split kdump or as .vmem and .vmss")
