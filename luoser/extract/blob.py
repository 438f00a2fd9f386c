# SPDX-License-Identifier: MIT
"""One node of a state as a file: its own bytes, or the preserved folio that holds it."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from luoser.errors import MissingMemory, UsageError
from luoser.limits import LIMITS
from luoser.memory.source import Memory
from luoser.state import State
from luoser.state.where import extent, find_node
from luoser.text import safe_text

__all__ = ["write_blob"]


def write_blob(file: BinaryIO, memory: Memory, state: State, where: str) -> str:
    """Write the node at a path or physical address; gives a line on what was written.

    As many bytes as the node itself says that it has; else the whole folio that holds its address, as an intact
    map has it; else the page. Raises UsageError when there is no such node, or a byte is missing.
    """
    address, size, why = extent(state, find_node(state, where))
    if size > LIMITS.list_size:
        raise UsageError(f"{safe_text(where)}: {size:#x} bytes, more than {LIMITS.list_size:#x}, the largest list")
    try:
        data = memory.read(address, size)
    except MissingMemory as error:
        raise UsageError(f"{safe_text(where)}: {size:#x} bytes at {address:#x}: {error}") from None
    file.write(data)
    return f"{size} bytes at {address:#x} ({why}), sha256 {hashlib.sha256(data).hexdigest()}"
