# SPDX-License-Identifier: MIT
"""Opens a dump. The format is recognised by content. Packed files are unpacked first.

What reads machines, folders and the rarer files is imported late: most sources are dumps.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from luoser import fdt
from luoser.arguments import need_path
from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, Limits, limited
from luoser.memory import avml, elf, flattened, kdump, lime
from luoser.memory.containers import container
from luoser.memory.device import LIVE
from luoser.memory.elf import ElfMemory
from luoser.memory.file import Buffer, File, load
from luoser.memory.raw import Range, RawMemory
from luoser.memory.source import ByteSource, Memory
from luoser.text import bytes_text, is_url, safe_text, source_name, without_secrets

if TYPE_CHECKING:
    from luoser.memory.remote import Traffic

__all__ = ["FORMATS", "is_offered", "offered", "open_memory"]

_RAW_AT_LEAST = 16 << 20
"""Minimum size in bytes of a raw image whose size is not a multiple of the page size (truncated)."""


_Offer = tuple[str, Callable[[Sequence[Range]], Memory]]
_offer: ContextVar[_Offer | None] = ContextVar("offer", default=None)


@contextmanager
def offered(name: str, opener: Callable[[Sequence[Range]], Memory]) -> Iterator[None]:
    """In the block a path stands for the memory of a program that has luoser in it, such as a debugger.

    name:   the path, which need not be one of a file.
    opener: gives the source, from the ranges that `open_memory` takes.
    """
    token = _offer.set((name, opener))
    try:
        yield
    finally:
        _offer.reset(token)


def is_offered(name: str) -> bool:
    """Whether a path stands for the memory of such a program."""
    offer = _offer.get()
    return offer is not None and offer[0] == name


def open_memory(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    ranges: Sequence[Range] = (),
    pause: bool = False,
    raw: bool = False,
    scan: bool = False,
    limits: Limits | None = None,
) -> Memory:
    """The memory source of a dump, a machine or a guest.

    Formats: ELF cores (64-bit little-endian), kdump-compressed files (flattened or not), LiME and AVML dumps,
    VMware .vmem files and raw images, each also as .xz, .gz, .bz2 or .zst; and folders with the debugfs blobs of KHO.

    path:   a file, a URL of fsspec such as s3://bucket/vmcore, `-` for standard input, /sys/kernel/debug/kho or a copy
            of it, /dev/mem, /proc/kcore, `live:` for this machine, `qmp:SOCKET` or `gdb:HOST:PORT` for a QEMU guest.
    more:   the other files of a split kdump, or the .vmss or .vmsn of a .vmem.
    ranges: physical addresses of the parts of a raw image. Empty: byte N is assumed to be address N. Of `gdb:`: where
            RAM is; empty: as QEMU says.
    raw:    the file is a raw image, whatever it begins with.
    pause:  stop a running guest until the source is closed.
    scan:   of a remote source, agree to fetch all of it if that is needed.
    limits: bounds on what is read. None: the defaults.

    Raises SourceError for a file that cannot be read, is empty, or is not a memory image; UsageError for ranges that
    do not fit the image, and for `pause` or `more` with a source that does not support it.
    """
    names = [need_path(name) for name in (path, *more)]
    with limited(limits):
        return _open(*names, ranges=ranges, pause=pause, raw=raw, scan=scan)


def _open(
    path: str | os.PathLike[str],
    *more: str | os.PathLike[str],
    ranges: Sequence[Range],
    pause: bool,
    raw: bool,
    scan: bool,
) -> Memory:
    if (offer := _offer.get()) is not None and is_offered(os.fspath(path)):
        if more or pause or raw:
            raise UsageError(f"{safe_text(os.fspath(path))}: open in a debugger: read alone, without --pause and --raw")
        with offered("", offer[1]):  # the opener may open the file of this path
            return offer[1](ranges)
    if os.fspath(path).startswith(("qmp:", "gdb:")) or pause:
        return _guest(os.fspath(path), more, pause, ranges)
    memory = _special(os.fspath(path)) if not more else None
    if memory is None:
        named, traffic = _loaded([os.fspath(name) for name in (path, *more)], raw=raw, scan=scan)
        if raw and more:
            raise UsageError("--raw is for a single file")
        memory = _opened(named, raw=raw, is_placed=bool(ranges))
        memory.traffic = traffic
    elif raw:
        raise UsageError(f"{memory.path}: --raw is for a file, not for a {memory.format} source")
    if ranges:
        memory.place(ranges)
        memory.is_guess = False
    memory.path = without_secrets(os.fspath(path))
    memory.files = tuple(source_name(os.fspath(name)) for name in (path, *more))
    return memory


def _loaded(names: Sequence[str], *, raw: bool, scan: bool) -> tuple[list[File], Traffic | None]:
    """The files of a source, and what is counted of those that are remote. None: none is."""
    if not any(map(is_url, names)):
        return [load(name, raw=raw) for name in names], None
    from luoser.memory.remote import Traffic, load_remote

    traffic, whole = Traffic(agreed=scan), (flattened.MAGIC, avml.MAGIC)
    return [
        load_remote(name, traffic, raw=raw, whole=whole) if is_url(name) else load(name, raw=raw) for name in names
    ], traffic


def _guest(path: str, more: tuple[object, ...], pause: bool, ranges: Sequence[Range]) -> Memory:
    if more or not path.startswith(("qmp:", "gdb:")):
        raise UsageError("expected qmp:SOCKET or gdb:HOST:PORT as the only source; --pause is for guests only")
    if path.startswith("gdb:"):
        from luoser.memory.gdb import GdbMemory  # imported late: it needs socket, which other sources do not

        ram = [(part.start, part.start + part.size) for part in ranges if part.size is not None and not part.offset]
        if len(ram) < len(ranges):
            raise UsageError(f"{safe_text(path)}: ranges of RAM are --map START:LENGTH@0")
        return GdbMemory(path, path.removeprefix("gdb:"), pause=pause, ranges=ram)
    from luoser.memory.qmp import QmpMemory

    return QmpMemory(path, path.removeprefix("qmp:"), pause=pause)


def _special(name: str) -> Memory | None:
    """The source if it is the live machine, a device, or a folder of debugfs blobs. None for any other file."""
    if name == LIVE:
        from luoser.memory.live import open_live

        return open_live()
    if name == "-" or is_url(name):
        return None
    shown = safe_text(name)
    try:
        return _folder_or_device(name, shown, os.stat(name))
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}{_root_hint(error)}") from error


def _folder_or_device(name: str, shown: str, status: os.stat_result) -> Memory | None:
    if stat.S_ISDIR(status.st_mode):
        from pathlib import Path

        from luoser.memory.debugfs import DebugfsMemory

        return DebugfsMemory(shown, Path(name))
    if stat.S_ISCHR(status.st_mode):
        from luoser.memory.devmem import DEVICE, DevMemory

        return _device(shown, name, DevMemory) if status.st_rdev == DEVICE else None
    if stat.S_ISREG(status.st_mode) and _is_kcore(status):
        from luoser.memory.kcore import KcoreMemory

        return _device(shown, name, KcoreMemory)
    return None


def _is_kcore(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat("/proc/kcore"))
    except OSError:
        return False


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


def _opened(named: list[File], *, raw: bool, is_placed: bool) -> Memory:
    """The source for files that were opened, with the remarks on their packing.

    raw:       it is a raw image.
    is_placed: its addresses are given, so it is a raw image if it is in no other format.
    """
    if raw:
        memory: Memory = RawMemory(named[0].shown, named[0].buffer)
    else:
        memory = _recognise(named[0], is_placed=is_placed) if len(named) == 1 else _recognise_set(named)
    memory.remarks[:0] = [remark for file in named for remark in file.remarks]
    memory.file_data = sum(file.size for file in named)
    return memory


def _recognise(file: File, *, is_placed: bool) -> Memory:
    shown, buffer = file.shown, file.buffer
    head = bytes(buffer[:16])
    for magics, kind in FORMATS:
        if head.startswith(magics):
            return kind(shown, buffer)
    from luoser.memory import vmware

    if head.startswith(vmware.MAGICS):
        raise SourceError(f"{shown}: a VMware state file; give its .vmem first, then this file")
    if head.startswith(fdt.MAGIC) and len(buffer) <= LIMITS.fdt_size:
        from luoser.memory.debugfs import DebugfsMemory, is_root

        if is_root(buffer[:]):
            return DebugfsMemory(shown, buffer[:])
        raise SourceError(f"{shown}: a flattened devicetree, but not a KHO root; try `luoser decode`")
    found = container(buffer)
    if found is not None and not is_placed:
        raise SourceError(f"{shown}: {found}")
    if len(buffer) < 2 * 4096 or (len(buffer) % 4096 and len(buffer) < _RAW_AT_LEAST):
        word = f"unknown dump format: {len(buffer)} bytes that start with {bytes_text(head)}"
        raise SourceError(f"{shown}: {word}; if it is a raw image of memory, give --raw")
    return RawMemory(shown, buffer)


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


def _layer(file: File) -> ByteSource:
    """The bytes of a file, or of the one that was flattened."""
    is_flat = bytes(file.buffer[:16]).startswith(flattened.MAGIC)
    return flattened.Flattened(file.shown, file.buffer) if is_flat else file.buffer


def _recognise_set(named: list[File]) -> Memory:
    from luoser.memory import vmware

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
