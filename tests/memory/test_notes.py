# SPDX-License-Identifier: MIT
"""Notes of ELF files: what is read of them, and how much is read to find them."""

from __future__ import annotations

import pytest

from luoser.limits import Limits, limited
from luoser.memory.notes import NoteSegment, read_notes
from luoser.memory.source import ByteSource
from tests.memory.images import note


class Counted(ByteSource):
    """Bytes of which it counts how many are read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read = data, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, part: slice) -> bytes:
        found = self.data[part]
        self.read += len(found)
        return found


@pytest.mark.parametrize("step", [0, 4], ids=["the same segment", "segments that overlap"])
def test_zeros_under_many_segments_are_read_twice_at_most(step: int) -> None:
    file = Counted(bytes(8 << 20))
    segments = [NoteSegment(step * index, len(file) - step * index, 4) for index in range(500)]
    assert read_notes(file, segments, (b"VMCOREINFO",), []) == {}
    assert file.read < 3 * len(file)


def test_a_note_after_a_gap_of_zeros_is_found() -> None:
    data = note("CORE", b"a") + bytes(70_000) + note("VMCOREINFO", b"PAGESIZE=4096")
    assert read(data)[b"VMCOREINFO"] == b"PAGESIZE=4096"


def read(data: bytes, *remarks: str) -> dict[bytes, bytes]:
    """The notes of one segment. remarks: that are expected."""
    said = list[str]()
    found = read_notes(Counted(data), [NoteSegment(0, len(data), 4)], (b"VMCOREINFO",), said)
    assert said == list(remarks)
    return found


def test_notes_are_counted() -> None:
    data = note("CORE", b"a") * 3 + note("VMCOREINFO", b"b")
    with limited(Limits(notes=4)):
        assert read(data)[b"VMCOREINFO"] == b"b"
    with limited(Limits(notes=3)):
        text = "truncated: only the first 3 notes are read; --limit notes=N raises this limit, now 3"
        assert read(data, text).keys() == {b"CORE"}


def test_a_long_note_is_cut_and_said_to_be() -> None:
    data = note("CORE", bytes(100)) + note("VMCOREINFO", b"12345")
    with limited(Limits(note_size=5)):
        assert read(data)[b"VMCOREINFO"] == b"12345"
    with limited(Limits(note_size=4)):
        text = "truncated: only the first 4 of 5 bytes of note VMCOREINFO are read"
        assert read(data, f"{text}; --limit note_size=N raises this limit, now 4")[b"VMCOREINFO"] == b"1234"
