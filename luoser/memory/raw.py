# SPDX-License-Identifier: MIT
"""Raw images: byte N of the file is physical address N."""

from __future__ import annotations

from luoser.memory.source import Buffer, Segment, SegmentedMemory

__all__ = ["RawMemory"]


class RawMemory(SegmentedMemory):
    """A flat image that starts at physical address 0."""

    format = "raw"

    def __init__(self, path: str, buffer: Buffer) -> None:
        super().__init__(path, buffer, [Segment(0, len(buffer), 0, len(buffer))])
