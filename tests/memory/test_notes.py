# SPDX-License-Identifier: MIT
"""Notes of ELF files: what is read of them, and how much is read to find them."""

from __future__ import annotations

import pytest

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
    assert read_notes(file, segments, (b"VMCOREINFO",)) == {}
    assert file.read < 3 * len(file)


def test_a_note_after_a_gap_of_zeros_is_found() -> None:
    data = note("CORE", b"a") + bytes(70_000) + note("VMCOREINFO", b"PAGESIZE=4096")
    assert (
        read_notes(Counted(data), [NoteSegment(0, len(data), 4)], (b"VMCOREINFO",))[b"VMCOREINFO"] == b"PAGESIZE=4096"
    )
