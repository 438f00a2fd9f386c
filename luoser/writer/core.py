# SPDX-License-Identifier: MIT
"""ELF cores of a few pages: what `extract` cuts out of a dump."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from luoser.errors import MissingMemory
from luoser.memory.elf import RAM_NOTE
from luoser.memory.source import Memory

__all__ = ["write_core"]

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_PAGE = 4096
_PT_LOAD, _PT_NOTE, _ET_CORE, _EM_X86_64 = 1, 4, 4, 62


def write_core(file: BinaryIO, memory: Memory, pages: Iterable[int]) -> int:
    """Write the 4 KiB pages at the given physical addresses, with VMCOREINFO; gives the size in bytes.

    A page that is not in the source is left out, so that it is missing in the cut as well.
    """
    runs = list(_runs(sorted(page for page in set(pages) if _is_whole(memory, page))))
    notes = _notes(memory)
    first = _EHDR.size + (1 + len(runs)) * _PHDR.size
    place = -(-(first + len(notes)) // _PAGE) * _PAGE
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    file.write(
        _EHDR.pack(ident, _ET_CORE, _EM_X86_64, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, 1 + len(runs), 0, 0, 0)
    )
    file.write(_PHDR.pack(_PT_NOTE, 0, first, 0, 0, len(notes), len(notes), 4))
    for start, size in runs:
        file.write(_PHDR.pack(_PT_LOAD, 6, place, 0, start, size, size, _PAGE))
        place += size
    file.write(notes)
    file.write(bytes(-file.tell() % _PAGE))
    for start, size in runs:
        file.write(memory.read(start, size))
    return place


def _is_whole(memory: Memory, page: int) -> bool:
    try:
        memory.read(page, _PAGE)
    except MissingMemory:
        return False
    return True


def _runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    """(start, size) of neighbouring pages."""
    start = end = -1
    for page in pages:
        if page != end:
            if start >= 0:
                yield start, end - start
            start = page
        end = page + _PAGE
    if start >= 0:
        yield start, end - start


def _notes(memory: Memory) -> bytes:
    ram = memory.ram or tuple((segment.start, segment.end) for segment in memory.segments)
    notes = _note(RAM_NOTE, b"".join(struct.pack("<QQ", *span) for span in ram))
    return notes + _note(b"VMCOREINFO", _lines(memory.vmcoreinfo)) if memory.vmcoreinfo else notes


def _lines(info: Mapping[str, str]) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in info.items()).encode()


def _note(name: bytes, data: bytes) -> bytes:
    padded = (name + b"\0").ljust(-(-(len(name) + 1) // 4) * 4, b"\0")
    return struct.pack("<III", len(name) + 1, len(data), 0) + padded + data.ljust(-(-len(data) // 4) * 4, b"\0")
