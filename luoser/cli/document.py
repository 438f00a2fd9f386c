# SPDX-License-Identifier: MIT
"""A state document of `inspect --full --format json` in place of a source."""

from __future__ import annotations

from luoser.errors import UsageError
from luoser.memory.source import Memory, SegmentedMemory
from luoser.state import State
from luoser.text import safe_text

__all__ = ["DocumentMemory", "memory_of", "need_pages"]


class DocumentMemory(SegmentedMemory):
    """A source without any memory, whose state is known. state: of the document."""

    def __init__(self, path: str, state: State) -> None:
        super().__init__(path, b"", [])
        self.format, self.page_size, self.state = state.source.format, state.source.page_size, state


def memory_of(source: Memory) -> Memory | None:
    """The memory of a source. None: a document has none."""
    return None if isinstance(source, DocumentMemory) else source


def need_pages(source: Memory) -> None:
    """Raise UsageError for a document, which has no pages to show or to write."""
    if memory_of(source) is None:
        raise UsageError(f"{safe_text(source.path)}: a state document has no pages; give the dump")
