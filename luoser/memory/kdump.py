# SPDX-License-Identifier: MIT
"""kdump-compressed dumps (KDUMP and the older DISKDUMP header): makedumpfile's and QEMU's.

Two bitmaps mark the page frames that are RAM and those that are in the file. Each frame in the file has a descriptor
with the offset of its compressed bytes. A frame of RAM that is not in the file was excluded by the dump tool, so its
contents are unknown. All pages of zeros share one page of compressed bytes.

Source: makedumpfile's diskdump_mod.h.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from array import array
from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from luoser.errors import FormatError, MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory import lzo, snappy
from luoser.memory.elf import parse_vmcoreinfo
from luoser.memory.file import Mapped
from luoser.memory.flattened import known, volume
from luoser.memory.frames import FrameBitmap
from luoser.memory.source import ByteSource, Memory, Segment, is_remote

__all__ = ["APART", "MAGICS", "KdumpMemory", "SplitPart", "split_part"]

MAGICS = (b"KDUMP   ", b"DISKDUMP")
_HEADER = struct.Struct("<8si390s6x16sIiiIIIIIIi")
_SUB_HEADER = struct.Struct("<QiiQQQQQQQQQQQ")
_DESCRIPTOR = struct.Struct("<qIIQ")
_BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
_ZLIB, _LZO, _SNAPPY, _INCOMPLETE, _ZSTD = 1, 2, 4, 8, 0x20
_MACHINES = {b"x86_64": 62, b"aarch64": 183}
"""e_machine of ELF by the machine field of utsname, for architectures with KHO."""
_PAGE = 4096
_CLOCK = struct.Struct("<QQ")
"""Seconds and microseconds of the time in a header."""
APART = 60
"""Seconds between the times of the files of one dump at most: each writer looks at the clock."""
_SHARED = 4
"""Times the bytes of a file that its pages may have, those at one offset counted once. Without sharing it is 1."""
_REMEMBERED = 1 << 16
"""Offsets of pages out of their order that a search knows again: those of equal pages are one, and few."""
_FETCHED = 8
"""Of a remote file only one in so many of those descriptors is looked at before a search, and the last ones."""
_STEP = 1 << 12
"""Number of descriptors that are checked together."""


class _Header(NamedTuple):
    """Members of struct disk_dump_header and struct kdump_sub_header. Sizes and offsets are in bytes."""

    version: int
    utsname: bytes
    timestamp: bytes
    status: int
    block_size: int
    bitmap_offset: int
    bitmap_size: int
    descriptors: int
    max_mapnr: int
    phys_base: int
    dump_level: int
    split: bool
    start_pfn: int
    end_pfn: int
    vmcoreinfo: tuple[int, int]
    notes: tuple[int, int]
    whole: bool


_OF_ONE_DUMP = {
    "version": "header version",
    "block_size": "block size",
    "max_mapnr": "number of page frames",
    "utsname": "kernel or machine name",
    "phys_base": "kernel load address",
    "dump_level": "dump level",
    "bitmap_offset": "place of the bitmaps",
    "bitmap_size": "size of the bitmaps",
}
"""Members of the header that must be equal in all files of a split dump, and what to call them in a message."""


class _Part:
    """One file of a set.

    first, last: the file has the data of frames [first, last).
    begin:       the file is used for frames [begin, last). Those before are read from an earlier file.
    crowded:     the frame at which a walk ended because pages have the same bytes. None: no walk did.
    """

    def __init__(self, path: str, source: ByteSource) -> None:
        self.path, self.source = path, source
        self.header = header = _header(path, source)
        half = header.bitmap_size // 2
        self._second = header.bitmap_offset + (half if half * 8 >= header.max_mapnr else 0)
        self._frames = header.max_mapnr if header.whole else 0
        self.dumped = FrameBitmap(source, self._second, self._frames)
        self.first = min(header.start_pfn, header.max_mapnr) if header.split else 0
        self.last = min(header.end_pfn if header.split else header.max_mapnr, header.max_mapnr)
        self.begin = self.first
        self._base = self.dumped.rank(self.first)
        self._count = self.dumped.rank(self.last) - self._base
        self.crowded: int | None = None

    @cached_property
    def ram(self) -> FrameBitmap:
        if self._second == self.header.bitmap_offset:
            return self.dumped
        return FrameBitmap(self.source, self.header.bitmap_offset, self._frames)

    @cached_property
    def vmcoreinfo(self) -> bytes:
        return self._part(*self.header.vmcoreinfo)

    @property
    def is_of_qemu(self) -> bool | None:
        """Whether QEMU made the dump, or one that was copied. None: the file does not show it."""
        notes = self._part(*self.header.notes)
        return b"QEMU" in notes if notes else None

    def _part(self, offset: int, size: int) -> bytes:
        return self.source[offset : offset + min(size, LIMITS.note_size)] if offset and size else b""

    def answers_for(self, frame: int) -> bool:
        return self.begin <= frame < self.last

    def holds(self, frame: int) -> bool:
        return self.answers_for(frame) and frame in self.dumped

    def descriptor(self, frame: int) -> tuple[int, int, int] | None:
        """(offset, size, flags) of a frame's data. None if it is not in the file."""
        place = self.header.descriptors + (self.dumped.rank(frame) - self._base) * _DESCRIPTOR.size
        raw = self.source[place : place + _DESCRIPTOR.size]
        if len(raw) < _DESCRIPTOR.size:
            return None
        offset, size, flags, _ = _DESCRIPTOR.unpack(raw)
        return None if self._is_lost(offset, size) else (offset, size, flags)

    def _is_lost(self, offset: int, size: int) -> bool:
        """Whether a page's data is not in the file. An offset or size of 0 means the descriptor was never written.

        A size of more than two blocks is damage, not loss.
        """
        if offset <= 0 or size == 0:
            return True
        if size > 2 * self.header.block_size:
            return False
        return offset + size > self._sound and len(self.source[offset : offset + size]) < size

    @cached_property
    def _sound(self) -> int:
        """Offset of the first byte, from the descriptors on, that is lost. The end of the file if none is."""
        place = self.header.descriptors
        return next((end for begin, end in known(self.source, place, len(self.source)) if begin == place), place)

    @cached_property
    def _room(self) -> int:
        """Bytes that its pages may have."""
        return _SHARED * volume(self.source)

    def walk(self) -> Iterator[tuple[int, int, int, int]]:
        """(frame, offset, size, flags) of each page of this file whose descriptor is known, ascending.

        Ends where the pages had several times the bytes of the file: else a search could take their product.
        """
        size, most, end, left = _DESCRIPTOR.size, 2 * self.header.block_size, len(self.source), self._room
        newest, older = -1, set[int]()
        place = self.header.descriptors + (self.dumped.rank(self.begin) - self._base) * size
        for first, count in self.dumped.runs(self.begin, self.last):
            if place >= len(self.source):
                return
            for low, high in known(self.source, place, place + count * size):
                skip = -(-(low - place) // size)
                raw = self.source[place + skip * size : place + (high - place) // size * size]
                for frame, (offset, length, flags, _) in enumerate(_DESCRIPTOR.iter_unpack(raw), first + skip):
                    if offset > newest:
                        newest = offset
                    elif offset in older:
                        yield frame, offset, length, flags
                        continue
                    else:
                        if len(older) >= _REMEMBERED:
                            older.clear()
                        older.add(offset)
                    left -= length if length <= most and offset < end else 0
                    if left < 0:
                        self.crowded = frame
                        return
                    yield frame, offset, length, flags
            place += count * size

    def first_lost(self, most: int) -> int | None:
        """The first page frame whose data is not in the file. None if no such frame was found.

        most: descriptors. Of a file with more only a sample and the last ones are checked: writers store pages in
              ascending order, so a truncated file lacks the last ones.
        """
        steps = range(0, self._count, _STEP)
        most //= _STEP
        if len(steps) > most:
            some = sorted({*steps[:: len(steps) // most], *self._steps_at_the_end(steps)})
            hit = next((index for index, step in enumerate(some) if self._lost_in(step) is not None), None)
            if hit is None:
                return None
            steps = range(some[hit - 1] + _STEP if hit else 0, some[hit] + 1, _STEP)
        lost = next((found for found in map(self._lost_in, steps) if found is not None), None)
        return self.dumped.frame_of(self._base + lost) if lost is not None else None

    def _steps_at_the_end(self, steps: range) -> Iterator[int]:
        """Steps from the last one down to one with different descriptors. Pages of zeros all have the same."""
        same = None
        for step in reversed(steps):
            raw = self._descriptors(step)
            first = raw[: _DESCRIPTOR.size]
            is_uniform = raw == first * (len(raw) // _DESCRIPTOR.size)
            if not (is_uniform and first == same):
                yield step
            if not is_uniform:
                return
            same = first

    @property
    def pages(self) -> int:
        """Number of pages of this file."""
        return self._count

    def places(self) -> set[int]:
        """Offsets of the data of all pages: those of equal pages are one."""
        found = set[int]()
        for step in range(0, self._count, _STEP):
            offsets = array("q", self._descriptors(step))[::3]
            if sys.byteorder == "big":
                offsets.byteswap()
            found.update(offsets)
        return found

    def _descriptors(self, step: int) -> bytes:
        """The descriptors of a step before the first lost one."""
        place = self.header.descriptors + step * _DESCRIPTOR.size
        raw = self.source[place : place + min(_STEP, self._count - step) * _DESCRIPTOR.size]
        return raw[: len(raw) // _DESCRIPTOR.size * _DESCRIPTOR.size]

    def _lost_in(self, step: int) -> int | None:
        """Number of the first descriptor of a step whose page is lost. None if no page is lost."""
        raw = self._descriptors(step)
        offsets = array("q", raw)[::3]
        if sys.byteorder == "big":
            offsets.byteswap()
        if offsets and (min(offsets) <= 0 or max(offsets) + 2 * self.header.block_size > self._sound):
            for number, (offset, size, _, _) in enumerate(_DESCRIPTOR.iter_unpack(raw)):
                if self._is_lost(offset, size):
                    return step + number
        return step + len(offsets) if len(offsets) < min(_STEP, self._count - step) else None


def _header(path: str, source: ByteSource) -> _Header:
    head = source[: _HEADER.size]
    if len(head) < _HEADER.size:
        raise SourceError(f"{path}: truncated kdump header: expected {_HEADER.size} bytes, found {len(head)}")
    _, version, utsname, timestamp, status, block, sub_blocks, bitmap_blocks, max_mapnr, *_ = _HEADER.unpack(head)
    if block not in _BLOCK_SIZES or sub_blocks < 0 or not 0 <= version <= 64:
        raise SourceError(f"{path}: {_refusal(head, version, block)}")
    sub = source[block : block + _SUB_HEADER.size]
    numbers = _SUB_HEADER.unpack(sub.ljust(_SUB_HEADER.size, b"\0"))
    phys_base, level, split, start, end, info, info_size, note, note_size, *_, start64, end64, mapnr64 = numbers
    if version >= 6:
        start, end, max_mapnr = start64, end64, mapnr64 or max_mapnr
    bitmap = (1 + sub_blocks) * block
    if max_mapnr > bitmap_blocks * block * 8:
        raise SourceError(
            f"{path}: kdump header claims {max_mapnr} page frames, bitmaps cover {bitmap_blocks * block * 8}"
        )
    if max_mapnr > 8 * LIMITS.kdump_bitmap:
        text = f"expected at most {8 * LIMITS.kdump_bitmap} page frames, found {max_mapnr}"
        raise SourceError(f"{path}: kdump: {text}; {how_to_raise('kdump_bitmap')}")
    return _Header(
        version=version,
        utsname=utsname,
        timestamp=timestamp,
        status=status,
        block_size=block,
        bitmap_offset=bitmap,
        bitmap_size=bitmap_blocks * block,
        descriptors=bitmap + bitmap_blocks * block,
        max_mapnr=max_mapnr,
        phys_base=phys_base,
        dump_level=level if version >= 1 else 0,
        split=version >= 2 and split != 0,
        start_pfn=start,
        end_pfn=end,
        vmcoreinfo=(info, info_size) if version >= 3 else (0, 0),
        notes=(note, note_size) if version >= 4 else (0, 0),
        whole=len(sub) == _SUB_HEADER.size,
    )


def _refusal(head: bytes, version: int, block: int) -> str:
    """Why a header is not one of a 64-bit little-endian machine, in words."""
    if struct.unpack_from(">i", head, 428)[0] in _BLOCK_SIZES:
        return "a kdump of a big-endian machine: expected a 64-bit little-endian one, as KHO needs it"
    if struct.unpack_from("<i", head, 416)[0] in _BLOCK_SIZES:
        return "a kdump of a 32-bit machine: expected a 64-bit little-endian one, as KHO needs it"
    return f"kdump header: expected version 0 to 64 and blocks of 4 to 64 KiB, found version {version}, {block} bytes"


class SplitPart(NamedTuple):
    """What the header of one file of a split dump says.

    dump:    what all files of the dump have in common.
    seconds: when it was written.
    start:   first page frame of the file.
    """

    dump: tuple[Hashable, ...]
    seconds: int
    start: int


def split_part(path: str, head: bytes) -> SplitPart | None:
    """A file of a split dump, by its header. None: any other kdump.

    path: of the file, for errors.
    head: its first bytes, with both headers.

    Raises SourceError for a header that is none.
    """
    header = _header(path, head)
    if not header.split:
        return None
    dump = tuple(getattr(header, name) for name in _OF_ONE_DUMP)
    return SplitPart(dump, _CLOCK.unpack(header.timestamp)[0], header.start_pfn)


class KdumpMemory(Memory):
    """A kdump-compressed file, or the files of a split one (`makedumpfile --split`) in any order."""

    format = "kdump"
    expansion = 32

    def __init__(self, path: str, sources: Sequence[tuple[str, ByteSource]]) -> None:
        """sources: (name, bytes) of each file. Raises SourceError for a bad header, or files of different dumps."""
        super().__init__(path)
        parts = [_Part(name, source) for name, source in sources]
        self._parts = sorted(parts, key=lambda part: (part.first, -part.last, -len(part.source)))
        self.file_data = sum(volume(source) for _, source in sources)
        for part in self._parts[1:]:
            _check_set(self._parts[0], part)
        self.page_size = self._page = self._parts[0].header.block_size
        self._ram = max(self._parts, key=lambda part: part.ram.size).ram
        self.info_note = next((part.vmcoreinfo for part in self._parts if part.vmcoreinfo), b"")
        self.is_own_info = bool(self.info_note) and self._parts[0].is_of_qemu is False
        self.vmcoreinfo = parse_vmcoreinfo(self.info_note)
        self.machine = _machine(self._parts[0].source)
        self._damaged: set[int] = set()
        self._lowest = 0
        self._sampled: list[_Part] = []
        self._share_frames()
        self._segments = tuple(self._cover())
        self._inflated = lru_cache(maxsize=512)(self._inflate)
        for part in self._parts:
            self._remark_cut(part)

    def _share_frames(self) -> None:
        """Assign each frame to the first file that has it. Adds remarks on overlaps and missing files."""
        end, before = 0, self._parts[0]
        for part in self._parts:
            part.begin = max(part.first, end)
            if part.first < min(end, part.last):
                self.remarks.append(_shared(part, min(end, part.last), before))
            if part.last > end:
                end, before = part.last, part
        answered = sum(max(0, part.last - part.begin) for part in self._parts)
        if any(part.header.split for part in self._parts) and answered < self._parts[0].header.max_mapnr:
            self.remarks.append(
                f"truncated: some page frames are in none of the {len(self._parts)} files of a split dump; give all"
            )

    def _remark_cut(self, part: _Part) -> None:
        if part.header.status & _INCOMPLETE:
            self.remarks.append(f"truncated: {part.path} is marked as incomplete in its header")
        if max(part.header.vmcoreinfo[1], part.header.notes[1]) > LIMITS.note_size:
            text = f"only the first {LIMITS.note_size} bytes of the notes of {part.path} are read"
            self.remarks.append(f"truncated: {text}; {how_to_raise('note_size')}")
        if part.dumped.size < part.header.max_mapnr:
            self.remarks.append(f"truncated: {part.path} ends inside its bitmaps")
            return
        most = LIMITS.kdump_checked // (_FETCHED if is_remote(part.source) else 1)
        if self._say_lost(part, most) or part.pages <= most:
            return
        self._sampled.append(part)

    def _say_lost(self, part: _Part, most: int) -> bool:
        """Add a remark if the data of a page is not in a file, of which so many descriptors are looked at."""
        frame = part.first_lost(most)
        if frame is not None:
            self.remarks.append(
                f"truncated: the data of page frame {frame:#x} and maybe of others is missing in {part.path}"
            )
        return frame is not None

    def _look_at_all(self) -> None:
        """Before a search, which takes as long anyway: look at the descriptors that were not looked at.

        Raises SourceError if a remote source may not be searched.
        """
        self.need_search()
        while self._sampled:
            self._say_lost(self._sampled.pop(), LIMITS.kdump_descriptors)

    def _cover(self) -> list[Segment]:
        page, found = self._page, list[Segment]()
        for first, count in self._ram.runs():
            if found and found[-1].end == first * page:
                start, size = found[-1].start, found[-1].size + count * page
                found[-1] = Segment(start, size, 0, size)
            elif len(found) < LIMITS.kdump_segments:
                found.append(Segment(first * page, count * page, 0, count * page))
            else:
                self.remarks.append(
                    f"more than {len(found)} runs of RAM; those from {first * page:#x} on are not listed; "
                    f"{how_to_raise('kdump_segments')}"
                )
                break
        return found

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    @cached_property
    def held(self) -> int:
        """As `Memory.held`. Of a large dump, whether pages share their bytes is not looked at."""
        bound = super().held
        if sum(part.pages for part in self._parts) > LIMITS.kdump_descriptors:
            return bound
        return min(bound, self._page * sum(len(part.places()) for part in self._parts))

    @property
    def is_partial(self) -> bool:
        """Whether the dump level left pages out, or pages cannot be unpacked."""
        return any(part.header.dump_level for part in self._parts) or bool(self._damaged)

    def _part_of(self, frame: int) -> _Part | None:
        return next((part for part in self._parts if part.holds(frame)), None)

    def page_state(self, address: int) -> PageState:
        frame = address // self._page
        part = self._part_of(frame)
        if part is not None:
            found = part.descriptor(frame)
            if found is None:
                return PageState.ABSENT
            return PageState.PRESENT if self._checked(part, *found) is not None else PageState.DAMAGED
        if frame not in self._ram:
            return PageState.ABSENT
        in_a_part = any(part.answers_for(frame) and frame < part.dumped.size for part in self._parts)
        return PageState.EXCLUDED if in_a_part else PageState.ABSENT

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            frame, skip = divmod(address, self._page)
            take = min(size, self._page - skip)
            parts.append(self._page_at(frame)[skip : skip + take])
            address, size = address + take, size - take
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _page_at(self, frame: int) -> bytes:
        part = self._part_of(frame)
        found = part.descriptor(frame) if part is not None else None
        if part is None or found is None:
            raise MissingMemory(frame * self._page, self.page_state(frame * self._page))
        try:
            return self._inflated(part, *found)
        except (FormatError, zlib.error) as error:
            self._note_damage(found[0])
            why = f"stored, but it cannot be unpacked: {error}"
            raise MissingMemory(frame * self._page, PageState.DAMAGED, why) from None

    def _checked(self, part: _Part, offset: int, size: int, flags: int) -> bytes | None:
        """A stored page. None, with a remark: it cannot be unpacked."""
        try:
            return self._inflated(part, offset, size, flags)
        except (FormatError, zlib.error):
            self._note_damage(offset)
            return None

    def _inflate(self, part: _Part, offset: int, size: int, flags: int) -> bytes:
        page = _unpack(part, offset, size, flags)
        if len(page) != self._page:
            raise FormatError(f"page of {len(page)} bytes at {offset:#x}, expected {self._page}")
        return page

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        """As `Memory.find_pages`. Decompresses only the first bytes of a page, and a shared page only once."""
        return self._once(prefix, at, self._find_pages(prefix, at))

    def _find_pages(self, prefix: bytes, at: int) -> Iterator[int]:
        self._look_at_all()
        within = prefix[: _PAGE - at]
        total = self._parts[-1].last * self._page
        try:
            for address in self._find_within(within, at, total):
                if within == prefix or self._has(address + at, prefix):
                    yield address
        finally:  # also if the caller stops early
            self.report(total, total)
            self._remark_damage()

    def _note_damage(self, offset: int) -> None:
        self._add_damage(offset)
        self._remark_damage()

    def _add_damage(self, offset: int) -> None:
        self._lowest = min(self._lowest, offset) if self._damaged else offset
        self._damaged.add(offset)

    def _remark_damage(self) -> None:
        """A remark on stored pages that could not be unpacked so far."""
        if not self._damaged:
            return
        count = f"{len(self._damaged)} stored page{'s' if len(self._damaged) > 1 else ''}"
        word = f"damaged: {count} cannot be unpacked, the first at file offset {self._lowest:#x}"
        before = next((place for place, said in enumerate(self.remarks) if said.startswith("damaged: ")), None)
        if before is None:
            self.remarks.append(word)
        else:
            self.remarks[before] = word

    def _walk(self, part: _Part) -> Iterator[tuple[int, int, int, int]]:
        """As `_Part.walk`. Adds a remark if it ended early."""
        yield from part.walk()
        if part.crowded is None:
            return
        text = f"the pages of {part.path} have {_SHARED} times the bytes of the file; a search leaves out those"
        text = f"truncated: {text} from page frame {part.crowded:#x} on"
        if text not in self.remarks:
            self.remarks.append(text)

    def _has(self, address: int, data: bytes) -> bool:
        try:
            return self.read(address, len(data)) == data
        except MissingMemory:
            return False

    def _find_within(self, prefix: bytes, at: int, total: int) -> Iterator[int]:
        end, inflate, is_plain = at + len(prefix), zlib.decompressobj, self._page == _PAGE
        for part in self._parts:
            last, shared = -1, dict[int, tuple[int, ...]]()
            source, most, due, given = part.source, 2 * self._page, 0, 0
            for frame, offset, size, flags in self._walk(part):
                if frame >= due:
                    due = frame + _STEP
                    self.report(frame * self._page, total)
                    if isinstance(source, Mapped):
                        source.give_back(given, last)
                        given = max(given, last)
                if offset <= last:
                    found = shared.get(offset)
                    if found is None:
                        if len(shared) >= _REMEMBERED:
                            shared.clear()
                        found = shared[offset] = self._starts(part, offset, size, flags, prefix, at)
                elif flags == _ZLIB and is_plain and size <= most:  # the usual case, inlined for speed
                    last, data = offset, source[offset : offset + size]
                    try:
                        if inflate().decompress(data, end)[at:] == prefix and len(data) == size:
                            yield frame * _PAGE
                    except zlib.error:
                        self._add_damage(offset)
                    continue
                else:
                    last, found = offset, self._starts(part, offset, size, flags, prefix, at)
                for start in found:
                    yield frame * self._page + start

    def _starts(self, part: _Part, offset: int, size: int, flags: int, prefix: bytes, at: int) -> tuple[int, ...]:
        """Offsets of 4 KiB pages with the prefix in a stored page, which can have up to 64 KiB."""
        end = at + len(prefix)
        try:
            data = _unpack(part, offset, size, flags, self._page - _PAGE + end)
        except (FormatError, zlib.error):
            self._add_damage(offset)
            return ()
        return tuple(start for start in range(0, self._page, _PAGE) if data[start + at : start + end] == prefix)

    def find(self, pattern: bytes) -> Iterator[int]:
        """As `Memory.find`. A match can cross from one page into the next, but not into a third one."""
        return self._once(pattern, None, self._find(pattern))

    def _find(self, pattern: bytes) -> Iterator[int]:
        self._look_at_all()
        search = re.compile(re.escape(pattern), re.DOTALL).finditer  # over zeros five times as fast as find()
        reach, following, tail = len(pattern) - 1, -1, b""
        for frame, page in self._pages():
            window = tail + page if frame == following else page
            for match in search(window):
                yield frame * self._page + len(page) - len(window) + match.start()
            following, tail = frame + 1, page[len(page) - reach :]

    def _pages(self) -> Iterator[tuple[int, bytes]]:
        """(frame, bytes) of each page that can be decompressed, ascending."""
        whole, inflate = self._page, zlib.decompressobj
        for part in self._parts:
            last, source, most, due = -1, part.source, 2 * whole, 0
            for frame, offset, size, flags in self._walk(part):
                if frame >= due:
                    due = frame + _STEP
                    if isinstance(source, Mapped):
                        source.give_back(part.header.descriptors, last)
                if offset > last and flags == _ZLIB and size <= most:  # the usual case, inlined for speed
                    last, packed = offset, inflate()
                    try:
                        page = packed.decompress(source[offset : offset + size], whole + 1)
                    except zlib.error:
                        page = b""
                    if packed.eof and len(page) == whole:
                        yield frame, page
                        continue
                checked = self._checked(part, offset, size, flags)
                if checked is not None:
                    yield frame, checked


def _machine(source: ByteSource) -> int | None:
    """e_machine of ELF for the machine in the header's utsname. None if it has none with KHO."""
    place = 12 + 4 * 65
    return _MACHINES.get(source[place : place + 65].split(b"\0")[0])


def _shared(part: _Part, end: int, before: _Part) -> str:
    if part.path == before.path:
        return f"split dump: {part.path} is given twice"
    span = f"page frames {part.first:#x}-{end:#x}"
    return f"split dump: {span} are in both {part.path} and {before.path}; the latter is used"


def _check_set(first: _Part, part: _Part) -> None:
    """Raises SourceError if two files are not of one dump."""
    for name, meaning in _OF_ONE_DUMP.items():
        if getattr(first.header, name) != getattr(part.header, name):
            raise SourceError(f"{part.path}: not of the same dump as {first.path}: different {meaning}")
    seconds = [_CLOCK.unpack(one.header.timestamp)[0] for one in (first, part)]
    if abs(seconds[0] - seconds[1]) > APART:
        raise SourceError(f"{part.path}: not of the same dump as {first.path}: different time")
    if first.vmcoreinfo and part.vmcoreinfo and first.vmcoreinfo != part.vmcoreinfo:
        raise SourceError(f"{part.path}: not of the same dump as {first.path}: different VMCOREINFO")
    if not (first.dumped.agrees(part.dumped) and first.ram.agrees(part.ram)):
        raise SourceError(f"{part.path}: not of the same dump as {first.path}: different page frames in its bitmaps")


def _unpack(part: _Part, offset: int, size: int, flags: int, limit: int | None = None) -> bytes:
    """The bytes of a stored page, at most one more than a page has.

    limit: of bytes; damage after them is not noticed. None: all of the stored data, up to their end.

    Raises FormatError or zlib.error for damaged data.
    """
    block = part.header.block_size
    most = block + 1 if limit is None else min(limit, block)
    if offset < 0 or size > 2 * block or offset + size > len(part.source):
        raise FormatError(f"page data of {size} bytes at {offset:#x} is not in the file")
    data = part.source[offset : offset + size]
    if len(data) < size:
        raise FormatError(f"page data of {size} bytes at {offset:#x} is lost")
    kind = flags & ~_INCOMPLETE
    if kind == 0:
        return data[:most]
    if kind == _ZLIB:
        packed = zlib.decompressobj()
        page = packed.decompress(data, most)
        if limit is None and not packed.eof:  # its checksum is at the end
            raise FormatError(f"zlib data at {offset:#x}: expected their end after {block} bytes")
        return page
    if kind == _LZO:
        return lzo.decompress(data, most)
    if kind == _SNAPPY:
        return snappy.decompress(data, block)[:most]
    if kind == _ZSTD:
        return _zstd(data, block)[:most]
    raise FormatError(f"page data with unknown flags {flags:#x}")


def _zstd(data: bytes, block: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise SourceError("the dump is compressed with zstd; pip install 'luoser[zstd]'") from None
    try:
        size = zstandard.frame_content_size(data)
        if size > block:
            raise FormatError(f"zstd frame: expected at most {block} bytes, found {size}")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=block))
    except (zstandard.ZstdError, MemoryError) as error:
        raise FormatError(f"corrupt zstd data: {error}") from None
