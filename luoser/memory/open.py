# SPDX-License-Identifier: MIT
"""Opens a dump. The format is recognised by content. .xz and .gz files are decompressed first."""

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
from luoser.memory.source import Buffer, ByteSource, Memory, Segment
from luoser.text import safe_text

__all__ = ["FORMATS", "open_memory", "read_file"]

_PACKED: dict[bytes, Any] = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open}
_OTHER = {
    b"QEVM": "a QEMU migration stream; use dump-guest-memory or `virsh dump --memory-only` instead",
    b"LibvirtQemud": "a guest saved by libvirt; use `virsh dump --memory-only` instead",
}
_CHUNK = 1 << 20
_RAW_AT_LEAST = 16 << 20
"""Minimum size in bytes of a raw image whose size is not a multiple of the page size (truncated)."""


def open_memory(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    ranges: Sequence[Range] = (),
    pause: bool = False,
) -> Memory:
    """The memory source of a dump, a machine or a guest.

    Formats: ELF cores (64-bit little-endian), kdump-compressed files (flattened or not), LiME and AVML dumps,
    VMware .vmem files and raw images, each also as .xz or .gz; and folders with the debugfs blobs of KHO.

    path:   a file, `-` for standard input, /sys/kernel/debug/kho or a copy of it, /dev/mem, /proc/kcore,
            `live:` for this machine, or `qmp:SOCKET` for a QEMU guest.
    more:   the other files of a split kdump, or the .vmss or .vmsn of a .vmem.
    ranges: physical addresses of the parts of a raw image. Empty: byte N is assumed to be address N.
    pause:  stop a running guest until the source is closed.

    Raises SourceError for a file that cannot be read, is empty, or is not a memory image; UsageError for ranges that
    do not fit the image, and for `pause` or `more` with a source that does not support it.
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
        raise UsageError("expected qmp:SOCKET as the only source; --pause is for guests only")
    from luoser.memory.qmp import QmpMemory  # imported late: it needs socket, which other sources do not

    return QmpMemory(path, path.removeprefix("qmp:"), pause=pause)


def _special(name: str) -> Memory | None:
    """The source if it is the live machine, a device, or a folder of debugfs blobs. None for any other file."""
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
            "; the kernel is locked down, or the process lacks CAP_SYS_RAWIO; use a dump made by kdump or a hypervisor"
        )
    return "; only root may read the memory of a running machine" if error.errno == errno.EACCES else ""


class _File(NamedTuple):
    """A file that was opened.

    shown:  its name, safe to print.
    pieces: data and holes of a sparse file. None for any other file.
    """

    shown: str
    buffer: Buffer
    pieces: list[Segment] | None


def _load(path: str | os.PathLike[str], limit: int = LIMITS.decompressed) -> _File:
    """A file, mapped. Raises SourceError.

    limit: most bytes to read from a pipe or a compressed file.
    """
    name = os.fspath(path)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        return _buffer(name, shown, limit)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error


def read_file(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """The bytes of a small file, decompressed if it is .xz or .gz.

    path:  `-` is standard input.
    limit: maximum size in bytes, after decompression.

    Raises SourceError for a file that cannot be read or is larger.
    """
    shown, buffer, _ = _load(path, limit)
    if len(buffer) > limit:
        raise SourceError(f"{shown}: file too large: expected at most {limit} bytes, found {len(buffer)}")
    return bytes(buffer)


def _buffer(name: str, shown: str, limit: int) -> _File:
    """A file, mapped. A pipe or compressed file is first copied into an unnamed temporary file."""
    if name == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed")
        return _map(_unpacked(_spool(sys.stdin.buffer, shown, limit), shown, limit), shown, limit)
    with Path(name).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        plain = file if stat.S_ISREG(mode) else _spool(file, shown, limit)
        return _map(_unpacked(plain, shown, limit), shown, limit)


def _unpacked(file: BinaryIO, shown: str, limit: int) -> BinaryIO:
    """The file itself or, if it is .xz or .gz, its decompressed contents."""
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
                raise SourceError(f"{shown}: file too large: expected at most {limit} bytes after decompression")
            _write_sparse(spool, block, size)
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SourceError(f"{shown}: compressed file damaged after {size} decompressed bytes: {error}") from error
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
        if file.read(1):  # files of debugfs and proc have size 0
            file.seek(0)
            return _map(_spool(file, shown, limit), shown, limit)
        raise SourceError(f"{shown}: the file is empty")
    try:
        buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno != errno.ENODEV:  # files of debugfs and sysfs cannot be mapped
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
        raise SourceError(f"{shown}: a VMware state file; give its .vmem first, then this file")
    if head.startswith(fdt.MAGIC) and len(buffer) <= LIMITS.fdt_size:
        if is_root(bytes(buffer)):
            return DebugfsMemory(shown, bytes(buffer))
        raise SourceError(f"{shown}: a flattened devicetree, but not a KHO root; try `luoser decode`")
    for magic, word in _OTHER.items():
        if head.startswith(magic):
            raise SourceError(f"{shown}: {word}")
    if len(buffer) < 2 * 4096 or (len(buffer) % 4096 and len(buffer) < _RAW_AT_LEAST):
        raise SourceError(f"{shown}: unknown dump format: {len(buffer)} bytes that start with {head.hex(' ')}")
    return RawMemory(shown, buffer, file.pieces)


def _recognise_flattened(shown: str, buffer: Buffer, layer: flattened.Flattened) -> Memory:
    """The source for a flattened file. Its pieces are not copied."""
    head = layer[:16]
    if head.startswith(kdump.MAGICS):
        memory: Memory = kdump.KdumpMemory(shown, [(shown, layer)])
    elif head.startswith(elf.MAGIC):
        memory = ElfMemory(shown, buffer, layer)
    else:
        raise SourceError(f"{shown}: flattened dump: expected kdump or ELF inside, found {head.hex(' ')}")
    _remark_end(memory, shown, layer)
    return memory


def _remark_end(memory: Memory, shown: str, layer: ByteSource) -> None:
    if isinstance(layer, flattened.Flattened) and layer.truncated:
        memory.remarks.insert(0, f"truncated: {shown} has no end record")


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


def _layer(file: _File) -> ByteSource:
    """The bytes of a file, or of the one that was flattened."""
    is_flat = bytes(file.buffer[:16]).startswith(flattened.MAGIC)
    return flattened.Flattened(file.shown, file.buffer) if is_flat else file.buffer


def _recognise_set(named: list[_File]) -> Memory:
    layers = [_layer(file) for file in named]
    heads = [bytes(layer[:16]) for layer in layers]
    if all(head.startswith(kdump.MAGICS) for head in heads):
        memory = kdump.KdumpMemory(named[0].shown, [(file.shown, layers[at]) for at, file in enumerate(named)])
        for file, layer in zip(named, layers, strict=True):
            _remark_end(memory, file.shown, layer)
        return memory
    if len(named) == 2 and heads[1].startswith(vmware.MAGICS):
        vmem, state = named
        return vmware.VmwareMemory(vmem.shown, vmem.buffer, state.shown, state.buffer)
    names = ", ".join(file.shown for file in named)
    raise SourceError(f"{names}: expected several files to be a split kdump, or a .vmem and its .vmss")
