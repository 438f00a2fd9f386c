# SPDX-License-Identifier: MIT
"""Foreign roots: roots of guests in the memory of a host, and copies in file data."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.errors import MissingMemory, PageState
from luoser.fdt import MAGIC
from luoser.reader.direction import Draft
from luoser.reader.walk import Walk

__all__ = ["mark_foreign"]

_KINDS = {"LUO": (b"luo-v", MAGIC), "memblock": (MAGIC,), "kho_test": (MAGIC,)}
"""Possible first bytes of the page of a sub-tree, by its name."""
_LEFT_OUT = (PageState.EXCLUDED, PageState.DAMAGED)


def mark_foreign(walk: Walk, drafts: Sequence[Draft]) -> None:
    """Mark the foreign roots.

    walk:   the source.
    drafts: all its roots.

    A root is foreign if its map and all its sub-trees are not at their addresses, no setup_data node, /chosen or symbol
    points to it, and another root is not foreign. So a lone root is never foreign, nor is one that is damaged so that
    these addresses are not known, nor one with a page that the source leaves out. Source: docs/deciding.md.
    """
    strangers = [draft for draft in drafts if _is_stranger(walk, draft)]
    if len(strangers) < len(drafts):
        for draft in strangers:
            draft.is_foreign = True


def _is_stranger(walk: Walk, draft: Draft) -> bool:
    root, reading = draft.root, draft.reading
    if root.verdict is not None or root.chosen or draft.messengers or root.address in walk.directions:
        return False
    addresses = [subtree.address for subtree in draft.subtrees] + ([reading.address] if reading is not None else [])
    if root.tree.fault or not any(addresses):
        return False
    if any(walk.memory.page_state(address) in _LEFT_OUT for address in addresses if address):
        return False
    if (
        reading is not None
        and reading.address
        and reading.missing is None
        and not reading.is_no_map
        and reading.bitmaps
    ):
        return False
    if draft.luo or draft.memblock or draft.metadata or draft.test:
        return False
    return not any(_starts_with(walk, subtree.address, _KINDS.get(subtree.name, ())) for subtree in draft.subtrees)


def _starts_with(walk: Walk, address: int | None, kinds: tuple[bytes, ...]) -> bool:
    try:
        return address is not None and walk.memory.read(address, 8).startswith(kinds)
    except MissingMemory:
        return False
