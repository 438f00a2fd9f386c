# SPDX-License-Identifier: MIT
"""Files as bytes: mapped, from a pipe, or unpacked. What they are is decided elsewhere.

Small commands read a file and nothing else, so that little is imported here, and pathlib and tempfile are not.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, cast

from luoser.bits import is_zero
from luoser.errors import SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.packed import LONGEST, DamagedError, Reader, unpacked
from luoser.text import is_url, safe_text, source_name

if TYPE_CHECKING:
    from luoser.memory.remote import Remote

__all__ = ["Buffer", "File", "Local", "Mapped", "load", "read_file", "refuse_endless", "runs_of_data", "spooled"]

_CHUNK = 1 << 20
_FREE_RATIO = 64 << 20
"""Bytes that any packed file may give, however small it is."""
_DISK_STEP = 16 << 20
"""Bytes unpacked between two looks at the free space."""
_IN_MEMORY = 4 << 20
"""Bytes of a pipe or an unpacked file up to which they are kept in memory, without a temporary file."""
_PIECES = 1 << 16
"""Runs of data of a sparse file. One with more is read as a whole."""


class Mapped(mmap.mmap):
    """A file that is mapped for reading. Slices raise SourceError if it became shorter: its pages are gone.

    shown: name of the file in errors.
    data:  [start, end) offsets of the data of a sparse file, ascending; the rest is holes. None: no holes.
    """

    shown = "the file"
    data: tuple[tuple[int, int], ...] | None = None

    def __getitem__(self, place: Any) -> Any:
        self.need_whole()
        return super().__getitem__(place)

    def need_whole(self) -> None:
        """Raise SourceError if the file became shorter. A read of what is gone would end the process (SIGBUS)."""
        if self.size() < len(self):
            text = f"became shorter while it was read: expected {len(self)} bytes, found {self.size()}"
            raise SourceError(f"{self.shown}: {text}; copy it first")

    def give_back(self, start: int, end: int) -> None:
        """Unmap the pages between two offsets, or up to the end of the file. A read maps them again."""
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, min(end, len(self)) // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end and hasattr(mmap, "MADV_DONTNEED"):
            with suppress(OSError):  # of hugetlbfs, for one: only whole huge pages
                self.madvise(mmap.MADV_DONTNEED, start, end - start)


Local: TypeAlias = bytes | mmap.mmap
"""Bytes that are all at hand."""
Buffer: TypeAlias = "Local | Remote"
"""The bytes of a file: mapped, in memory, or fetched by need."""


def runs_of_data(buffer: Buffer, start: int, end: int) -> Iterator[tuple[int, int]]:
    """[low, high) offsets of the data between two offsets, ascending. The holes of a sparse file are left out."""
    runs = buffer.data if isinstance(buffer, Mapped) else None
    if runs is None:
        runs = ((start, end),)
    for low, high in runs[max(0, bisect_right(runs, (start, 0)) - 1) :]:
        if low >= end:
            return
        if max(low, start) < min(high, end):
            yield max(low, start), min(high, end)


class File(NamedTuple):
    """A file that was opened.

    shown:   its name, safe to print.
    remarks: on its packing.
    """

    shown: str
    buffer: Buffer
    remarks: list[str]

    @property
    def size(self) -> int:
        """Bytes without the holes."""
        return sum(end - start for start, end in runs_of_data(self.buffer, 0, len(self.buffer)))


def load(path: str | os.PathLike[str], limit: str = "unpacked", *, raw: bool = False) -> File:
    """A file, mapped; a small one that had to be unpacked is in memory. Raises SourceError.

    limit: name of that of the bytes of a pipe or a compressed file.
    raw:   one that cannot be unpacked is not packed.
    """
    name = os.fspath(path)
    if is_url(name):
        raise SourceError(
            f"{source_name(name)}: a URL: only dumps and state documents are read from there; copy it first"
        )
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
    shown, buffer, remarks = load(path, limit)
    if remarks:
        raise SourceError(f"{shown}: {remarks[0]}")
    most = getattr(LIMITS, limit)
    if len(buffer) > most:
        text = f"file too large: expected at most {most} bytes, found {len(buffer)}; {how_to_raise(limit)}"
        raise SourceError(f"{shown}: {text}")
    return buffer[:]


def _buffer(name: str, shown: str, limit: str, *, raw: bool) -> File:
    """A file, mapped. A pipe or compressed file is first copied: in memory, or into an unnamed temporary file."""
    if name == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed")
        return _unpacked(_spool(_read(sys.stdin.buffer), shown, limit), shown, limit, raw=raw)
    refuse_endless(shown, name)
    with open(name, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        plain = file if stat.S_ISREG(mode) else _spool(_read(file), shown, limit)
        return _unpacked(plain, shown, limit, raw=raw)


def refuse_endless(shown: str, path: str) -> None:
    """Raise SourceError for what may have no end, or waits for others to write. It is not opened for this.

    shown: name in the error.
    path:  of the file.
    """
    status = os.stat(path)
    if stat.S_ISBLK(status.st_mode):
        raise SourceError(f"{shown}: a block device; copy what it has to a file first")
    if stat.S_ISCHR(status.st_mode):
        raise SourceError(f"{shown}: a device; of these only /dev/mem is read")
    if not status.st_size and os.path.exists("/proc") and status.st_dev == os.stat("/proc").st_dev:
        raise SourceError(f"{shown}: a file of /proc; of these only /proc/kcore is read")


def _unpacked(file: BinaryIO, shown: str, limit: str, *, raw: bool) -> File:
    """The file itself, mapped, or, if it is packed, what it has."""
    file.seek(0)
    head = file.read(LONGEST)
    file.seek(0)
    remarks: list[str] = []
    try:
        pieces = unpacked(file, head, remarks)
        if pieces is None:
            return _map(file, shown, limit, remarks)
        most = max(_FREE_RATIO, LIMITS.unpacked_ratio * _size(file))
        return _map(_spool(pieces, shown, limit, ratio=most), shown, limit, remarks)
    except SourceError as error:
        if raw and not remarks and isinstance(error, DamagedError):
            return _map(file, shown, limit, remarks)
        raise error if str(error).startswith(shown) else SourceError(f"{shown}: {error}") from error


def spooled(file: Reader, size: int | None, shown: str, limit: str) -> File:
    """What comes from where it cannot be mapped, unpacked if it is packed: in memory, or in a temporary file.

    size:  bytes that come. None: not known.
    shown: name in errors.
    limit: name of that of its bytes, unpacked.

    Raises SourceError, of which DamagedError does not name the file.
    """
    head = b""
    while len(head) < LONGEST and (piece := file.read(LONGEST - len(head))):
        head += piece
    remarks: list[str] = []
    again = _Again(head, file)
    pieces = unpacked(again, head, remarks)
    most = max(_FREE_RATIO, LIMITS.unpacked_ratio * size) if size is not None else None
    spool = _spool(pieces or _read(again), shown, limit, ratio=most if pieces is not None else None)
    return _map(spool, shown, limit, remarks)


class _Again:
    """A file from its start on, of which the first bytes were read."""

    def __init__(self, head: bytes, file: Reader) -> None:
        self._head, self._file = head, file

    def read(self, size: int) -> bytes:
        """As of `Reader`."""
        data, self._head = self._head[:size], self._head[size:]
        return data or self._file.read(size)


def _read(file: Reader) -> Iterator[bytes]:
    while block := file.read(_CHUNK):
        yield block


def _size(file: BinaryIO) -> int:
    return len(file.getbuffer()) if isinstance(file, io.BytesIO) else os.fstat(file.fileno()).st_size


def _spool(source: Iterator[bytes], shown: str, limit: str, *, ratio: int | None = None) -> BinaryIO:
    """These bytes as a file: in memory, or if they are many a temporary file.

    limit: name of that of the bytes.
    ratio: most bytes that a packed file of this size may give. None: not packed.
    """
    spool: BinaryIO | None = None
    kept = list[bytes]()
    size, checked, most = 0, 0, getattr(LIMITS, limit)
    for block in source:
        size += len(block)
        if size > most:
            text = f"file too large: expected at most {most} bytes, unpacked; {how_to_raise(limit)}"
            raise SourceError(f"{shown}: {text}")
        if ratio is not None and size > ratio:
            text = f"a small file that unpacks to more than {ratio} bytes; {how_to_raise('unpacked_ratio')}"
            raise SourceError(f"{shown}: {text}")
        kept.append(block)
        if size > _IN_MEMORY:
            spool = spool or _temporary()
            _write_sparse(spool, kept)
            kept.clear()
            if size >= checked + _DISK_STEP:
                checked = size
                _need_disk(spool, shown)
    if spool is None:
        return io.BytesIO(b"".join(kept))
    spool.truncate(size)
    spool.flush()
    return spool


def _temporary() -> BinaryIO:
    import tempfile

    return cast(BinaryIO, tempfile.TemporaryFile(prefix="luoser-"))


def _need_disk(spool: BinaryIO, shown: str) -> None:
    """Raise SourceError if too little is left free where temporary files are."""
    import tempfile

    room = os.fstatvfs(spool.fileno())
    if room.f_bavail * room.f_frsize < LIMITS.disk_left:
        where = safe_text(tempfile.gettempdir())
        text = f"unpacked, it would fill {where}; set TMPDIR to a folder with more room"
        raise SourceError(f"{shown}: {text}, or lower --limit disk_left=N, now {LIMITS.disk_left}")


def _write_sparse(spool: BinaryIO, blocks: list[bytes]) -> None:
    """Append blocks. Those of zeros become holes."""
    for block in blocks:
        if is_zero(block):
            spool.seek(len(block), os.SEEK_CUR)
        else:
            spool.write(block)


def _map(file: BinaryIO, shown: str, limit: str, remarks: list[str]) -> File:
    size = _size(file)
    if size == 0:
        if file.read(1):  # files of debugfs and proc have size 0
            file.seek(0)
            return _map(_spool(_read(file), shown, limit), shown, limit, remarks)
        raise SourceError(f"{shown}: {remarks[0] if remarks else 'the file is empty'}")
    if isinstance(file, io.BytesIO):
        return File(shown, file.getvalue(), remarks)
    try:
        buffer = Mapped(file.fileno(), size, access=mmap.ACCESS_READ)
        buffer.shown = shown
    except OSError as error:
        if error.errno != errno.ENODEV:  # files of debugfs and sysfs cannot be mapped
            raise
        return _map(_spool(_read(file), shown, limit), shown, limit, remarks)
    if os.fstat(file.fileno()).st_blocks * 512 < size:
        buffer.data = _data(file.fileno(), size)
    return File(shown, buffer, remarks)


def _data(descriptor: int, size: int) -> tuple[tuple[int, int], ...] | None:
    """[start, end) offsets of the data of a regular file of that size, in whole pages.

    None: too many runs of it, or the file system does not say.
    """
    try:
        runs = tuple(islice(_runs(descriptor, size), _PIECES + 1))
    except OSError:
        return None
    return runs if len(runs) <= _PIECES else None


def _runs(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    place = 0
    while place < size:
        try:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # else a hole up to the end
                raise
            return
        if start >= size:  # it grew
            return
        start -= start % 4096
        place = min(size, -(-os.lseek(descriptor, start, os.SEEK_HOLE) // 4096) * 4096)
        yield start, place
