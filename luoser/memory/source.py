# SPDX-License-Identifier: MIT
"""The interface of a memory source: bytes by physical address, and the state of each page."""

from __future__ import annotations

import mmap
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.file import Buffer, Local, Mapped, runs_of_data
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.memory.remote import Traffic

__all__ = ["MACHINES", "ByteSource", "KnownRoot", "Memory", "Segment", "SegmentedMemory", "is_remote", "swept"]

MACHINES = {62: "x86-64", 183: "arm64"}
"""Names of e_machine of ELF."""
_STRIDE_BLOCK = 16 << 20
_FULL_DUMP = 64 << 20
"""A source with a segment of at least this size is assumed to cover the whole RAM of the machine."""
_COMPARED = 1 << 20
_SAMPLES, _SAMPLE = 16, 4096
"""Places at which parts of a remote file are compared, and bytes at each."""
_KEPT = 1 << 16
"""Addresses of one search of a remote source that are remembered, at most."""
_Window: TypeAlias = Local | memoryview
_OVERLAP_STEP = 1024
"""Minimum cost of checking one part of an overlap, in bytes compared."""


class ByteSource(Protocol):
    """The bytes of a dump file: a mapped file, bytes in memory, a flattened file, or a remote one."""

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


def is_remote(source: ByteSource) -> bool:
    """Whether bytes of a file are fetched when they are read."""
    return getattr(source, "is_remote", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRoot:
    """A KHO root whose address the source gives, so that no search is needed.

    root:     physical address.
    incoming: True if the running kernel received it, False if the running kernel made it, None if not known.
    scratch:  (physical address, size in bytes) of the array of scratch areas. None if not known.
    evidence: where the address comes from, in words.
    """

    root: int
    incoming: bool | None
    scratch: tuple[int, int] | None = None
    evidence: str


class Segment(NamedTuple):
    """A run of physical memory, [start, start + size).

    start:  physical address.
    size:   in bytes.
    offset: of its first byte in the file or buffer.
    stored: how many of its bytes are in the file.
    rest:   state of the other bytes: ZERO if the dump tool left out zeros, EXCLUDED if it left out other pages,
            DAMAGED if they cannot be unpacked, ABSENT if they are lost or were never dumped.
    """

    start: int
    size: int
    offset: int
    stored: int
    rest: PageState = PageState.ZERO

    @property
    def end(self) -> int:
        """First physical address after the segment."""
        return self.start + self.size


class Memory(ABC):
    """Physical memory of one dump or machine, opened read-only.

    path:        as the user gave it.
    format:      short name of the format.
    files:       names of its files, as remarks have them. Empty if they have none.
    page_size:   of the kernel, in bytes. None if the source does not have it.
    vmcoreinfo:  VMCOREINFO, value by key, safe to print. Empty if the source has none.
    info_note:   VMCOREINFO as it is in the source, any bytes. Empty if the source has none.
    is_own_info: VMCOREINFO was written by the kernel that ran when the dump was made, as that of /proc/vmcore is. That
                 of a hypervisor's dump may be of a kernel before a kexec.
    machine:     e_machine of ELF. None if the source does not have it.
    ram:         [start, end) ranges of the machine's RAM if they differ from the segments, as in a cut of a dump.
                 Empty if they do not.
    remarks:     what is wrong with the source, in words (truncated, overlapping segments). Damage that is found
                 while reading is added later.
    aftermath:   what stays changed outside of the source by reading it, in words. Empty: nothing.
    known_roots: KHO roots whose addresses the source gives.
    placeless:   placeholder addresses of blobs whose physical address is unknown.
    symbols:     path of the list of the running kernel, for where its memory has none. None: there is no list.
    answers:     what the kernel said of itself when a cut was made: the bytes of a note. Empty if there is none.
    answers_from: what has these answers, in words.
    at_jump:     addresses of roots that were handed over to a kernel which has not started: of an image to boot with.
    is_recorded: what is read, and what of it is kept, is recorded to make a cut.
    withheld:    [start, end) ranges of bytes that a cut without contents left out of pages that were read, sorted; they
                 are excluded.
    stale:       addresses of maps that the next kernel had reused when a cut without contents was made.
    left_out:    what a cut left out on purpose, in words.
    live:        the source is a running machine or device: slow to search, and it changes while it is read.
    is_slow:     a search takes minutes: of one root it is made only if the user wants it.
    is_unsearched: a cut of a source that was not searched: other roots and kernels may have been in that.
    is_guess:    the physical addresses are assumed, and `place` can correct them.
    on_progress: called during a search with (bytes searched, bytes to search).
    file_data:   bytes of its files without holes. None: not a file.
    traffic:     bytes fetched of a remote source and requests made so far. None: it is not remote.
    expansion:   most bytes of memory for one byte of its files; packed zeros, which give more, are not
                 worth more work.
    bytes_read:  bytes that were asked of it, those of searches included.
    """

    path: str
    files: tuple[str, ...] = ()
    format: str
    page_size: int | None = None
    vmcoreinfo: Mapping[str, str]
    info_note: bytes = b""
    is_own_info: bool = False
    machine: int | None = None
    ram: tuple[tuple[int, int], ...] = ()
    remarks: list[str]
    aftermath: str = ""
    known_roots: tuple[KnownRoot, ...] = ()
    placeless: frozenset[int] = frozenset()
    symbols: str | None = None
    answers: bytes = b""
    answers_from: str = "the note of this cut"
    at_jump: frozenset[int] = frozenset()
    is_recorded: bool = False
    withheld: tuple[tuple[int, int], ...] = ()
    stale: frozenset[int] = frozenset()
    left_out: tuple[str, ...] = ()
    live: bool = False
    is_slow: bool = False
    is_unsearched: bool = False
    is_guess: bool = False
    on_progress: Callable[[int, int], None] | None = None
    file_data: int | None = None
    traffic: Traffic | None = None
    expansion: int = 1
    bytes_read: int = 0

    def __init__(self, path: str) -> None:
        self.path = path
        self.vmcoreinfo = {}
        self.remarks = []
        self._found: dict[tuple[bytes, int | None], list[int]] = {}

    def start_again(self) -> None:  # noqa: B027 - most sources record nothing
        """Forget what was read, if it is recorded: it is not what the result is made of."""

    def count(self, size: int) -> None:
        """Add to `bytes_read`."""
        self.bytes_read += size

    def remember(self, make: Callable[[], bytes]) -> None:  # noqa: B027 - most sources record nothing
        """Set `answers`, if what is read is recorded. make: gives them."""

    def keep(self, address: int, size: int, *, is_name: bool = False) -> None:  # noqa: B027 - most sources record nothing
        """Bytes belong to what is read, if that is recorded: a cut without contents has no others.

        is_name: they are a name that a user chose.
        """

    def note_stale(self, address: int) -> None:  # noqa: B027 - most sources record nothing
        """The map at an address is stale, if what is read is recorded."""

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """In here nothing stands for bytes that a cut left out: they are missing."""
        yield

    def withholds(self, address: int, size: int) -> bool:
        """Whether some of these bytes are withheld."""
        index = bisect_right(self.withheld, (address + size - 1, 1 << 65)) - 1
        return size > 0 and index >= 0 and self.withheld[index][1] > address

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is read in here is not recorded."""
        yield

    def place(self, ranges: Sequence[Any]) -> None:
        """Change the physical addresses of an image. Only for sources with `is_guess`.

        ranges: `luoser.memory.raw.Range`.

        Raises SourceError for a source that has physical addresses, UsageError for ranges that do not fit.
        """
        raise SourceError(
            f"{self.path}: format {self.format} has physical addresses; only raw images can be placed elsewhere"
        )

    @property
    def may_search(self) -> bool:
        """Whether all of it may be searched: of a remote source only as far as the user agreed to what that costs."""
        return self.traffic is None or self.traffic.affords_search

    def need_search(self, why: str = "nothing says where its KHO root is") -> None:
        """Raise SourceError, with what a search costs and what avoids it, if it may not be searched. why: it is needed.

        The error has the reason in words.
        """
        if self.traffic is not None:
            self.traffic.need_search(f"{safe_text(self.path)}: {why}")

    def _once(self, pattern: bytes, at: int | None, search: Iterator[int]) -> Iterator[int]:
        """What a search finds. Of a remote source it is remembered, as a search fetches all of it.

        at: as of `find_pages`. None: anywhere.
        """
        return search if self.traffic is None else self._remembered((pattern, at), search)

    def _remembered(self, key: tuple[bytes, int | None], search: Iterator[int]) -> Iterator[int]:
        if key in self._found:
            yield from self._found[key]
            return
        kept = list[int]()
        for address in search:
            if len(kept) <= _KEPT:
                kept.append(address)
            yield address
        if len(kept) <= _KEPT:
            self._found[key] = kept

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes at a physical address. Raises MissingMemory if any of them is not known."""

    @abstractmethod
    def page_state(self, address: int) -> PageState:
        """State of the page that contains a physical address."""

    @abstractmethod
    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        """Physical addresses of all present 4 KiB pages with `prefix` at byte `at`, ascending.

        Raises SourceError for a prefix that would match too much (for most sources, one that starts with a zero).
        """

    @abstractmethod
    def find(self, pattern: bytes) -> Iterator[int]:
        """Physical addresses of a byte pattern in all present memory, ascending."""

    @property
    def known_ram(self) -> tuple[tuple[int, int], ...]:
        """[start, end) ranges of all RAM of the machine, sorted. Empty if the source has only single pages of it."""
        ranges = self.ram or tuple((segment.start, segment.end) for segment in self.segments)
        return tuple(sorted(ranges)) if any(end - start >= _FULL_DUMP for start, end in ranges) else ()

    @property
    def held(self) -> int:
        """Bytes of memory that the source really holds, which bound the work on it.

        Zeros that are not stored do not count, and bytes that several pages share count once.
        """
        stored = sum(segment.stored for segment in self.segments)
        return stored if self.file_data is None else min(stored, self.expansion * self.file_data)

    @property
    def is_partial(self) -> bool:
        """Whether pages of the machine's memory were left out of the dump, or cannot be unpacked."""
        gaps = (PageState.EXCLUDED, PageState.DAMAGED)
        return any(segment.rest in gaps and segment.stored < segment.size for segment in self.segments)

    def report(self, done: int, total: int) -> None:
        """Call `on_progress`, if it is set. done, total: in bytes."""
        if self.on_progress is not None:
            self.on_progress(done, total)

    @property
    @abstractmethod
    def segments(self) -> tuple[Segment, ...]:
        """The memory that the source covers: sorted by address, without overlaps."""

    def close(self) -> None:  # noqa: B027 - optional: most sources have nothing to close
        """Release the file, descriptor or connection. `read` must not be called afterwards."""

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class SegmentedMemory(Memory):
    """Memory whose segments are uncompressed in one buffer: raw images, ELF cores, test images."""

    def __init__(self, path: str, buffer: Buffer, segments: list[Segment]) -> None:
        super().__init__(path)
        self._buffer = buffer
        self.file_data = len(buffer)
        self._set_segments(segments)

    def _set_segments(self, segments: list[Segment]) -> None:
        self._found.clear()
        self._segments = self._arrange(segments)
        self._starts = [segment.start for segment in self._segments]

    def _arrange(self, segments: list[Segment]) -> tuple[Segment, ...]:
        """The segments sorted, without overlaps. Stored bytes win over missing ones, then earlier over later ones."""
        ordered = sorted(segments, key=lambda segment: segment.start)
        if all(known.end <= following.start for known, following in pairwise(ordered)):
            return tuple(ordered)
        stored = [_part(segment, segment.start, segment.start + segment.stored) for segment in segments]
        rests = [_part(segment, segment.start + segment.stored, segment.end) for segment in segments]
        arranged = tuple(_joined(swept([part for part in (*stored, *rests) if part.size])))
        self._remark_overlaps([part for part in stored if part.size], arranged)
        return arranged

    def _remark_overlaps(self, stored: list[Segment], arranged: tuple[Segment, ...]) -> None:
        """Add remarks on segments that overlap others and have other bytes. Copies get no remark."""
        starts, left, found = [segment.start for segment in arranged], LIMITS.overlap_bytes, 0
        for segment in stored:
            same, left = self._is_copied(segment, arranged, starts, left)
            if not same:
                found += 1
                if found <= LIMITS.overlap_remarks:
                    span = f"{segment.start:#x}-{segment.end:#x}"
                    self.remarks.append(f"segment {span} overlaps another one; the first one in the file is used")
        if found > LIMITS.overlap_remarks:
            self.remarks.append(f"{found} segments in total overlap others")

    def _is_copied(
        self, segment: Segment, arranged: tuple[Segment, ...], starts: list[int], left: int
    ) -> tuple[bool, int]:
        """(whether a segment has the same bytes as the arranged segments, remaining budget in bytes compared).

        Bytes at the same offset in the file are not compared. Without budget, a segment counts as different.
        """
        for index in range(bisect_right(starts, segment.start) - 1, len(arranged)):
            used = arranged[index]
            if used.start >= segment.end:
                break
            start, end = max(used.start, segment.start), min(used.end, segment.end)
            own, other = start - segment.start + segment.offset, start - used.start + used.offset
            if own == other and end - start == segment.size:
                break
            left -= _OVERLAP_STEP if own == other else max(_OVERLAP_STEP, end - start)
            if left < 0 or (own != other and not self._equal(own, other, end - start)):
                return False, left
        return True, left

    def _equal(self, one: int, other: int, size: int) -> bool:
        """Whether the buffer has the same bytes at two offsets. Of a remote file some places are compared."""
        steps = ((done, min(_COMPARED, size - done)) for done in range(0, size, _COMPARED))
        if not isinstance(self._buffer, Local) and size > _SAMPLES * _SAMPLE:
            steps = ((done, _SAMPLE) for done in range(0, size - _SAMPLE, (size - _SAMPLE) // _SAMPLES))
        return all(
            self._buffer[one + done : one + done + step] == self._buffer[other + done : other + done + step]
            for done, step in steps
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def close(self) -> None:
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def _segment_at(self, address: int) -> Segment | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        segment = self._segments[index]
        return segment if address < segment.end else None

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            segment = self._segment_at(address)
            if segment is None:
                raise MissingMemory(address, PageState.ABSENT)
            skip, left = address - segment.start, segment.end - address
            if size <= left and not parts:  # all of it, as nearly always
                return self._read_segment(segment, skip, size)
            take = min(size, left)
            parts.append(self._read_segment(segment, skip, take))
            address, size = address + take, size - take
        return b"".join(parts)

    def _read_segment(self, segment: Segment, skip: int, size: int) -> bytes:
        have, place = segment.stored - skip, segment.offset + skip
        if size <= have:
            return bytes(self._buffer[place : place + size])
        data = bytes(self._buffer[place : place + max(0, have)])
        if segment.rest is not PageState.ZERO:
            raise MissingMemory(segment.start + skip + len(data), segment.rest)
        return data.ljust(size, b"\0")

    def page_state(self, address: int) -> PageState:
        segment = self._segment_at(address)
        if segment is None:
            return PageState.ABSENT
        return PageState.PRESENT if address - segment.start < segment.stored else segment.rest

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        return self._once(prefix, at, self._find_pages(prefix, at))

    def _find_pages(self, prefix: bytes, at: int) -> Iterator[int]:
        if not prefix or prefix[0] == 0:
            raise SourceError(f"cannot search for pages that start with {prefix!r}: expected a first byte other than 0")
        self.need_search()
        with memoryview(self._buffer if isinstance(self._buffer, Local) else b"") as view:
            total, done = sum(segment.stored for segment in self._segments), 0
            try:
                for segment in self._segments:
                    yield from self._stride(view, segment, at, prefix, done, total)
                    done += segment.stored
            finally:  # also if the caller stops early
                self.report(total, total)

    def _stride(
        self, view: memoryview, segment: Segment, at: int, prefix: bytes, done: int, total: int
    ) -> Iterator[int]:
        """Matches in one segment. A strided copy of one byte per page is searched, as a loop over pages is slow."""
        first, end = segment.offset + (at - segment.start) % 4096, segment.offset + segment.stored
        for offset, stop in self._blocks(segment):
            window, base = self._window(view, offset, stop)
            last = min(end, base + len(window))
            offset += (first - offset) % 4096
            self.report(done + offset - segment.offset, total)
            marks = bytes(window[offset - base : stop - base : 4096])
            index = marks.find(prefix[0])
            while index >= 0:
                place = offset + 4096 * index
                address = segment.start + place - segment.offset
                is_whole = place + len(prefix) <= last  # otherwise the rest can be in the next block or segment
                place -= base
                if window[place : place + len(prefix)] == prefix if is_whole else self._has(address, prefix):
                    yield address - at
                index = marks.find(prefix[0], index + 1)

    def _blocks(self, segment: Segment) -> Iterator[tuple[int, int]]:
        """[start, end) offsets of the stored data of a segment, in blocks. Holes of the file are left out.

        The pages of a block are given back when it is done, so that a search does not fill the memory of the process.
        """
        buffer = self._buffer
        step = _STRIDE_BLOCK if isinstance(buffer, Local) else buffer.step
        for start, end in runs_of_data(buffer, segment.offset, segment.offset + segment.stored):
            for place in range(start, end, step):
                stop = min(end, place + step)
                if isinstance(buffer, Mapped):
                    buffer.need_whole()
                yield place, stop
                if isinstance(buffer, Mapped):
                    buffer.give_back(place, stop)

    def _window(self, local: _Window, start: int, end: int) -> tuple[_Window, int]:
        """(what has the bytes between two offsets, offset of its first byte): all that is local, or what is fetched."""
        return (local, 0) if isinstance(self._buffer, Local) else (self._buffer[start:end], start)

    def _has(self, address: int, data: bytes) -> bool:
        try:
            return self.read(address, len(data)) == data
        except MissingMemory:
            return False

    def find(self, pattern: bytes) -> Iterator[int]:
        return self._once(pattern, None, self._find(pattern))

    def _find(self, pattern: bytes) -> Iterator[int]:
        self.need_search()
        search = re.compile(re.escape(pattern), re.DOTALL)  # over zeros ten times as fast as find()
        reach, local = len(pattern) - 1, self._buffer if isinstance(self._buffer, Local) else b""
        for segment in self._segments:
            if segment.stored:
                first, end = segment.offset, segment.offset + segment.stored
                done = first  # where the next match may begin; zeros of a hole can be its first bytes
                for place, stop in self._blocks(segment):
                    low, high = max(done, place - reach), min(end, stop + reach)
                    window, base = self._window(local, low, high)
                    for match in search.finditer(window, low - base, high - base):
                        yield segment.start + base + match.start() - first
                        done = base + match.start() + 1
                    done = max(done, stop)
                if segment.end in self._joints:
                    yield from self._over_the_end(segment, pattern)

    @cached_property
    def _joints(self) -> set[int]:
        """Addresses where one segment ends and the next begins: a pattern can cross them."""
        return {segment.end for segment in self._segments if segment.stored == segment.size} & set(self._starts)

    def _over_the_end(self, segment: Segment, pattern: bytes) -> Iterator[int]:
        """Matches that begin in a segment and end in a later one."""
        first = max(segment.start, segment.end - len(pattern) + 1)
        try:
            edge = self.read(first, segment.end - first + len(pattern) - 1)
        except MissingMemory as error:
            edge = self.read(first, error.address - first)
        place = edge.find(pattern)
        while place >= 0:
            yield first + place
            place = edge.find(pattern, place + 1)


def swept(segments: list[Segment]) -> Iterator[Segment]:
    """Disjoint pieces of segments, ascending. Where several segments overlap, the first one in the list is used."""
    points = sorted({point for segment in segments for point in (segment.start, segment.end)})
    starting = sorted(range(len(segments)), key=lambda index: segments[index].start)
    active: list[int] = []
    place, owner, begin = 0, -1, 0
    for point in points:
        while place < len(starting) and segments[starting[place]].start == point:
            heappush(active, starting[place])
            place += 1
        while active and segments[active[0]].end <= point:
            heappop(active)
        first = active[0] if active else -1
        if first != owner:
            if owner >= 0:
                yield _part(segments[owner], begin, point)
            owner, begin = first, point


def _part(segment: Segment, start: int, end: int) -> Segment:
    """[start, end) of a segment."""
    skip = start - segment.start
    stored = max(0, min(segment.stored - skip, end - start))
    return Segment(start, end - start, segment.offset + skip, stored, segment.rest)


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The segments, with those merged that are adjacent both in memory and in the file."""
    last: Segment | None = None
    for segment in segments:
        if last is not None and _continues(last, segment):
            size, stored = last.size + segment.size, last.stored + segment.stored
            last = Segment(last.start, size, last.offset, stored, segment.rest)
        else:
            if last is not None:
                yield last
            last = segment
    if last is not None:
        yield last


def _continues(segment: Segment, following: Segment) -> bool:
    return (
        following.stored > 0
        and segment.stored == segment.size
        and (segment.end, segment.offset + segment.size) == (following.start, following.offset)
    )
