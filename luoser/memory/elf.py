# SPDX-License-Identifier: MIT
"""ELF cores by physical address: QEMU's dump-guest-memory, kdump's vmcore, luoser's own cuts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.flattened import Flattened
from luoser.memory.source import Buffer, ByteSource, Segment, SegmentedMemory
from luoser.text import safe_text

__all__ = ["EXCLUDED_NOTE", "MAGIC", "RAM_NOTE", "ElfMemory", "core_segments", "parse_vmcoreinfo"]

MAGIC = b"\x7fELF"
RAM_NOTE = b"LUOSER-RAM"
"""Note of luoser's own cuts: the ranges that the original dump covered, as pairs of u64, start and end."""
EXCLUDED_NOTE = b"LUOSER-EXCLUDED"
"""Likewise: ranges that the dump tool had left out of the original, as far as the cut depends on them."""
_PT_LOAD, _PT_NOTE, _PN_XNUM = 1, 4, 0xFFFF
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")


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
    """A 64-bit little-endian ELF core whose PT_LOAD headers give physical addresses."""

    format = "elf"

    def __init__(self, path: str, buffer: Buffer, layer: Flattened | None = None) -> None:
        """layer: the file as it was before makedumpfile flattened it; buffer holds its pieces."""
        file: ByteSource = buffer if layer is None else layer
        remarks: list[str] = []
        headers = list(_program_headers(path, file, remarks))
        loads = list(_loads(headers, len(file), remarks))
        if not loads:
            raise SourceError(f"{path}: an ELF file without loadable segments holds no memory; is it a core dump?")
        if not any(load.stored or load.rest is PageState.ZERO for load in loads):
            raise SourceError(f"{path}: a truncated ELF core: no memory is left of its {len(loads)} segments")
        if layer is not None:
            loads = [part for load in loads for part in _unflattened(load, layer)]
        notes = _wanted_notes(file, headers)
        excluded = _ranges(notes.get(EXCLUDED_NOTE, b""))
        loads += [Segment(start, end - start, 0, 0, PageState.EXCLUDED) for start, end in excluded if start < end]
        super().__init__(path, buffer, loads)
        self.remarks[:0] = remarks
        self.machine = int.from_bytes(file[18:20], "little") or None
        self.vmcoreinfo = parse_vmcoreinfo(notes.get(b"VMCOREINFO", b""))
        self.ram = _ranges(notes.get(RAM_NOTE, b""))
        size = self.vmcoreinfo.get("PAGESIZE", "")
        if size.isascii() and size.isdigit() and len(size) <= 7:
            self.page_size = int(size)


def core_segments(path: str, file: ByteSource) -> tuple[dict[str, str], list[Segment]]:
    """VMCOREINFO and the loadable segments, by the physical address in their headers, of a core that is no file."""
    headers = list(_program_headers(path, file, []))
    notes = _wanted_notes(file, headers)
    return parse_vmcoreinfo(notes.get(b"VMCOREINFO", b"")), list(_loads(headers, len(file), []))


def _program_headers(path: str, buffer: ByteSource, remarks: list[str]) -> Iterator[_Header]:
    if len(buffer) < _EHDR.size:
        raise SourceError(f"{path}: an ELF header has {_EHDR.size} bytes, the file only {len(buffer)}")
    ident, _, _, _, _, phoff, shoff, _, _, phentsize, phnum, _, _, _ = _EHDR.unpack(bytes(buffer[: _EHDR.size]))
    if ident[4] != 2 or ident[5] != 1:
        bits = {1: "32-bit", 2: "64-bit"}.get(ident[4], f"class {ident[4]}")
        order = {1: "little-endian", 2: "big-endian"}.get(ident[5], f"data {ident[5]}")
        raise SourceError(f"{path}: a {bits} {order} ELF file; KHO exists on 64-bit little-endian machines only")
    if phnum == _PN_XNUM:
        if shoff + 48 > len(buffer):
            raise SourceError(f"{path}: PN_XNUM set, but section header 0 at {shoff:#x} is beyond the end of the file")
        phnum = struct.unpack("<I", bytes(buffer[shoff + 44 : shoff + 48]))[0]
    if phentsize != _PHDR.size:
        raise SourceError(f"{path}: program headers of {phentsize} bytes, expected {_PHDR.size}")
    count = min(phnum, LIMITS.elf_headers, max(0, len(buffer) - phoff) // _PHDR.size)
    if count < phnum:
        remarks.append(f"truncated: {phnum} program headers in the ELF header, {count} could be read")
    for index in range(count):
        place = phoff + index * _PHDR.size
        yield _Header(*_PHDR.unpack(bytes(buffer[place : place + _PHDR.size])))


def _loads(headers: list[_Header], size: int, remarks: list[str]) -> Iterator[Segment]:
    """The memory segments, with a word for each of the first that the file cuts short and one for the rest."""
    cut: list[str] = []
    for header in headers:
        if header.kind == _PT_LOAD and header.memsz:
            yield _segment(header, size, cut)
    remarks += cut[: LIMITS.overlap_remarks]
    if len(cut) > LIMITS.overlap_remarks:
        remarks.append(f"truncated: {len(cut)} segments are not whole in the file")


def _segment(header: _Header, file_size: int, remarks: list[str]) -> Segment:
    """p_memsz beyond p_filesz is zero memory; p_filesz beyond the end of the file is lost."""
    filesz = min(header.filesz, header.memsz)
    stored = max(0, min(filesz, file_size - header.offset))
    if stored < filesz:
        remarks.append(
            f"truncated: segment {header.paddr:#x} has {filesz:#x} bytes in its header, {stored:#x} in the file"
        )
        return Segment(header.paddr, filesz, header.offset, stored, PageState.ABSENT)
    return Segment(header.paddr, header.memsz, header.offset, stored, PageState.ZERO)


def _unflattened(load: Segment, layer: Flattened) -> Iterator[Segment]:
    """A segment as the pieces that a flattened file has of it; what it skips is zeros."""
    done = load.start
    for offset, size, place in layer.pieces(load.offset, load.offset + load.stored):
        start = load.start + offset - load.offset
        if done < start:
            yield Segment(done, start - done, 0, 0)
        yield Segment(start, size, place, size)
        done = start + size
    if done < load.end:
        yield Segment(done, load.end - done, 0, 0, load.rest)


def _ranges(note: bytes) -> tuple[tuple[int, int], ...]:
    """The pairs of a note of luoser's own."""
    return tuple(struct.iter_unpack("<QQ", note[: len(note) // 16 * 16]))


def _wanted_notes(file: ByteSource, headers: list[_Header]) -> dict[bytes, bytes]:
    """The first VMCOREINFO and the first of each note of luoser's; all note segments are read up to a bound."""
    found: dict[bytes, bytes] = {}
    left = LIMITS.note_size
    for header in headers:
        if header.kind == _PT_NOTE and left > 0:
            data = bytes(file[header.offset : header.offset + min(header.filesz, left)])
            left -= len(data)
            for name, description in _notes(data):
                if name in (b"VMCOREINFO", RAM_NOTE, EXCLUDED_NOTE):
                    found.setdefault(name, description)
    return found


def _notes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + _NHDR.size <= len(data):
        namesz, descsz, kind = _NHDR.unpack_from(data, place)
        if not (namesz or descsz or kind):
            return  # padding
        name = place + _NHDR.size
        desc = name + (namesz + 3) // 4 * 4
        place = desc + (descsz + 3) // 4 * 4
        yield data[name : name + namesz].rstrip(b"\0"), data[desc : desc + descsz]


def parse_vmcoreinfo(data: bytes) -> dict[str, str]:
    """KEY=VALUE lines as a dictionary; lines without = are skipped, values are made safe to print."""
    lines = (line.partition(b"=") for line in data.rstrip(b"\0").splitlines())
    return {safe_text(key): safe_text(value) for key, equals, value in lines if equals}
