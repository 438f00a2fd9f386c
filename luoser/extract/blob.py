# SPDX-License-Identifier: MIT
"""One node of a state as a file: its own bytes, or the preserved folio that holds it."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from luoser.errors import MissingMemory, UsageError
from luoser.limits import LIMITS
from luoser.memory.source import Memory
from luoser.state import State
from luoser.state.where import find_node
from luoser.text import safe_text

__all__ = ["write_blob"]


def write_blob(file: BinaryIO, memory: Memory, state: State, where: str) -> str:
    """Write the node at a path or physical address; gives a line on what was written.

    As many bytes as the node itself says that it has; else the whole folio that holds its address, as an intact
    map has it; else the page. Raises UsageError when there is no such node, or a byte is missing.
    """
    node = find_node(state, where)
    address, size, why = node.address, node.size, "its own size"
    if not size:
        address, size, why = _folio(state, node.address)
    if size > LIMITS.list_size:
        raise UsageError(f"{safe_text(where)}: {size:#x} bytes, more than {LIMITS.list_size:#x}, the largest list")
    try:
        data = memory.read(address, size)
    except MissingMemory as error:
        raise UsageError(f"{safe_text(where)}: {size:#x} bytes at {address:#x}: {error}") from None
    file.write(data)
    return f"{size} bytes at {address:#x} ({why}), sha256 {hashlib.sha256(data).hexdigest()}"


def _folio(state: State, address: int) -> tuple[int, int, str]:
    page = state.source.page_size
    for handover in state.handovers:
        block = handover.preserved.map.find(address) if handover.preserved.map is not None else None
        if block is not None:
            return block.address, page << block.order, f"the preserved folio of order {block.order}"
    return address // page * page, page, "one page: no intact map has more"
