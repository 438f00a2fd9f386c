# SPDX-License-Identifier: MIT
"""Remote files as bytes: fetched by need, in blocks of which a bounded number is kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from luoser.errors import SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import File, spooled
from luoser.memory.origin import Origin, open_origin
from luoser.memory.packed import LONGEST, DamagedError, is_packed
from luoser.text import rounded_size

__all__ = ["Remote", "Traffic", "load_remote", "peek", "version_of"]

_BLOCK = 64 << 10
"""Bytes of a block. Of a raw image of 16 GiB, a root costs 18 requests and 0.6 MiB with half of it, 14 and 0.9 MiB with
this, 12 and 1.5 MiB with twice as many; of a kdump of 1 GiB the same in proportion."""
_PIECE = 4 << 20
"""Bytes of one request, at most."""
_ENDS = 16
"""Ends of requests at which the next one is taken to go on with what was read."""
_START = 64
"""Bytes in which the first character of a document is looked for."""
_MOMENT = 10.0
"""Seconds for which a file stays open that was looked at: later it may be another version."""
_PASSES = 4
"""How often a search reads a file, as a rule at most: for roots, VMCOREINFO, kallsyms and setup_data."""


@dataclass(slots=True)
class Traffic:
    """What it has cost so far to read a remote source.

    size:     bytes of its remote files.
    by_need:  bytes of those of them that are read by need, which a search fetches; others were fetched whole.
    fetched:  bytes that came.
    requests: that were made, those that failed included; calls of other file systems than HTTP, which can make more.
    agreed:   the user agreed to fetch all that a search needs, and to search.
    version:  ETags of the remote files, or what their servers have in its place. Empty: nothing names a version.
    """

    size: int = 0
    by_need: int = 0
    fetched: int = 0
    requests: int = 0
    agreed: bool = False
    version: str = ""
    _search: int = 0

    def add(self, other: Traffic) -> None:
        """Count what another one has counted, too."""
        self.fetched += other.fetched
        self.requests += other.requests

    def affords(self, size: int) -> bool:
        """Whether so many bytes may be fetched."""
        return self.agreed or self.fetched + size <= LIMITS.remote_bytes + self._search

    @property
    def affords_search(self) -> bool:
        """Whether all of it may be searched."""
        return bool(self._search) or self.affords(self.by_need * self._passes)

    @property
    def _passes(self) -> int:
        return 1 if self.by_need <= LIMITS.remote_cache else _PASSES

    def need_search(self, why: str) -> None:
        """Raise SourceError unless all of it may be searched. why: name of the source, and what the search is for."""
        if not self.affords_search:
            times = ", as a rule two to four times" if self._passes > 1 else ""
            raise SourceError(
                f"{why}; a search fetches all of the file, {_bytes(self.by_need)}{times}; --root ADDRESS avoids that, "
                "so does --symbols FILE for a dump with VMCOREINFO, or a cut made where the dump lies (`luoser "
                "extract`); --scan agrees to it"
            )
        self._search = self.by_need * self._passes  # it goes on to its end


def _bytes(size: int | None) -> str:
    if size is None:
        return "of a size that the server does not say"
    return f"{size} bytes ({rounded_size(size)})" if size >= 1024 else f"{size} bytes"


class Remote:
    """The bytes of a remote file. It has a length and can be sliced, like a mapped file.

    is_remote: for `luoser.memory.source.is_remote`.
    step: bytes to look at together when all of it is searched.

    What is fetched is kept up to LIMITS.remote_cache, the least recently used goes first. A request that goes on where
    an earlier one ended fetches as much again as that run has fetched so far, so that a run of n bytes takes log n
    requests and at most 2 n bytes. After an error no byte is given any more.
    """

    is_remote = True

    def __init__(self, origin: Origin, traffic: Traffic) -> None:
        assert origin.size is not None and origin.has_ranges
        self.shown, self._origin, self._size, self._traffic = origin.shown, origin, origin.size, traffic
        self._most = max(2, LIMITS.remote_cache // _BLOCK)
        self.step = max(_BLOCK, min(_PIECE, LIMITS.remote_cache // 4 // _BLOCK * _BLOCK))
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._ends: OrderedDict[int, int] = OrderedDict()
        self._fault: SourceError | None = None
        self._keep(0, origin.first)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, step = span.indices(self._size)
        if step != 1:
            raise ValueError("a slice of a remote file needs step 1")
        if start >= end:
            return b""
        number = start // _BLOCK
        skip = number * _BLOCK
        if end <= skip + _BLOCK:
            block = self._blocks.get(number)
            if block is None:
                block = self._of(number, number)
            else:
                self._blocks.move_to_end(number)
            return block[start - skip : end - skip]
        parts = list[bytes]()
        while start < end:
            stop = min(end, (start // self.step + 1) * self.step)
            first = start // _BLOCK
            part = self._of(first, (stop - 1) // _BLOCK)
            parts.append(part[start - first * _BLOCK : stop - first * _BLOCK])
            start = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _of(self, first: int, last: int) -> bytes:
        """The bytes of some blocks, of at most `step` bytes in all."""
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        found = {number: self._blocks[number] for number in range(first, last + 1) if number in self._blocks}
        for start, end in _runs(missing):
            data = self._fetched(start, end)
            found |= {number: data[(number - start) * _BLOCK :][:_BLOCK] for number in range(start, end)}
        return b"".join([found[number] for number in range(first, last + 1)])

    def _fetched(self, start: int, end: int) -> bytes:
        """The bytes of the blocks [start, end), and of more if a run goes on. They are kept."""
        if self._fault is not None:
            raise self._fault
        before = self._ends.pop(start, 0)
        stop = max(end, min(start + before, start + self.step // _BLOCK))
        stop = min(stop, -(-self._size // _BLOCK), next((one for one in range(end, stop) if one in self._blocks), stop))
        try:
            data = self._fetch(start * _BLOCK, min(stop * _BLOCK, self._size))
        except SourceError as error:
            self._fault = error
            raise
        self._ends[stop] = before + stop - start
        while len(self._ends) > _ENDS:
            self._ends.popitem(last=False)
        self._keep(start, data)
        return data

    def _fetch(self, start: int, end: int) -> bytes:
        if not self._traffic.affords(end - start):
            text = f"{_bytes(self._traffic.fetched)} were fetched of it, and more is needed"
            raise SourceError(f"{self.shown}: {text}; --scan agrees to it, or {how_to_raise('remote_bytes')}")
        return self._origin.fetch(start, end)

    def _keep(self, first: int, data: bytes) -> None:
        for place in range(0, len(data), _BLOCK):
            block = data[place : place + _BLOCK]
            if len(block) == _BLOCK or first * _BLOCK + place + len(block) == self._size:
                self._blocks[first + place // _BLOCK] = block
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """[start, end) of each run of ascending numbers."""
    ends = [index + 1 for index, (one, other) in enumerate(pairwise(numbers)) if other != one + 1]
    for low, high in pairwise([0, *ends, len(numbers)]):
        if low < high:
            yield numbers[low], numbers[high - 1] + 1


class _Stream:
    """Bytes in pieces, read one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest, self._place = pieces, b"", 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none only at the end."""
        if self._place >= len(self._rest):
            self._rest, self._place = next(self._pieces, b""), 0
        data = self._rest[self._place : self._place + size]
        self._place += len(data)
        return data


_peeked: dict[str, tuple[Origin, float]] = {}
"""The file at which was looked last, and when, so that it is not opened twice."""


def peek(name: str, begin: bytes) -> Remote | None:
    """A remote file, if its first byte that is not white space begins so, and parts of it can be fetched. Else None.

    Then it stays open for a moment, for `load_remote`, which is next. Raises SourceError.
    """
    traffic = Traffic()
    origin = _opened(name, traffic)
    remote = Remote(origin, traffic) if origin.has_ranges else None
    if remote is not None and remote[:_START].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(begin):
        return remote
    _peeked[name] = origin, time.monotonic()
    return None


def version_of(name: str) -> str:
    """What names the version of a remote file, as `Traffic.version`. It stays open as of `peek`. Raises SourceError."""
    origin = _opened(name, Traffic())
    _peeked[name] = origin, time.monotonic()
    return origin.version


def _opened(name: str, traffic: Traffic) -> Origin:
    origin, when = _peeked.pop(name, (None, 0.0))
    _peeked.clear()
    if origin is None or time.monotonic() - when > _MOMENT:
        return open_origin(name, traffic, _BLOCK)
    traffic.add(origin.traffic)
    origin.traffic = traffic
    return origin


def load_remote(
    name: str, traffic: Traffic, limit: str = "unpacked", *, raw: bool = False, whole: tuple[bytes, ...] = ()
) -> File:
    """A remote file. One that is packed, or is not read by parts, is fetched whole, and unpacked as it comes.

    name:    its URL.
    traffic: what is fetched is counted there.
    limit:   name of that of the bytes of a file that is fetched whole.
    raw:     one that cannot be unpacked is not packed.
    whole:   how files begin that are not read by parts.

    Raises SourceError for a file that cannot be read, or is fetched whole and larger than the user agreed to.
    """
    origin = _opened(name, traffic)
    traffic.size += origin.size or 0
    traffic.version = " ".join(filter(None, (traffic.version, origin.version)))
    remote = Remote(origin, traffic) if origin.has_ranges else None
    if remote is None:
        pieces, packed = origin.whole(), False
    else:
        packed = is_packed(remote[:LONGEST])
        if not packed and (raw or not remote[:_START].startswith(whole)):
            return _by_need(origin, remote, traffic)
        pieces = (remote[at : at + _BLOCK] for at in range(0, len(remote), _BLOCK))
    _need_whole(origin, traffic, packed)
    try:
        file = spooled(_Stream(pieces), origin.size, origin.shown, limit)
    except DamagedError as error:
        if raw and remote is not None:
            return _by_need(origin, remote, traffic)
        raise SourceError(f"{origin.shown}: {error}") from error
    except SourceError as error:
        raise error if str(error).startswith(origin.shown) else SourceError(f"{origin.shown}: {error}") from error
    return file._replace(remarks=origin.remarks + file.remarks)


def _by_need(origin: Origin, remote: Remote, traffic: Traffic) -> File:
    traffic.by_need += len(remote)
    return File(origin.shown, remote, origin.remarks)


def _need_whole(origin: Origin, traffic: Traffic, packed: bool) -> None:
    """Raise SourceError unless a file may be fetched whole."""
    if traffic.agreed or (origin.size is not None and traffic.affords(origin.size)):
        return
    why, avoid = "the server gives no ranges of it", "a server that does (Accept-Ranges) avoids that"
    if packed:
        why, avoid = "it is packed", "unpacked, it is read by parts"
    elif origin.has_ranges:
        why, avoid = "its format has no table of contents", "kdump, ELF, LiME and raw images are read by parts"
    text = f"{why}, so that all of it has to be fetched, {_bytes(origin.size)}"
    raise SourceError(f"{origin.shown}: {text}; {avoid}; --scan agrees to it")
