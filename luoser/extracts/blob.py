# SPDX-License-Identifier: MIT
"""Writes one node of a state to a file: its own bytes, or the preserved folio that contains it."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from luoser.errors import MissingMemory, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.state import State
from luoser.state.where import extent, find_node
from luoser.text import safe_text

__all__ = ["write_blob"]


def write_blob(file: BinaryIO, memory: Memory, state: State, where: str) -> str:
    """Write the bytes of a node. Returns a line that says what was written, with its SHA-256.

    The size is that of the node if it is known. Otherwise it is that of the folio that contains the node, according
    to an intact map. Otherwise it is one page.

    where: path in the state document, or a physical address.

    Raises UsageError if there is no such node, or one of its bytes is not in the source.
    """
    address, size, why = extent(state, find_node(state, where))
    if size > LIMITS.list_size:
        text = f"size: expected at most {LIMITS.list_size:#x} bytes, found {size:#x}; {how_to_raise('list_size')}"
        raise UsageError(f"{safe_text(where)}: {text}")
    try:
        data = memory.read(address, size)
    except MissingMemory as error:
        raise UsageError(f"{safe_text(where)}: cannot read {size:#x} bytes at {address:#x}: {error}") from None
    file.write(data)
    return f"{size} bytes at {address:#x} ({why}), sha256 {hashlib.sha256(data).hexdigest()}"
