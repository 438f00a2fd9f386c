# SPDX-License-Identifier: MIT
"""Which parts of a process's memory were never touched and so are zeros, by what the host's /proc says.

Reading such a part through the process itself takes time and page tables and, where the memory is a file in memory
that is shared, makes the host allocate it. Two kinds are told: private anonymous memory for which the page tables have
no entry, neither a page nor one swapped out, and holes of a shared file in memory. Everything else is not known.
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
"""In the last byte of an entry of pagemap; the bit above it is for a page that is present."""
_LINE = re.compile(r"(\w+)-(\w+) ..(.)(.) (\w+) (\w+):(\w+) (\d+) *(.*)")
_IN_MEMORY = ("/memfd:", "/dev/shm/")


class _Mapping(NamedTuple):
    """Addresses [start, end). descriptor: the process's pagemap, or the file that is mapped there from offset on."""

    start: int
    end: int
    descriptor: int
    offset: int | None


def untouched(process: int, spans: Iterable[tuple[int, int]]) -> Iterator[bool]:
    """For each (address, size) of a process's memory whether it was never touched; False where that is not known.

    Raises OSError for a process that is not there or that one may not look at.
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
        return error.errno == errno.ENXIO  # nothing but a hole up to the end


def _mappings(process: Path, files: ExitStack) -> Iterator[_Mapping]:
    """Those mappings of a process of which something is known."""
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
    """The files that a process holds open, by device and inode."""
    found = {}
    for handle in (process / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            status = handle.stat()
            found[status.st_dev, status.st_ino] = handle
    return found


def _opened(path: Path, files: ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, descriptor)
    return descriptor
