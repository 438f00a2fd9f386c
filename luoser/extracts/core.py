# SPDX-License-Identifier: MIT
"""Writes ELF cores with some pages of a source."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from luoser.bits import is_zero
from luoser.errors import MissingMemory, PageState, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.elf import (
    ANSWERS_NOTE,
    GAP_NOTES,
    JUMP_NOTE,
    LEFT_OUT_NOTE,
    RAM_NOTE,
    REMARKS_NOTE,
    STALE_NOTE,
    UNSEARCHED_NOTE,
    WITHHELD_NOTE,
)
from luoser.memory.source import Memory
from luoser.state import State
from luoser.text import safe_text

__all__ = ["next_start", "without_test_data", "write_core"]

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_PAGE = 4096
_PIECE = 16 << 20
_END = 1 << 64
"""First address beyond those of ELF."""
_PT_LOAD, _PT_NOTE, _ET_CORE, _EM_NONE, _PN_XNUM = 1, 4, 4, 0, 0xFFFF


class _Run(NamedTuple):
    """[start, end) of physical memory with one state. is_withheld: excluded bytes of a page that was read."""

    start: int
    end: int
    state: PageState
    is_withheld: bool = False

    @property
    def stored(self) -> int:
        """Number of its bytes in the file."""
        return self.end - self.start if self.state is PageState.PRESENT else 0


def without_test_data(pages: Iterable[int], state: State) -> set[int]:
    """The pages without large folios of the KHO self-test: they are test data, and can be a quarter of all memory.

    pages: physical addresses of 4 KiB pages. state: as read from them with contents.
    """
    tests = (handover.kho_test for handover in state.handovers if handover.kho_test is not None)
    large = [piece for test in tests for piece in test.contents if piece.size > LIMITS.contents_size]
    return set(pages).difference(*(range(piece.address, piece.address + piece.size, _PAGE) for piece in large))


def write_core(
    file: BinaryIO,
    memory: Memory,
    pages: Iterable[int],
    *,
    knows_ram: bool = True,
    answers: bytes = b"",
    is_searched: bool = True,
) -> int:
    """Write an ELF core with some pages, VMCOREINFO and the remarks. Returns its size in bytes.

    A page has the same state in the core as in the source: zero pages need no space, excluded and damaged pages are
    listed in notes, absent pages are omitted.

    pages:     physical addresses of 4 KiB pages.
    answers:   what the kernel said of itself, for a note; see `Memory.answers`.
    is_searched: all roots and kernels of the source were looked for. False: the core says so, in a note.
    knows_ram: write the RAM ranges of the source. False for a source that does not have a machine's memory.

    Raises UsageError if there are more runs of pages, or more bytes of notes, than luoser reads from an ELF core.
    """
    wanted = sorted(page for page in set(pages) if page < _END)
    runs = list(_joined(run for page in wanted for run in _states(memory, page)))
    loads = [run for run in runs if run.state in (PageState.PRESENT, PageState.ZERO)]
    notes = _notes(memory, runs, knows_ram=knows_ram, answers=answers)
    if not is_searched:
        notes += _note(UNSEARCHED_NOTE, bytes([memory.is_own_info]))
    if 1 + len(loads) > LIMITS.elf_headers:
        text = f"expected at most {LIMITS.elf_headers - 1}, found {len(loads)}; {how_to_raise('elf_headers')}"
        raise UsageError(f"too many runs of pages for an ELF core: {text}")
    if len(notes) > LIMITS.note_size:
        text = f"expected at most {LIMITS.note_size} bytes, found {len(notes)}; {how_to_raise('note_size')}"
        raise UsageError(f"too many remarks and ranges for the notes of an ELF core: {text}")
    place = _write_headers(file, memory, loads, notes)
    for run, offset in zip(loads, _offsets(loads, place), strict=True):
        if run.stored:
            file.write(bytes(offset - place))
            _copy(file, memory, run)
            place = offset + run.stored
    return place


def _write_headers(file: BinaryIO, memory: Memory, loads: list[_Run], notes: bytes) -> int:
    """Write everything before the memory. Returns its size in bytes.

    If the number of headers exceeds e_phnum, it is in section header 0.
    """
    count = 1 + len(loads)
    many = count >= _PN_XNUM
    section = _SHDR.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0) if many else b""
    sections = _EHDR.size + count * _PHDR.size
    first = sections + len(section)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    machine = _EM_NONE if memory.machine is None else memory.machine
    shoff, shentsize, shnum = (sections, _SHDR.size, 1) if many else (0, 0, 0)
    file.write(
        _EHDR.pack(
            ident, _ET_CORE, machine, 1, 0, _EHDR.size, shoff, 0,
            _EHDR.size, _PHDR.size, _PN_XNUM if many else count, shentsize, shnum, 0,
        )
    )  # fmt: skip
    file.write(_PHDR.pack(_PT_NOTE, 0, first, 0, 0, len(notes), len(notes), 4))
    for run, offset in zip(loads, _offsets(loads, first + len(notes)), strict=True):
        file.write(_PHDR.pack(_PT_LOAD, 6, offset, 0, run.start, run.stored, run.end - run.start, _PAGE))
    file.write(section + notes)
    return first + len(notes)


def _offsets(loads: list[_Run], place: int) -> Iterator[int]:
    """Offset in the file of each run, from an offset on. It is congruent to the address modulo the page size."""
    for run in loads:
        offset = place + (run.start - place) % _PAGE
        yield offset
        if run.stored:
            place = offset + run.stored


def _copy(file: BinaryIO, memory: Memory, run: _Run) -> None:
    for address in range(run.start, run.end, _PIECE):
        file.write(memory.read(address, min(_PIECE, run.end - address)))


def _states(memory: Memory, page: int) -> Iterator[_Run]:
    """The runs of a page: usually one, more if a segment begins or ends inside the page."""
    start, end = page, page + _PAGE
    while start < end:
        try:
            data = memory.read(start, end - start)
        except MissingMemory as error:
            if start < error.address:
                yield _Run(start, error.address, PageState.PRESENT)
            if error.state in GAP_NOTES:
                gap = max(start, error.address)
                stop = _withheld_until(memory, gap)
                yield _Run(gap, min(stop or end, end), error.state, is_withheld=stop is not None)
                start = min(stop or end, end)
                continue
            start = next_start(memory, max(start, error.address), end)
        else:
            is_left_out = memory.page_state(start) is PageState.ZERO and is_zero(data)
            yield _Run(start, end, PageState.ZERO if is_left_out else PageState.PRESENT)
            return


def _withheld_until(memory: Memory, address: int) -> int | None:
    """First address after a range of withheld bytes with an address. None: it is not in one."""
    number = bisect_right(memory.withheld, (address, _END)) - 1
    end = memory.withheld[number][1] if number >= 0 else 0
    return end if end > address else None


def next_start(memory: Memory, address: int, end: int) -> int:
    """Start of the next segment after an address that is not in the source, but at most `end`.

    memory:       the source.
    address, end: physical.
    """
    segments = memory.segments
    index = bisect_right(segments, address, key=lambda segment: segment.start)
    return min(end, segments[index].start) if index < len(segments) else end


def _joined(runs: Iterable[_Run]) -> Iterator[_Run]:
    """The runs, with adjacent ones of the same state merged. The runs are ascending."""
    last: _Run | None = None
    for run in runs:
        if last is not None and (last.end, *last[2:]) == (run.start, *run[2:]):
            last = last._replace(end=run.end)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def _notes(memory: Memory, runs: list[_Run], *, knows_ram: bool, answers: bytes) -> bytes:
    ram = (memory.ram or memory.known_ram) if knows_ram else ()
    notes = _note(RAM_NOTE, _pairs(ram))
    for state, name in GAP_NOTES.items():
        if gaps := [(run.start, run.end) for run in runs if run.state is state and not run.is_withheld]:
            notes += _note(name, _pairs(gaps))
    if withheld := [(run.start, run.end) for run in runs if run.is_withheld]:
        notes += _note(WITHHELD_NOTE, _pairs(withheld))
    if memory.stale:
        notes += _note(STALE_NOTE, b"".join(struct.pack("<Q", address) for address in sorted(memory.stale)))
    if memory.left_out:
        notes += _note(LEFT_OUT_NOTE, "\n".join(memory.left_out).encode("utf-8", "replace"))
    if memory.remarks:
        lines = (" ".join(remark.splitlines()) for remark in _remarks(memory))
        notes += _note(REMARKS_NOTE, "\n".join(lines).encode("utf-8", "replace"))
    if memory.at_jump:
        notes += _note(JUMP_NOTE, _pairs((root, root + _PAGE) for root in sorted(memory.at_jump)))
    if answers:
        notes += _note(ANSWERS_NOTE, answers)
    info = _info(memory)
    return notes + _note(b"VMCOREINFO", info) if info else notes


def _remarks(memory: Memory) -> Iterator[str]:
    """The remarks of a source, without the names of its files: who gets a cut does not know them."""
    names = sorted({*memory.files, safe_text(memory.path)} - {""}, key=len, reverse=True)
    named = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, names))})(?![\w/-])")
    for remark in memory.remarks:
        yield named.sub("the source", remark) if names else remark


def _info(memory: Memory) -> bytes:
    """VMCOREINFO as the source has it, any bytes, with the page size if only another header of the source has that."""
    info = memory.info_note.rstrip(b"\0") or _lines(memory.vmcoreinfo)
    if memory.page_size is not None and "PAGESIZE" not in memory.vmcoreinfo:
        end = b"\n" if info and not info.endswith(b"\n") else b""
        info += end + f"PAGESIZE={memory.page_size}\n".encode()
    return info


def _pairs(spans: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack("<QQ", start, min(end, _END - 1)) for start, end in spans if start < _END)


def _lines(info: Mapping[str, str]) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in info.items()).encode()


def _note(name: bytes, data: bytes) -> bytes:
    padded = (name + b"\0").ljust(-(-(len(name) + 1) // 4) * 4, b"\0")
    return struct.pack("<III", len(name) + 1, len(data), 0) + padded + data.ljust(-(-len(data) // 4) * 4, b"\0")
