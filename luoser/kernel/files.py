# SPDX-License-Identifier: MIT
"""Types from files: BTF by itself (/sys/kernel/btf/vmlinux), in an ELF file (vmlinux, a module), or DWARF."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from luoser.errors import SourceError
from luoser.kernel.btf import MAGIC, Btf
from luoser.kernel.dwarf import Dwarf
from luoser.kernel.types import Types, TypesError
from luoser.limits import LIMITS
from luoser.text import safe_text

__all__ = ["read_types"]

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_ELF64 = b"\x7fELF\x02\x01"
_NOBITS = 8


def read_types(path: str | os.PathLike[str], *, base: str | os.PathLike[str] | None = None) -> Types:
    """The types in a file.

    path: a blob of BTF, or an ELF file with a section .BTF or with DWARF.
    base: a file with the types of the kernel proper, for a module.

    Raises SourceError for any other file, and for damaged types.
    """
    shown = safe_text(os.fspath(path))
    below = read_types(base) if base is not None else None
    try:
        with Path(path).open("rb") as file:
            head = file.read(_EHDR.size)
            if head.startswith(_ELF64) and len(head) == _EHDR.size:
                place = _section(file, head)
                if place is None:
                    return Dwarf(Path(path), where=f"DWARF of {shown}")
                file.seek(place[0])
                data = file.read(min(place[1], LIMITS.type_bytes))
            else:
                data = head + file.read(LIMITS.type_bytes)
        if int.from_bytes(data[:2], "little") != MAGIC:
            raise SourceError(f"{shown}: expected BTF, or an ELF file with BTF or DWARF, found {data[:4].hex(' ')}")
        return Btf(data, where=f"BTF of {shown}", base=below if isinstance(below, Btf) else None)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    except TypesError as error:
        raise SourceError(str(error)) from None


def _section(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    """(offset, size in bytes) of the section .BTF. None: there is none."""
    fields = _EHDR.unpack(head)
    start, size, count, names_at = fields[6], fields[11], fields[12], fields[13]
    if size != _SHDR.size:
        return None
    table = _read(file, start, size * count)
    headers = list(_SHDR.iter_unpack(table[: len(table) // size * size]))
    if names_at >= len(headers):
        return None
    names = _read(file, headers[names_at][4], min(headers[names_at][5], LIMITS.note_size))
    for name, kind, _, _, offset, length, *_ in headers:
        if names[name : name + 5] == b".BTF\0" and kind != _NOBITS:
            return offset, length
    return None


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
