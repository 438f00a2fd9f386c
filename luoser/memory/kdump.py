# SPDX-License-Identifier: MIT
"""kdump-compressed dumps (KDUMP and the older DISKDUMP header): makedumpfile's and QEMU's.

Two bitmaps say which page frames are RAM and which of them are in the file; a descriptor for each of the
latter says where its compressed bytes are. A frame of RAM that is not in the file was left out by the dump
tool: its contents are unknown. Zero pages share one descriptor target and are really zero.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from luoser.bits import bit_runs
from luoser.errors import FormatError, MissingMemory, PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory import lzo, snappy
from luoser.memory.elf import parse_vmcoreinfo
from luoser.memory.source import ByteSource, Memory, Segment

__all__ = ["MAGICS", "KdumpMemory"]

MAGICS = (b"KDUMP   ", b"DISKDUMP")
_HEADER = struct.Struct("<8si390s6x16sIiiIIIIIIi")
_SUB_HEADER = struct.Struct("<QiiQQQQQQQQQQQ")
_DESCRIPTOR = struct.Struct("<qIIQ")
_ZLIB, _LZO, _SNAPPY, _INCOMPLETE, _ZSTD = 1, 2, 4, 8, 0x20
_RANK = 4096
"""Bytes of bitmap between two stored counts of the bits before."""
_MACHINES = {b"x86_64": 62, b"aarch64": 183}
"""e_machine of ELF by machine of utsname, for those that have KHO."""


class _Header(NamedTuple):
    """Numbers of struct disk_dump_header and kdump_sub_header that matter. Sizes in blocks are turned to bytes."""

    version: int
    block_size: int
    bitmap_offset: int
    bitmap_size: int
    descriptors: int
    max_mapnr: int
    dump_level: int
    split: bool
    start_pfn: int
    end_pfn: int
    vmcoreinfo: tuple[int, int]


class _Bitmap:
    """A bitmap of page frames with fast counting of the ones before a frame."""

    def __init__(self, bits: bytes, size: int) -> None:
        used = bytearray(bits[: -(-size // 8)])
        if size % 8 and len(used) * 8 > size:
            used[-1] &= (1 << size % 8) - 1
        self.bits = bytes(used)
        self.counts = [0]
        for place in range(0, len(self.bits), _RANK):
            ones = int.from_bytes(self.bits[place : place + _RANK], "little").bit_count()
            self.counts.append(self.counts[-1] + ones)

    def __contains__(self, frame: int) -> bool:
        return frame >> 3 < len(self.bits) and bool(self.bits[frame >> 3] >> (frame & 7) & 1)

    def knows(self, frame: int) -> bool:
        """Whether the file holds the bit of a frame: a bitmap can be cut short."""
        return frame >> 3 < len(self.bits)

    def rank(self, frame: int) -> int:
        """How many frames below this one are set."""
        block = min(frame >> 3, len(self.bits)) // _RANK
        start = block * _RANK
        part = int.from_bytes(self.bits[start : (frame >> 3) + 1], "little")
        return self.counts[block] + (part & ((1 << (frame - 8 * start)) - 1)).bit_count()

    def runs(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
        """(first frame, count) of each run of set frames within [first, last)."""
        last = len(self.bits) * 8 if last is None else last
        for place in range(first // 8 // _RANK * _RANK, min(len(self.bits), -(-last // 8)), _RANK):
            for begin, count in bit_runs(self.bits[place : place + _RANK]):
                low, high = max(first, 8 * place + begin), min(last, 8 * place + begin + count)
                if low < high:
                    yield low, high - low


class _Part:
    """One file of a set."""

    def __init__(self, path: str, source: ByteSource) -> None:
        self.path, self.source = path, source
        self.header = header = _header(path, source)
        raw = source[header.bitmap_offset : header.bitmap_offset + header.bitmap_size]
        half = header.bitmap_size // 2
        two = half * 8 >= header.max_mapnr
        self.ram = _Bitmap(raw[:half] if two else raw, header.max_mapnr)
        self.dumped = _Bitmap(raw[half:] if two else raw, header.max_mapnr)
        self.short_bitmap = len(raw) < header.bitmap_size
        self.first = min(header.start_pfn, header.max_mapnr) if header.split else 0
        self.last = min(header.end_pfn if header.split else header.max_mapnr, header.max_mapnr)
        self._base = self.dumped.rank(self.first) if self.first else 0

    def holds(self, frame: int) -> bool:
        return self.first <= frame < self.last and frame in self.dumped

    def descriptor(self, frame: int) -> tuple[int, int, int] | None:
        """(offset, size, flags) of a frame's data, None when the file has no descriptor for it."""
        place = self.header.descriptors + (self.dumped.rank(frame) - self._base) * _DESCRIPTOR.size
        raw = self.source[place : place + _DESCRIPTOR.size]
        if len(raw) < _DESCRIPTOR.size:
            return None
        offset, size, flags, _ = _DESCRIPTOR.unpack(raw)
        return (offset, size, flags) if offset > 0 and size else None  # zeros: the file was never finished

    def walk(self) -> Iterator[tuple[int, int, int, int]]:
        """(frame, offset, size, flags) of every page in this file, by frame."""
        for first, count in self.dumped.runs(self.first, self.last):
            place = self.header.descriptors + (self.dumped.rank(first) - self._base) * _DESCRIPTOR.size
            raw = self.source[place : place + count * _DESCRIPTOR.size]
            whole = raw[: len(raw) // _DESCRIPTOR.size * _DESCRIPTOR.size]
            for frame, (offset, size, flags, _) in enumerate(_DESCRIPTOR.iter_unpack(whole), first):
                yield frame, offset, size, flags


def _header(path: str, source: ByteSource) -> _Header:
    head = source[: _HEADER.size]
    if len(head) < _HEADER.size:
        raise SourceError(f"{path}: kdump header breaks off after {len(head)} bytes")
    _, version, _, _, _, block, sub_blocks, bitmap_blocks, max_mapnr, *_ = _HEADER.unpack(head)
    if block not in (4096, 8192, 16384, 32768, 65536) or sub_blocks < 0 or not 0 <= version <= 64:
        raise SourceError(
            f"{path}: kdump header version {version} with blocks of {block} bytes is not one of 64-bit Linux"
        )
    sub = source[block : block + _SUB_HEADER.size].ljust(_SUB_HEADER.size, b"\0")
    _, level, split, start, end, info, info_size, *_, start64, end64, mapnr64 = _SUB_HEADER.unpack(sub)
    if version >= 6:
        start, end, max_mapnr = start64, end64, mapnr64 or max_mapnr
    bitmap = (1 + sub_blocks) * block
    if max_mapnr > bitmap_blocks * block * 8:
        raise SourceError(
            f"{path}: kdump header speaks of {max_mapnr} page frames, its bitmaps of {bitmap_blocks * block * 8}"
        )
    return _Header(
        version=version,
        block_size=block,
        bitmap_offset=bitmap,
        bitmap_size=bitmap_blocks * block,
        descriptors=bitmap + bitmap_blocks * block,
        max_mapnr=max_mapnr,
        dump_level=level if version >= 1 else 0,
        split=version >= 2 and split != 0,
        start_pfn=start,
        end_pfn=end,
        vmcoreinfo=(info, info_size) if version >= 3 else (0, 0),
    )


class KdumpMemory(Memory):
    """One kdump-compressed file, or the parts of a split one (`makedumpfile --split`) in any order."""

    format = "kdump"

    def __init__(self, path: str, sources: Sequence[tuple[str, ByteSource]]) -> None:
        super().__init__(path)
        self._parts = sorted((_Part(name, source) for name, source in sources), key=lambda part: part.first)
        first = self._parts[0].header
        for part in self._parts[1:]:
            if (part.header.block_size, part.header.max_mapnr) != (first.block_size, first.max_mapnr):
                raise SourceError(f"{part.path}: not of the same set as {self._parts[0].path}: another size of memory")
        self.page_size = self._page = first.block_size
        self._ram = self._parts[0].ram
        self.machine = _machine(self._parts[0].source)
        self.vmcoreinfo = self._read_vmcoreinfo()
        self._segments = self._cover()
        self._inflated = lru_cache(maxsize=512)(self._inflate)
        self._remark()

    def _remark(self) -> None:
        for part in self._parts:
            if part.short_bitmap:
                self.remarks.append(f"truncated: {part.path} ends inside of its bitmaps")
                continue
            frame = next((frame for frame, offset, size, _ in _tail(part) if offset + size > len(part.source)), None)
            if frame is not None:
                self.remarks.append(f"truncated: {part.path} ends before the data of page frame {frame:#x} and above")
        covered = sum(part.last - part.first for part in self._parts)
        if any(part.header.split for part in self._parts) and covered < self._parts[0].header.max_mapnr:
            self.remarks.append(f"split dump: {len(self._parts)} of its files given, some page frames are in others")

    def _read_vmcoreinfo(self) -> dict[str, str]:
        for part in self._parts:
            offset, size = part.header.vmcoreinfo
            if offset and size:
                return parse_vmcoreinfo(part.source[offset : offset + min(size, LIMITS.note_size)])
        return {}

    def _cover(self) -> tuple[Segment, ...]:
        page, segments = self._page, list[Segment]()
        for first, count in self._ram.runs():
            if segments and segments[-1].end == first * page:
                last = segments[-1]
                segments[-1] = Segment(last.start, last.size + count * page, 0, last.stored + count * page)
            else:
                segments.append(Segment(first * page, count * page, 0, count * page))
        return tuple(segments)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def _part_of(self, frame: int) -> _Part | None:
        return next((part for part in self._parts if part.holds(frame)), None)

    def page_state(self, address: int) -> PageState:
        frame = address // self._page
        part = self._part_of(frame)
        if part is not None:
            found = part.descriptor(frame)
            return PageState.PRESENT if found and found[0] + found[1] <= len(part.source) else PageState.ABSENT
        if frame not in self._ram:
            return PageState.ABSENT
        in_a_part = any(part.first <= frame < part.last and part.dumped.knows(frame) for part in self._parts)
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
        except (FormatError, zlib.error):
            raise MissingMemory(frame * self._page, PageState.ABSENT) from None

    def _inflate(self, part: _Part, offset: int, size: int, flags: int) -> bytes:
        page = _unpack(part, offset, size, flags, self._page)
        if len(page) != self._page:
            raise FormatError(f"page of {len(page)} bytes at {offset:#x}, expected {self._page}")
        return page

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        """Only the first bytes of a page are unpacked, and each stored page once, however many frames share it."""
        for part in self._parts:
            last, shared = -1, dict[int, bool]()
            for frame, offset, size, flags in part.walk():
                if offset <= last:
                    found = shared.get(offset)
                    if found is None:
                        found = shared[offset] = self._starts_with(part, offset, size, flags, prefix, at)
                else:
                    last, found = offset, self._starts_with(part, offset, size, flags, prefix, at)
                if found:
                    yield frame * self._page

    def _starts_with(self, part: _Part, offset: int, size: int, flags: int, prefix: bytes, at: int) -> bool:
        end = at + len(prefix)
        try:
            return _unpack(part, offset, size, flags, end)[at:end] == prefix
        except (FormatError, zlib.error):
            return False

    def find(self, pattern: bytes) -> Iterator[int]:
        """Within pages: a pattern that runs over the end of a page is not found."""
        for part in self._parts:
            for frame, offset, size, flags in part.walk():
                try:
                    page = self._inflated(part, offset, size, flags)
                except (FormatError, zlib.error):
                    continue
                place = page.find(pattern)
                while place >= 0:
                    yield frame * self._page + place
                    place = page.find(pattern, place + 1)


def _machine(source: ByteSource) -> int | None:
    """The machine in the utsname of the header, which QEMU fills as well."""
    place = 12 + 4 * 65
    return _MACHINES.get(source[place : place + 65].split(b"\0")[0])


def _tail(part: _Part) -> Iterator[tuple[int, int, int, int]]:
    """The last pages of a file, enough to see whether it was cut short."""
    frames = [
        frame
        for first, count in part.dumped.runs(max(part.first, part.last - 65536), part.last)
        for frame in range(first, first + count)
    ]
    for frame in frames[-64:]:
        found = part.descriptor(frame)
        yield (frame, *found) if found is not None else (frame, len(part.source), 1, 0)


def _unpack(part: _Part, offset: int, size: int, flags: int, limit: int) -> bytes:
    """At most `limit` bytes of a stored page, never more than a page out of one page's data."""
    block = part.header.block_size
    limit = min(limit, block)
    if offset < 0 or size > 2 * block or offset + size > len(part.source):
        raise FormatError(f"page data of {size} bytes at {offset:#x} is not in the file")
    data = part.source[offset : offset + size]
    kind = flags & ~_INCOMPLETE
    if kind == 0:
        return data[:limit]
    if kind == _ZLIB:
        return zlib.decompressobj().decompress(data, limit)
    if kind == _LZO:
        return lzo.decompress(data, limit)
    if kind == _SNAPPY:
        return snappy.decompress(data, block)[:limit]
    if kind == _ZSTD:
        return _zstd(data, block)[:limit]
    raise FormatError(f"page data with unknown flags {flags:#x}")


def _zstd(data: bytes, block: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise SourceError("this dump is compressed with zstd: pip install 'luoser[zstd]'") from None
    try:
        size = zstandard.frame_content_size(data)
        if size > block:
            raise FormatError(f"zstd frame of {size} bytes, expected at most {block}")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=block))
    except (zstandard.ZstdError, MemoryError) as error:
        raise FormatError(f"corrupt zstd data: {error}") from None
