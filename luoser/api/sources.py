# SPDX-License-Identifier: MIT
"""What a function of the API takes: a path, a source that is open, or a state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from luoser.errors import UsageError

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import State

__all__ = ["Path", "opened", "opened_memory"]

Path = str | os.PathLike[str]


@contextmanager
def opened(given: State | Memory | Path, **reading: Any) -> Iterator[tuple[State, Memory | None]]:
    """The state of what was given, and its memory. None: a state or a document has no memory.

    given:   a path, a source that is open, or a state. A source that was open stays open.
    reading: as of `luoser.read`.

    Raises UsageError for anything else, and as `luoser.open` and `luoser.read` do.
    """
    from luoser.reader import read
    from luoser.state import State
    from luoser.state.document import read_document

    if isinstance(given, State):
        yield given, None
        return
    if isinstance(given, str | os.PathLike):
        document = read_document(os.fspath(given))
        if document is not None:
            yield document, None
            return
    with opened_memory(given, "a state") as memory:
        yield read(memory, **reading), memory


@contextmanager
def opened_memory(given: Memory | Path, *others: str) -> Iterator[Memory]:
    """The source at a path, or one that is open, and stays so. others: what else is expected, in words.

    Raises UsageError for anything else, and as `luoser.open` does.
    """
    from luoser.memory.open import open_memory
    from luoser.memory.source import Memory

    if isinstance(given, Memory):
        yield given
    elif isinstance(given, str | os.PathLike):
        with open_memory(given) as memory:
            yield memory
    else:
        expected = " or ".join(("a path", "a source of luoser.open", *others))
        raise UsageError(f"expected {expected}, found {type(given).__name__}")
