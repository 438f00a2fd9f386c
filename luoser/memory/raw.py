# SPDX-License-Identifier: MIT
"""Raw images: byte N of the file is physical address N."""

from __future__ import annotations

import os
from collections.abc import Iterator

from luoser.memory.source import Buffer, Segment, SegmentedMemory

__all__ = ["RawMemory", "data_segments"]

_PIECES = 1 << 16


class RawMemory(SegmentedMemory):
    """A flat image that starts at physical address 0. segments: where its bytes are; holes are zeros."""

    format = "raw"

    def __init__(self, path: str, buffer: Buffer, segments: list[Segment] | None = None) -> None:
        super().__init__(path, buffer, segments or [Segment(0, len(buffer), 0, len(buffer))])
        self.ram = ((0, len(buffer)),)


def data_segments(descriptor: int, size: int) -> list[Segment] | None:
    """The data of a sparse file with the holes in between, None where that is not known or has too many pieces."""
    pieces: list[Segment] = []
    for segment in _pieces(descriptor, size):
        pieces.append(segment)
        if len(pieces) > _PIECES:
            return None
    return pieces or None


def _pieces(descriptor: int, size: int) -> Iterator[Segment]:
    place = 0
    while place < size:
        try:
            data = os.lseek(descriptor, place, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            data = size
        data = min(data - data % 4096, size)
        if data > place:
            yield Segment(place, data - place, place, 0)
        if data < size:
            place = min(size, -(-os.lseek(descriptor, data, os.SEEK_HOLE) // 4096) * 4096)
            yield Segment(data, place - data, data, place - data)
        else:
            place = size
