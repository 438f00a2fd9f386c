# SPDX-License-Identifier: MIT
"""Raw images: byte N of the file is assumed to be physical address N, unless ranges are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from luoser.errors import PageState, UsageError
from luoser.memory.file import Buffer, runs_of_data
from luoser.memory.source import Segment, SegmentedMemory

__all__ = ["Range", "RawMemory", "pc_ranges"]

_4G, _LIMIT = 1 << 32, 1 << 52


@dataclass(frozen=True, slots=True)
class Range:
    """A part of an image and its physical address.

    start:  physical address of its first byte.
    size:   in bytes. None: up to the end of the image.
    offset: of its first byte in the image.
    """

    start: int
    size: int | None
    offset: int


def pc_ranges(hole: int) -> tuple[Range, Range]:
    """The ranges of an x86 PC's memory in an image without the PCI hole.

    hole: physical address where the low memory ends; the rest of the image is at 4 GiB.

    Raises UsageError for an address that is not below 4 GiB.
    """
    if not 0 < hole < _4G:
        raise UsageError(f"PC hole {hole:#x}: expected an address below 4 GiB, such as 0xc0000000 or 0x80000000")
    return Range(0, hole, 0), Range(_4G, None, hole)


class RawMemory(SegmentedMemory):
    """A flat image without a header. Byte N is assumed to be address N until `place` is called."""

    format = "raw"
    is_guess = True

    def __init__(self, path: str, buffer: Buffer) -> None:
        self._pieces = tuple(_pieces(buffer))
        super().__init__(path, buffer, list(self._pieces))
        self._note_ram()

    def place(self, ranges: Sequence[Range]) -> None:
        """Put the parts of the image at these physical addresses, instead of the current ones.

        Raises UsageError for a part that is empty or outside the image, for an address beyond 52 bits, and for parts
        that overlap in memory.
        """
        spans = sorted((part.start, self._end(part) + part.start - part.offset) for part in ranges)
        if any(end > _LIMIT for _, end in spans):
            raise UsageError(
                f"{self.path}: a part would end at address {spans[-1][1]:#x}, beyond the 52-bit physical address limit"
            )
        for (_, end), (start, _) in pairwise(spans):
            if start < end:
                raise UsageError(f"{self.path}: two parts of the image overlap at address {start:#x}")
        self._set_segments([segment for part in ranges for segment in self._part(part)])
        self._note_ram()

    def _note_ram(self) -> None:
        self.ram = tuple((segment.start, segment.end) for segment in _joined(self.segments))

    def _end(self, part: Range) -> int:
        """Offset in the image of the first byte after a part. Raises UsageError."""
        size = len(self._buffer)
        end = size if part.size is None else part.offset + part.size
        if end <= part.offset or part.offset >= size:
            what = "is empty" if part.offset < size else f"begins at byte {part.offset:#x}, the image has {size:#x}"
            raise UsageError(f"{self.path}: the part for address {part.start:#x} {what}")
        return end

    def _part(self, part: Range) -> Iterator[Segment]:
        size, shift, end = len(self._buffer), part.start - part.offset, self._end(part)
        for piece in self._pieces:
            low, high = max(piece.start, part.offset), min(piece.end, end)
            if low < high:
                yield Segment(low + shift, high - low, low, high - low if piece.stored else 0)
        if end > size:
            self.remarks.append(f"truncated: the last {end - size:#x} bytes of the part at {part.start:#x} are missing")
            yield Segment(size + shift, end - size, 0, 0, PageState.ABSENT)


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, with adjacent ones merged."""
    made: list[Segment] = []
    for segment in segments:
        if made and made[-1].end == segment.start:
            made[-1] = Segment(made[-1].start, made[-1].size + segment.size, 0, 0)
        else:
            made.append(segment)
    return made


def _pieces(buffer: Buffer) -> Iterator[Segment]:
    """The data and the holes of a file. A hole is a segment with nothing stored."""
    done, size = 0, len(buffer)
    for start, end in (*runs_of_data(buffer, 0, size), (size, size)):
        if done < start:
            yield Segment(done, start - done, done, 0)
        if start < end:
            yield Segment(start, end - start, start, end - start)
        done = end
