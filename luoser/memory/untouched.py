# SPDX-License-Identifier: MIT
"""Which parts of a process's memory were never touched and are therefore zeros, according to the host's /proc.

Reading such a part through the process takes time and page tables. If the memory is a shared file (memfd, /dev/shm),
it also makes the host allocate the pages. Two kinds are recognised: private anonymous memory that is neither present
nor swapped out, and holes of a shared file in memory. For anything else the answer is "not known".
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["untouched"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8
_SWAPPED = 0x40
"""Bit 62 of a pagemap entry (swapped), in its last byte. Bit 63 means present (admin-guide/mm/pagemap.rst)."""
_LINE = re.compile(r"(\w+)-(\w+) ..(.)(.) (\w+) (\w+):(\w+) (\d+) *(.*)")
_IN_MEMORY = ("/memfd:", "/dev/shm/")


class _Mapping(NamedTuple):
    """A mapping [start, end) of a process.

    descriptor: of the process's pagemap, or of the mapped file.
    offset:     of the mapping in the file. None for anonymous memory.
    """

    start: int
    end: int
    descriptor: int
    offset: int | None


def untouched(process: int, spans: Iterable[tuple[int, int]]) -> Iterator[bool]:
    """Whether each part of a process's memory was never touched. False if that is not known.

    process: its id.
    spans:   (virtual address, size in bytes) of the parts.

    Raises OSError for a process that has ended, or that the caller may not inspect.
    """
    with ExitStack() as files:
        mappings = list(_mappings(Path(f"/proc/{process}"), files))
        for start, size in spans:
            mapping = next((one for one in mappings if one.start <= start and start + size <= one.end), None)
            yield mapping is not None and _is_untouched(mapping, start, start + size)


def _is_untouched(mapping: _Mapping, start: int, end: int) -> bool:
    if mapping.offset is not None:
        return _is_hole(mapping.descriptor, start - mapping.start + mapping.offset, end - start)
    first, count = start // _PAGE, -(-end // _PAGE) - start // _PAGE
    entries = os.pread(mapping.descriptor, _ENTRY * count, _ENTRY * first)
    return len(entries) == _ENTRY * count and max(entries[_ENTRY - 1 :: _ENTRY]) < _SWAPPED


def _is_hole(file: int, offset: int, size: int) -> bool:
    try:
        return os.lseek(file, offset, os.SEEK_DATA) >= offset + size
    except OSError as error:
        return error.errno == errno.ENXIO  # a hole up to the end


def _mappings(process: Path, files: ExitStack) -> Iterator[_Mapping]:
    """The mappings of a process whose untouched parts can be recognised."""
    pagemap = _opened(process / "pagemap", files)
    handles: dict[tuple[int, int], Path] | None = None
    for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
        fields = _LINE.fullmatch(line)
        if fields is None:
            continue
        start, end, offset, major, minor = (int(fields[number], 16) for number in (1, 2, 5, 6, 7))
        inode, name = int(fields[8]), fields[9]
        if fields[4] == "p" and inode == 0 and not name:
            yield _Mapping(start, end, pagemap, None)
        elif fields[4] == "s" and name.startswith(_IN_MEMORY):
            handles = _handles(process) if handles is None else handles
            handle = handles.get((os.makedev(major, minor), inode))
            if handle is not None:
                yield _Mapping(start, end, _opened(handle, files), offset)


def _handles(process: Path) -> dict[tuple[int, int], Path]:
    """Paths in /proc of the files that a process has open, by device and inode."""
    found = {}
    for handle in (process / "fd").iterdir():
        with suppress(OSError):  # closed in the meantime
            status = handle.stat()
            found[status.st_dev, status.st_ino] = handle
    return found


def _opened(path: Path, files: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, descriptor)
    return descriptor
