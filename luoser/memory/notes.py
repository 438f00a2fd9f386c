# SPDX-License-Identifier: MIT
"""The notes of an ELF file. Only their headers and the notes that are wanted are read: device dumps come first.

Source: the System V ABI, note sections. Cores align notes to 4 bytes; 8 occurs with a p_align of 8.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import ByteSource
from luoser.text import safe_text

__all__ = ["NoteSegment", "read_notes"]

_HEADER = struct.Struct("<III")
_LONGEST = 32
"""Bytes of the longest name that is compared."""
_CHUNK = 1 << 16


class NoteSegment(NamedTuple):
    """Where notes are. offset, size: in the file, in bytes. align: of the segment, 0 if it does not say."""

    offset: int
    size: int
    align: int


def read_notes(
    file: ByteSource, segments: Sequence[NoteSegment], names: Collection[bytes], remarks: list[str]
) -> dict[bytes, bytes]:
    """The first note of each name that is wanted, of at most LIMITS.note_size bytes; empty for all other names.

    file:     the ELF file.
    segments: with notes.
    names:    of the wanted ones, without their NUL.
    remarks:  gets one if notes are left out or cut.
    """
    found: dict[bytes, bytes] = {}
    left, gaps = LIMITS.notes, _Gaps(file)
    for segment in dict.fromkeys(segments):
        for name, place, size in _walked(file, segment, left + 1, gaps):
            if not left:
                remarks.append(f"truncated: only the first {LIMITS.notes} notes are read; {how_to_raise('notes')}")
                return found
            left -= 1
            if name not in found:
                found[name] = _wanted(file, name, place, size, remarks) if name in names else b""
    return found


def _wanted(file: ByteSource, name: bytes, place: int, size: int, remarks: list[str]) -> bytes:
    """The bytes of a note. Adds a remark if it is cut."""
    if size > LIMITS.note_size:
        text = f"only the first {LIMITS.note_size} of {size} bytes of note {safe_text(name)} are read"
        remarks.append(f"truncated: {text}; {how_to_raise('note_size')}")
    return file[place : place + min(size, LIMITS.note_size)]


def _walked(file: ByteSource, segment: NoteSegment, most: int, gaps: _Gaps) -> list[tuple[bytes, int, int]]:
    """(name, offset, size) of the notes of a segment, by the alignment with which it has VMCOREINFO, or by 4 bytes."""
    walks = [list(_walk(file, segment, align, most, gaps)) for align in ((4, 8) if segment.align == 8 else (4,))]
    return next((walk for walk in walks if any(name == b"VMCOREINFO" for name, _, _ in walk)), walks[0])


def _walk(
    file: ByteSource, segment: NoteSegment, align: int, most: int, gaps: _Gaps
) -> Iterator[tuple[bytes, int, int]]:
    place, end = segment.offset, segment.offset + segment.size
    while place + _HEADER.size <= end and most > 0:
        head = file[place : place + _HEADER.size + _LONGEST]
        if len(head) < _HEADER.size:
            return
        name_size, size, _ = _HEADER.unpack_from(head)
        if not name_size:  # a gap: no writer of cores leaves the name out
            place = gaps.end(place, end)
            continue
        data = place + _padded(_HEADER.size + name_size, align)
        if data > end:
            return
        yield head[_HEADER.size :][:name_size].rstrip(b"\0"), data, min(size, end - data)
        place = data + _padded(size, align)
        most -= 1


def _padded(size: int, align: int) -> int:
    return (size + align - 1) // align * align


class _Gaps:
    """Gaps of zeros between notes. Segments may overlap: in all, no more is read than twice the file."""

    def __init__(self, file: ByteSource) -> None:
        self.file, self.left = file, 2 * len(file) + _CHUNK

    def end(self, place: int, end: int) -> int:
        """Offset of the next word that is not zero; the end if there is none, or if too much was read."""
        start = place
        while place < end and self.left > 0:
            data = self.file[place : min(end, place + _CHUNK)]
            if not data:
                return end
            self.left -= len(data)
            zeros = len(data) - len(data.lstrip(b"\0"))
            if zeros < len(data):
                return place + zeros - (place + zeros - start) % 4
            place += len(data)
        return end
