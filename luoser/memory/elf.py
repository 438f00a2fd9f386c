# SPDX-License-Identifier: MIT
"""ELF cores by physical address: QEMU's dump-guest-memory, /proc/vmcore, makedumpfile -E, luoser's own cuts.

Several segments can cover the same memory. /proc/vmcore has the kernel's text twice. QEMU with paging=true has a
segment for every virtual mapping of a page. Segments with the same contents are accepted without a remark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import Buffer
from luoser.memory.flattened import Flattened
from luoser.memory.notes import NoteSegment, read_notes
from luoser.memory.source import ByteSource, Segment, SegmentedMemory
from luoser.text import safe_text

__all__ = [
    "ANSWERS_NOTE",
    "GAP_NOTES",
    "JUMP_NOTE",
    "LEFT_OUT_NOTE",
    "MAGIC",
    "RAM_NOTE",
    "REMARKS_NOTE",
    "STALE_NOTE",
    "UNSEARCHED_NOTE",
    "WITHHELD_NOTE",
    "ElfMemory",
    "core_segments",
    "parse_vmcoreinfo",
]

MAGIC = b"\x7fELF"
RAM_NOTE = b"LUOSER-RAM"
"""Note of luoser's own cuts: the ranges that the original dump covered, as pairs of u64: start, end."""
GAP_NOTES = {PageState.EXCLUDED: b"LUOSER-EXCLUDED", PageState.DAMAGED: b"LUOSER-DAMAGED"}
"""Notes of luoser's own cuts: ranges of this state in the original that the cut refers to, pairs of u64: start, end."""
ANSWERS_NOTE = b"LUOSER-KERNEL"
JUMP_NOTE = b"LUOSER-JUMP"
"""Note of built images: the pages of roots that no kernel has taken over yet, as pairs of u64: start, end."""
REMARKS_NOTE = b"LUOSER-REMARKS"
"""Note of luoser's own cuts: the remarks on the original, one a line."""
LEFT_OUT_NOTE = b"LUOSER-LEFT-OUT"
"""Note of luoser's own cuts: what they left out on purpose, a line each."""
WITHHELD_NOTE = b"LUOSER-WITHHELD"
"""Note of luoser's own cuts: ranges of bytes that are not zero, and left out of pages that were read, pairs of u64."""
STALE_NOTE = b"LUOSER-STALE"
"""Note of luoser's own cuts: addresses of maps that are stale in the original, u64."""
UNSEARCHED_NOTE = b"LUOSER-UNSEARCHED"
"""Note of luoser's own cuts, made without a search of the original: whether VMCOREINFO is of what ran there, a byte."""
_PT_LOAD, _PT_NOTE, _PN_XNUM = 1, 4, 0xFFFF
_NO_CORE = {1: "a relocatable object", 2: "an executable", 3: "a shared object"}
_MOST_LEFT_OUT = 16
"""Lines of the note of what a cut left out that are read: luoser writes at most two."""
_SHARED = 16
"""So many times may all bytes of a file be in segments: no writer of cores stores a page for two addresses."""
_PIECES = 4
"""So many times may all pieces of a flattened file be in segments."""
_INCOMPLETE = 1
"""Flag in the header of makedumpfile's ELF files."""
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NOWHERE = (1 << 64) - 1
"""p_paddr of a segment without a physical address, such as that of modules in a copy of /proc/kcore."""


class _Header(NamedTuple):
    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class ElfMemory(SegmentedMemory):
    """A 64-bit little-endian ELF core whose PT_LOAD headers have physical addresses."""

    format = "elf"

    def __init__(self, path: str, buffer: Buffer, layer: Flattened | None = None) -> None:
        """A core in a buffer.

        layer: the ELF file inside a flattened file, whose pieces are in the buffer. None: the buffer is the ELF file.

        Raises SourceError for a file that is not such a core, or one without memory.
        """
        file: ByteSource = buffer if layer is None else layer
        remarks: list[str] = []
        headers = list(_program_headers(path, file, remarks))
        notes = _named_notes(file, headers, remarks)
        loads = list(_loads(headers, len(file), _rest(notes, headers), remarks))
        if not loads and _is_xen_core(file):
            raise SourceError(f"{path}: a core of a Xen guest (xc_core), which luoser does not read; KHO needs no Xen")
        places = [header.paddr for header in headers if header.kind == _PT_LOAD and header.memsz]
        if places and (not loads or (len(places) > 1 and not any(places))):  # of a process each has 0
            raise SourceError(f"{path}: no segment has a physical address; expected a core of a whole machine")
        if not loads:
            why = "".join(f"; {remark}" for remark in remarks[:1])
            raise SourceError(f"{path}: an ELF file without loadable segments{why}; expected a core dump")
        if not any(load.stored or load.rest is PageState.ZERO for load in loads):
            raise SourceError(
                f"{path}: truncated ELF core: the file has none of the bytes of its {len(loads)} segments"
            )
        if layer is not None:
            loads = list(_without_layer(loads, layer, remarks))
        for state, note in GAP_NOTES.items():
            gaps = _ranges(notes.get(note, b""), remarks)
            loads += [Segment(start, end - start, 0, 0, state) for start, end in gaps if start < end]
        withheld = sorted(one for one in _ranges(notes.get(WITHHELD_NOTE, b""), remarks) if one[0] < one[1])
        loads += [Segment(start, end - start, 0, 0, PageState.EXCLUDED) for start, end in withheld]
        super().__init__(path, buffer, loads)
        self.withheld = tuple(_disjoint(withheld))
        stale = notes.get(STALE_NOTE, b"")[: 8 * LIMITS.note_ranges]
        self.stale = frozenset(one for (one,) in struct.iter_unpack("<Q", stale[: len(stale) // 8 * 8]))
        left_out = notes.get(LEFT_OUT_NOTE, b"").decode("utf-8", "replace").splitlines()
        self.left_out = tuple(safe_text(line) for line in left_out[:_MOST_LEFT_OUT])
        self._set_segments(list(_unshared(self.segments, len(buffer), remarks)))
        said = notes.get(REMARKS_NOTE, b"").decode("utf-8", "replace").splitlines()
        self.remarks[:0] = remarks + said[: LIMITS.problems]
        if any(name.startswith((b"Xen", b"VMCOREINFO_XEN")) for name in notes):
            self.remarks.append("a dump of a machine with Xen: its addresses are assumed to be those of the kernel")
        self.machine = int.from_bytes(file[18:20], "little") or None
        self.info_note = notes.get(b"VMCOREINFO", b"")
        self.is_unsearched = UNSEARCHED_NOTE in notes
        is_of_another = notes.keys() & {b"QEMU", RAM_NOTE} and notes.get(UNSEARCHED_NOTE) != b"\1"
        self.is_own_info = bool(self.info_note) and not is_of_another
        self.vmcoreinfo = parse_vmcoreinfo(self.info_note)
        self.answers = notes.get(ANSWERS_NOTE, b"")
        if "OSRELEASE" not in self.vmcoreinfo:  # else a kernel runs
            self.at_jump = frozenset(start for start, _ in _ranges(notes.get(JUMP_NOTE, b""), self.remarks))
        self.ram = _ranges(notes.get(RAM_NOTE, b""), self.remarks)
        size = self.vmcoreinfo.get("PAGESIZE", "")
        if size.isascii() and size.isdigit() and len(size) <= 7:
            self.page_size = int(size)


def core_segments(path: str, file: ByteSource) -> tuple[dict[str, str], list[Segment]]:
    """VMCOREINFO and the loadable segments of a core, in the order of its program headers.

    path: for error messages.
    file: the core, which need not be a file: /proc/kcore.

    Raises SourceError for bytes that are not an ELF core.
    """
    headers = list(_program_headers(path, file, []))
    notes = _named_notes(file, headers, [])
    return parse_vmcoreinfo(notes.get(b"VMCOREINFO", b"")), list(_loads(headers, len(file), PageState.ZERO, []))


def _program_headers(path: str, file: ByteSource, remarks: list[str]) -> Iterator[_Header]:
    head = file[: _EHDR.size]
    if len(head) < _EHDR.size:
        raise SourceError(f"{path}: truncated ELF header: expected {_EHDR.size} bytes, found {len(head)}")
    ident, kind, _, _, _, phoff, shoff, flags, _, phentsize, phnum, _, _, _ = _EHDR.unpack(head)
    if ident[4] != 2 or ident[5] != 1:
        bits = {1: "32-bit", 2: "64-bit"}.get(ident[4], f"class {ident[4]}")
        order = {1: "little-endian", 2: "big-endian"}.get(ident[5], f"data {ident[5]}")
        raise SourceError(f"{path}: a {bits} {order} ELF file: expected a core of a 64-bit little-endian machine")
    if kind in _NO_CORE:
        raise SourceError(f"{path}: not a core dump: expected an ELF core, found {_NO_CORE[kind]}")
    if flags & _INCOMPLETE:
        remarks.append(f"truncated: {path} is marked as incomplete in its header")
    if phnum == _PN_XNUM:
        info = file[shoff + 44 : shoff + 48]
        if len(info) < 4:
            raise SourceError(
                f"{path}: PN_XNUM is set, but section header 0 at {shoff:#x} is beyond the end of the file"
            )
        phnum = int.from_bytes(info, "little")
    if phentsize != _PHDR.size:
        raise SourceError(f"{path}: program header size: expected {_PHDR.size} bytes, found {phentsize}")
    raw = file[phoff : phoff + min(phnum, LIMITS.elf_headers) * _PHDR.size]
    count = len(raw) // _PHDR.size
    if count < phnum:
        why = f"; {how_to_raise('elf_headers')}" if count == LIMITS.elf_headers else ""
        remarks.append(f"truncated: the ELF header claims {phnum} program headers, {count} could be read{why}")
    for header in map(_Header._make, _PHDR.iter_unpack(raw[: count * _PHDR.size])):
        if header.kind in (_PT_LOAD, _PT_NOTE):
            yield header


def _rest(notes: dict[bytes, bytes], headers: list[_Header]) -> PageState:
    """State of the bytes from p_filesz to p_memsz. In ELF they are zeros, but kernel dumps differ.

    makedumpfile -E excludes these pages, whatever they contain. QEMU does not dump them: they are device memory.
    Neither writer identifies itself, and makedumpfile copies the notes of its input. It cuts segments where it leaves
    pages out, so of segments that adjoin some parts are stored; QEMU stores all of a segment or nothing. Of a core of
    QEMU without VMCOREINFO, makedumpfile can leave out pages, too: zeros, or any with the kernel's debug symbols.
    """
    if RAM_NOTE in notes:
        return PageState.ZERO
    loads = [one for one in headers if one.kind == _PT_LOAD and one.memsz]
    stored = {end for one in loads if one.filesz for end in (one.paddr, one.paddr + one.memsz)}
    is_cut = any(
        one.filesz < one.memsz and (one.filesz or not stored.isdisjoint((one.paddr, one.paddr + one.memsz)))
        for one in loads
    )
    if b"QEMU" in notes:
        return PageState.EXCLUDED if is_cut else PageState.ABSENT
    return PageState.EXCLUDED if b"VMCOREINFO" in notes else PageState.ZERO


def _loads(headers: list[_Header], size: int, rest: PageState, remarks: list[str]) -> Iterator[Segment]:
    """The memory segments. Adds a bounded number of remarks on segments that are truncated."""
    cut: list[str] = []
    for header in headers:
        if header.kind == _PT_LOAD and header.memsz and header.paddr != _NOWHERE:
            yield from _segments(header, size, rest, cut)
    remarks += cut[: LIMITS.overlap_remarks]
    if len(cut) > LIMITS.overlap_remarks:
        remarks.append(f"truncated: {len(cut)} segments in total are incomplete in the file")


def _unshared(loads: Sequence[Segment], size: int, remarks: list[str]) -> Iterator[Segment]:
    """The segments, until they have so many bytes that they must share those of the file. size: of the file."""
    left = _SHARED * size
    for number, load in enumerate(loads):
        left -= load.stored
        if left < 0:
            remarks.append(
                f"truncated: the first {number} of {len(loads)} segments have {_SHARED} times the bytes of the file; "
                "the others are left out"
            )
            return
        yield load


def _segments(header: _Header, file_size: int, rest: PageState, remarks: list[str]) -> Iterator[Segment]:
    """The segment of a program header. Of a truncated one only the part up to p_filesz."""
    filesz = min(header.filesz, header.memsz)
    stored = max(0, min(filesz, file_size - header.offset))
    if stored < filesz:
        remarks.append(f"truncated: segment {header.paddr:#x} has {stored:#x} of its {filesz:#x} bytes in the file")
        yield Segment(header.paddr, filesz, header.offset, stored, PageState.ABSENT)
    elif rest is PageState.ABSENT:
        if filesz:
            yield Segment(header.paddr, filesz, header.offset, filesz)
    else:
        yield Segment(header.paddr, header.memsz, header.offset, stored, rest)


def _without_layer(loads: Sequence[Segment], layer: Flattened, remarks: list[str]) -> Iterator[Segment]:
    """The pieces of the segments, until these have so many that they must share those of the file."""
    left = _PIECES * (layer.count + len(loads))
    for number, load in enumerate(loads):
        for part in _unflattened(load, layer):
            left -= 1
            if left < 0:
                text = (
                    f"the first {number} of {len(loads)} segments have {_PIECES} times the pieces of the flattened file"
                )
                remarks.append(f"truncated: {text}; the others are left out")
                return
            yield part


def _unflattened(load: Segment, layer: Flattened) -> Iterator[Segment]:
    """The pieces of a segment in a flattened file. Gaps are zeros, or absent if the flattened file is truncated."""
    done, gap = load.start, PageState.ABSENT if layer.truncated else PageState.ZERO
    for offset, size, place in layer.pieces(load.offset, load.offset + load.stored):
        start = load.start + offset - load.offset
        if done < start:
            yield Segment(done, start - done, 0, 0, gap)
        yield Segment(start, size, place, size)
        done = start + size
    end = load.start + load.stored
    if done < end:
        yield Segment(done, end - done, 0, 0, gap)
    if end < load.end:
        yield Segment(end, load.end - end, 0, 0, load.rest)


def _ranges(note: bytes, remarks: list[str]) -> tuple[tuple[int, int], ...]:
    """The (start, end) pairs of a note of luoser's own cuts, and a remark if there are too many."""
    size = 16 * LIMITS.note_ranges
    if len(note) > size:
        remarks.append(f"truncated: a note has {len(note) // 16} ranges of memory; {how_to_raise('note_ranges')}")
    return tuple(struct.iter_unpack("<QQ", note[: min(size, len(note) // 16 * 16)]))


def _disjoint(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ascending ranges without what an earlier one has."""
    done = 0
    for start, end in ranges:
        if end > done:
            yield max(start, done), end
            done = end


def _named_notes(file: ByteSource, headers: list[_Header], remarks: list[str]) -> dict[bytes, bytes]:
    """The first note of each name that is used here; empty for other names."""
    segments = [NoteSegment(one.offset, one.filesz, one.align) for one in headers if one.kind == _PT_NOTE]
    names = (
        *(b"VMCOREINFO", RAM_NOTE, REMARKS_NOTE, ANSWERS_NOTE, JUMP_NOTE),
        *(LEFT_OUT_NOTE, WITHHELD_NOTE, STALE_NOTE, UNSEARCHED_NOTE),
        *GAP_NOTES.values(),
    )
    return read_notes(file, segments, names, remarks)


def _is_xen_core(file: ByteSource) -> bool:
    """Whether the names of the sections are those of a core of a Xen guest, whose pages are in a section."""
    *_, shoff, _, _, _, _, shentsize, shnum, shstrndx = _EHDR.unpack(file[: _EHDR.size])
    if not shoff or shentsize != _SHDR.size or shstrndx >= shnum:
        return False
    raw = file[shoff + shstrndx * _SHDR.size : shoff + (shstrndx + 1) * _SHDR.size]
    if len(raw) < _SHDR.size:
        return False
    _, _, _, _, offset, size, *_ = _SHDR.unpack(raw)
    return b".xen_" in file[offset : offset + min(size, 4096)]


def parse_vmcoreinfo(data: bytes) -> dict[str, str]:
    """VMCOREINFO as value by key, both safe to print. Lines without `=` are skipped."""
    lines = (safe_text(line).partition("=") for line in data.rstrip(b"\0").split(b"\n"))
    return {key: value for key, equals, value in lines if equals}
