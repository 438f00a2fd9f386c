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
from luoser.limits import LIMITS, how_to_raise
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
    if below is not None and not isinstance(below, Btf):
        raise SourceError(f"{below.where}: expected BTF: types of a module count from those of its kernel")
    try:
        with Path(path).open("rb") as file:
            head = file.read(_EHDR.size)
            if not (head.startswith(_ELF64) and len(head) == _EHDR.size):
                return _btf(head + file.read(LIMITS.type_bytes), shown, below)
            sections = _sections(file, head)
            if b".BTF" not in sections:
                return Dwarf(Path(path), where=f"DWARF of {shown}")
            if b".BTF.base" in sections:  # a module that is built apart from its kernel
                below = _btf(_types(file, *sections[b".BTF.base"]), f"{shown}, .BTF.base", None)
            return _btf(_types(file, *sections[b".BTF"]), shown, below)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    except TypesError as error:
        raise SourceError(str(error)) from None


def _btf(data: bytes, shown: str, base: Btf | None) -> Btf:
    if int.from_bytes(data[:2], "little") != MAGIC:
        found = data[:4].hex(" ") or "nothing"
        raise SourceError(f"{shown}: expected BTF, or an ELF file with BTF or DWARF, found {found}")
    if len(data) > LIMITS.type_bytes:
        raise TypesError(f"BTF of {shown}: more than {LIMITS.type_bytes} bytes; {how_to_raise('type_bytes')}")
    return Btf(data, where=f"BTF of {shown}", base=base)


def _sections(file: BinaryIO, head: bytes) -> dict[bytes, tuple[int, int]]:
    """(offset, size in bytes) of the sections with BTF that are there, by name."""
    fields = _EHDR.unpack(head)
    start, size, count, names_at = fields[6], fields[11], fields[12], fields[13]
    if size != _SHDR.size:
        return {}
    table = _read(file, start, size * count)
    headers = list(_SHDR.iter_unpack(table[: len(table) // size * size]))
    if names_at >= len(headers):
        return {}
    names = _read(file, headers[names_at][4], min(headers[names_at][5], LIMITS.note_size))
    found = dict[bytes, tuple[int, int]]()
    for name, kind, _, _, offset, length, *_ in headers:
        for wanted in (b".BTF", b".BTF.base"):
            if names[name : name + len(wanted) + 1] == wanted + b"\0" and kind != _NOBITS:
                found.setdefault(wanted, (offset, length))
    return found


def _types(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes of a section, at most one more than those of types may be."""
    return _read(file, offset, min(size, LIMITS.type_bytes + 1))


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset >= 1 << 63:  # no file is as long
        return b""
    file.seek(offset)
    return file.read(size)
