# SPDX-License-Identifier: MIT
"""Opens a dump: the format is recognised by content, packed files are unpacked on the way."""

from __future__ import annotations

import gzip
import lzma
import mmap
import os
import stat
import sys
import tempfile
import zlib
from typing import Any, BinaryIO, cast

from luoser.errors import SourceError
from luoser.limits import LIMITS
from luoser.memory import elf
from luoser.memory.elf import ElfMemory
from luoser.memory.raw import RawMemory
from luoser.memory.source import Buffer, Memory
from luoser.text import safe_text

__all__ = ["open_memory", "read_file"]

_PACKED: dict[bytes, Any] = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open}
_OTHER = {
    b"KDUMP   ": "a kdump-compressed dump",
    b"DISKDUMP": "a diskdump-compressed dump",
    b"makedumpfile": "a flattened makedumpfile dump",
    b"EMiL": "a LiME dump",
    b"AVML": "an AVML dump",
    b"QEVM": "a QEMU migration stream",
    b"\xd0\x0d\xfe\xed": "a single flattened devicetree, not memory; try `luoser decode`",
}
_CHUNK = 1 << 20


def open_memory(path: str | os.PathLike[str]) -> Memory:
    """A memory source for a file, `-` for standard input.

    Reads ELF cores (64-bit little-endian) and raw images, each also inside .xz or .gz. Raises SourceError
    with one clear line when the file cannot be read, is empty, or is of a kind that is no memory image.
    """
    name = os.fspath(path)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        buffer = _buffer(name, shown)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    memory = _recognise(shown, buffer)
    memory.path = name
    return memory


def read_file(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """The bytes of a small file, `-` for standard input; unpacked where it is .xz or .gz. Raises SourceError."""
    name = os.fspath(path)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        buffer = _buffer(name, shown)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    if len(buffer) > limit:
        raise SourceError(f"{shown}: {len(buffer)} bytes, more than the {limit} that are read here")
    return bytes(buffer)


def _buffer(name: str, shown: str) -> Buffer:
    """The whole file mapped or, when packed or piped, unpacked into an unnamed temporary file and mapped."""
    if name == "-":
        return _map(_spool(sys.stdin.buffer, shown), shown)
    flags = os.O_RDONLY | os.O_CLOEXEC
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{shown}: a directory, expected a memory dump")
        if not stat.S_ISREG(mode):
            os.set_blocking(descriptor, True)
            return _map(_spool(file, shown), shown)
        head = file.peek(8)[:8]
        for magic, unpack in _PACKED.items():
            if head.startswith(magic):
                with unpack(name, "rb") as packed:
                    return _map(_spool(cast(BinaryIO, packed), shown), shown)
        return _map(file, shown)


def _spool(source: BinaryIO, shown: str) -> BinaryIO:
    spool = tempfile.TemporaryFile(prefix="luoser-")  # noqa: SIM115 - the mapping outlives this function
    size = 0
    try:
        while block := source.read(_CHUNK):
            size += len(block)
            if size > LIMITS.decompressed:
                raise SourceError(f"{shown}: unpacks to more than {LIMITS.decompressed} bytes")
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


def _map(file: BinaryIO, shown: str) -> Buffer:
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise SourceError(f"{shown}: the file is empty, expected a memory dump")
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _recognise(shown: str, buffer: Buffer) -> Memory:
    head = bytes(buffer[:16])
    if head.startswith(elf.MAGIC):
        return ElfMemory(shown, buffer)
    for magic, kind in _OTHER.items():
        if head.startswith(magic):
            raise SourceError(f"{shown}: {kind}, which cannot be read yet as memory; convert it to an ELF core")
    if len(buffer) < 2 * 4096 or len(buffer) % 512:
        raise SourceError(
            f"{shown}: neither an ELF core nor a raw image: {len(buffer)} bytes that start with {head.hex(' ')}"
        )
    return RawMemory(shown, buffer)
