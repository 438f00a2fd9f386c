# SPDX-License-Identifier: MIT
"""Opens a dump. The format is recognised by content. Packed files are unpacked first."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from luoser import fdt
from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, Limits, how_to_raise, limited
from luoser.memory import avml, devmem, elf, flattened, kdump, lime, live, vmware
from luoser.memory.containers import container
from luoser.memory.debugfs import DebugfsMemory, is_root
from luoser.memory.elf import ElfMemory
from luoser.memory.kcore import KcoreMemory
from luoser.memory.packed import LONGEST, DamagedError, unpacked
from luoser.memory.raw import Range, RawMemory, data_segments
from luoser.memory.source import Buffer, ByteSource, Mapped, Memory, Segment
from luoser.text import bytes_text, safe_text

__all__ = ["FORMATS", "open_memory", "read_file", "refuse_endless"]

_CHUNK = 1 << 20
_FREE_RATIO = 64 << 20
"""Bytes that any packed file may give, however small it is."""
_DISK_STEP = 16 << 20
"""Bytes unpacked between two looks at the free space."""
_RAW_AT_LEAST = 16 << 20
"""Minimum size in bytes of a raw image whose size is not a multiple of the page size (truncated)."""


def open_memory(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    ranges: Sequence[Range] = (),
    pause: bool = False,
    raw: bool = False,
    limits: Limits | None = None,
) -> Memory:
    """The memory source of a dump, a machine or a guest.

    Formats: ELF cores (64-bit little-endian), kdump-compressed files (flattened or not), LiME and AVML dumps,
    VMware .vmem files and raw images, each also as .xz, .gz, .bz2 or .zst; and folders with the debugfs blobs of KHO.

    path:   a file, `-` for standard input, /sys/kernel/debug/kho or a copy of it, /dev/mem, /proc/kcore,
            `live:` for this machine, or `qmp:SOCKET` for a QEMU guest.
    more:   the other files of a split kdump, or the .vmss or .vmsn of a .vmem.
    ranges: physical addresses of the parts of a raw image. Empty: byte N is assumed to be address N.
    raw:    the file is a raw image, whatever it begins with.
    pause:  stop a running guest until the source is closed.
    limits: bounds on what is read. None: the defaults.

    Raises SourceError for a file that cannot be read, is empty, or is not a memory image; UsageError for ranges that
    do not fit the image, and for `pause` or `more` with a source that does not support it.
    """
    with limited(limits):
        return _open(path, *more, ranges=ranges, pause=pause, raw=raw)


def _open(
    path: str | os.PathLike[str], *more: str | os.PathLike[str], ranges: Sequence[Range], pause: bool, raw: bool
) -> Memory:
    if os.fspath(path).startswith("qmp:") or pause:
        return _guest(os.fspath(path), more, pause)
    memory = _special(os.fspath(path)) if not more else None
    if memory is None:
        named = [_load(name, raw=raw) for name in (path, *more)]
        if raw and more:
            raise UsageError("--raw is for a single file")
        memory = _opened(named, raw=raw, is_placed=bool(ranges))
    elif raw:
        raise UsageError(f"{memory.path}: --raw is for a file, not for a {memory.format} source")
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

    shown:   its name, safe to print.
    pieces:  data and holes of a sparse file. None for any other file.
    remarks: on its packing.
    """

    shown: str
    buffer: Buffer
    pieces: list[Segment] | None
    remarks: list[str]


def _load(path: str | os.PathLike[str], limit: str = "unpacked", *, raw: bool = False) -> _File:
    """A file, mapped. Raises SourceError.

    limit: name of that of the bytes of a pipe or a compressed file.
    raw:   one that cannot be unpacked is not packed.
    """
    name = os.fspath(path)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        return _buffer(name, shown, limit, raw=raw)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error


def read_file(path: str | os.PathLike[str], *, limit: str) -> bytes:
    """The bytes of a small file, unpacked if it is packed.

    path:  `-` is standard input.
    limit: name of the limit of its size, unpacked.

    Raises SourceError for a file that cannot be read, is larger, or is packed and cut off.
    """
    shown, buffer, _, remarks = _load(path, limit)
    if remarks:
        raise SourceError(f"{shown}: {remarks[0]}")
    most = getattr(LIMITS, limit)
    if len(buffer) > most:
        text = f"file too large: expected at most {most} bytes, found {len(buffer)}; {how_to_raise(limit)}"
        raise SourceError(f"{shown}: {text}")
    return bytes(buffer)


def _buffer(name: str, shown: str, limit: str, *, raw: bool) -> _File:
    """A file, mapped. A pipe or compressed file is first copied into an unnamed temporary file."""
    if name == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed")
        return _unpacked(_spool(_read(sys.stdin.buffer), shown, limit), shown, limit, raw=raw)
    refuse_endless(shown, name)
    with Path(name).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        plain = file if stat.S_ISREG(mode) else _spool(_read(file), shown, limit)
        return _unpacked(plain, shown, limit, raw=raw)


def refuse_endless(shown: str, path: str) -> None:
    """Raise SourceError for what may have no end, or waits for others to write. It is not opened for this.

    shown: name in the error.
    path:  of the file.
    """
    status = Path(path).stat()
    if stat.S_ISBLK(status.st_mode):
        raise SourceError(f"{shown}: a block device; copy what it has to a file first")
    if stat.S_ISCHR(status.st_mode):
        raise SourceError(f"{shown}: a device; of these only /dev/mem is read")
    if not status.st_size and Path("/proc").exists() and status.st_dev == Path("/proc").stat().st_dev:
        raise SourceError(f"{shown}: a file of /proc; of these only /proc/kcore is read")


def _unpacked(file: BinaryIO, shown: str, limit: str, *, raw: bool) -> _File:
    """The file itself, mapped, or, if it is packed, what it has."""
    file.seek(0)
    head = file.read(LONGEST)
    file.seek(0)
    remarks: list[str] = []
    try:
        pieces = unpacked(file, head, remarks)
        if pieces is None:
            return _map(file, shown, limit, remarks)
        most = max(_FREE_RATIO, LIMITS.unpacked_ratio * os.fstat(file.fileno()).st_size)
        return _map(_spool(pieces, shown, limit, ratio=most), shown, limit, remarks)
    except SourceError as error:
        if raw and not remarks and isinstance(error, DamagedError):
            return _map(file, shown, limit, remarks)
        raise error if str(error).startswith(shown) else SourceError(f"{shown}: {error}") from error


def _read(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_CHUNK):
        yield block


def _spool(source: Iterator[bytes], shown: str, limit: str, *, ratio: int | None = None) -> BinaryIO:
    """A temporary file with these bytes.

    limit: name of that of the bytes.
    ratio: most bytes that a packed file of this size may give. None: not packed.
    """
    spool = tempfile.TemporaryFile(prefix="luoser-")  # noqa: SIM115 - the mapping outlives this function
    size, checked, most = 0, 0, getattr(LIMITS, limit)
    for block in source:
        size += len(block)
        if size > most:
            text = f"file too large: expected at most {most} bytes, unpacked; {how_to_raise(limit)}"
            raise SourceError(f"{shown}: {text}")
        if ratio is not None and size > ratio:
            text = f"a small file that unpacks to more than {ratio} bytes; {how_to_raise('unpacked_ratio')}"
            raise SourceError(f"{shown}: {text}")
        _write_sparse(spool, block, size)
        if size >= checked + _DISK_STEP:
            checked = size
            _need_disk(spool, shown)
    spool.truncate(size)
    spool.flush()
    return cast(BinaryIO, spool)


def _need_disk(spool: BinaryIO, shown: str) -> None:
    """Raise SourceError if too little is left free where temporary files are."""
    room = os.fstatvfs(spool.fileno())
    if room.f_bavail * room.f_frsize < LIMITS.disk_left:
        where = safe_text(tempfile.gettempdir())
        text = f"unpacked, it would fill {where}; set TMPDIR to a folder with more room"
        raise SourceError(f"{shown}: {text}, or lower --limit disk_left, now {LIMITS.disk_left}")


def _write_sparse(spool: BinaryIO, block: bytes, end: int) -> None:
    if block.count(0) == len(block):
        spool.seek(end)
    else:
        spool.write(block)


def _map(file: BinaryIO, shown: str, limit: str, remarks: list[str]) -> _File:
    status = os.fstat(file.fileno())
    size = status.st_size
    if size == 0:
        if file.read(1):  # files of debugfs and proc have size 0
            file.seek(0)
            return _map(_spool(_read(file), shown, limit), shown, limit, remarks)
        raise SourceError(f"{shown}: {remarks[0] if remarks else 'the file is empty'}")
    try:
        buffer = Mapped(file.fileno(), size, access=mmap.ACCESS_READ)
        buffer.shown = shown
    except OSError as error:
        if error.errno != errno.ENODEV:  # files of debugfs and sysfs cannot be mapped
            raise
        return _map(_spool(_read(file), shown, limit), shown, limit, remarks)
    pieces = data_segments(file.fileno(), size) if status.st_blocks * 512 < size else None
    return _File(shown, buffer, pieces, remarks)


def _opened(named: list[_File], *, raw: bool, is_placed: bool) -> Memory:
    """The source for files that were opened, with the remarks on their packing.

    raw:       it is a raw image.
    is_placed: its addresses are given, so it is a raw image if it is in no other format.
    """
    if raw:
        memory: Memory = RawMemory(named[0].shown, named[0].buffer, named[0].pieces)
    else:
        memory = _recognise(named[0], is_placed=is_placed) if len(named) == 1 else _recognise_set(named)
    memory.remarks[:0] = [remark for file in named for remark in file.remarks]
    memory.file_data = sum(map(_data_of, named))
    return memory


def _data_of(file: _File) -> int:
    """Bytes of a file without its holes."""
    return len(file.buffer) if file.pieces is None else sum(piece.stored for piece in file.pieces)


def _recognise(file: _File, *, is_placed: bool) -> Memory:
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
    found = container(buffer)
    if found is not None and not is_placed:
        raise SourceError(f"{shown}: {found}")
    if len(buffer) < 2 * 4096 or (len(buffer) % 4096 and len(buffer) < _RAW_AT_LEAST):
        word = f"unknown dump format: {len(buffer)} bytes that start with {bytes_text(head)}"
        raise SourceError(f"{shown}: {word}; if it is a raw image of memory, give --raw")
    return RawMemory(shown, buffer, file.pieces)


def _recognise_flattened(shown: str, buffer: Buffer, layer: flattened.Flattened) -> Memory:
    """The source for a flattened file. Its pieces are not copied."""
    head = layer[:16]
    if head.startswith(kdump.MAGICS):
        memory: Memory = kdump.KdumpMemory(shown, [(shown, layer)])
    elif head.startswith(elf.MAGIC):
        memory = ElfMemory(shown, buffer, layer)
    else:
        raise SourceError(f"{shown}: flattened dump: expected kdump or ELF inside, found {bytes_text(head)}")
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
