# SPDX-License-Identifier: MIT
"""The bytes of one node, and the layout that they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luoser.abi.registry import Layout
    from luoser.memory.source import Memory

__all__ = ["layout_of", "read_bytes"]


def read_bytes(memory: Memory, address: int, size: int) -> tuple[bytes, str]:
    """(bytes up to the first missing one, reason in words why it is missing). Raises MissingMemory."""
    from luoser.errors import MissingMemory

    data, step = bytearray(), memory.page_size or 4096
    while len(data) < size:
        place = address + len(data)
        count = min(size - len(data), step - place % step)
        try:
            data += memory.read(place, count)
        except MissingMemory as error:
            if not data:
                raise
            return bytes(data), str(error)
    return bytes(data), ""


def layout_of(data: bytes, name: str | None, of_node: str | None) -> tuple[Layout | None, str]:
    """(layout or None, how it was determined, in words).

    name:    given by the user. None: not given.
    of_node: name of the layout of the node. None: not known.

    Raises UsageError for an unknown layout.
    """
    from luoser.abi.registry import layout, unknown_layout
    from luoser.reader.blob import candidates, tree_layout

    if name == "none":
        return None, "given with --as"
    if name is not None:
        chosen = layout(name)
        if chosen is None:
            raise unknown_layout(name)
        return chosen, "given with --as"
    tree = tree_layout(data)
    if tree is not None:
        return layout(tree[0]), tree[1]
    if of_node is not None and layout(of_node) is not None:
        return layout(of_node), "layout of the node in the state"
    found = candidates(data) if any(data) else []
    if not found:
        return None, "unknown layout; give one with --as"
    others = f", also fits {', '.join(other for other, _ in found[1:])}" if len(found) > 1 else ""
    return layout(found[0][0]), f"by shape: {found[0][1]}{others}"
