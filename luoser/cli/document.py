# SPDX-License-Identifier: MIT
"""A state document of `inspect --full --format json` in place of a source."""

from __future__ import annotations

from luoser.memory.source import Memory, SegmentedMemory
from luoser.state import State

__all__ = ["DocumentMemory", "memory_of"]


class DocumentMemory(SegmentedMemory):
    """A source without any memory, whose state is known. state: of the document."""

    def __init__(self, path: str, state: State) -> None:
        super().__init__(path, b"", [])
        self.format, self.page_size, self.state = state.source.format, state.source.page_size, state


def memory_of(source: Memory) -> Memory | None:
    """The memory of a source. None: a document has none."""
    return None if isinstance(source, DocumentMemory) else source
