# SPDX-License-Identifier: MIT
"""Changes in the preserved map: its status, and its blocks by address and order."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge

from luoser.changes.model import Change, Kind
from luoser.changes.sides import Sides, member_changes
from luoser.state import MapStatus, Preserved, PreservedMap
from luoser.text import human_size

__all__ = ["extent_changes", "map_changes", "page_tree_changes"]

_NOT_SEEN = {MapStatus.MISSING, MapStatus.UNREAD}


def map_changes(sides: Sides) -> Iterator[Change]:
    """Changes of the map's status, and of its blocks if both sides have a map. sides: the handover."""
    before, after = sides.before.preserved, sides.after.preserved
    if before.status is not after.status and not {before.status, after.status} & _NOT_SEEN:
        is_freed = sides.consumed and after.status in (MapStatus.STALE, MapStatus.DAMAGED)
        is_progress = is_freed or before.status is MapStatus.ABSENT
        yield Change(
            kind=Kind.PROGRESS if is_progress else Kind.CHANGED,
            where="preserved/status",
            before=before.status.value,
            after=after.status.value,
            note="the next kernel freed the map after reading it" if is_freed else "",
        )
    is_final = sides.before.luo is not None and sides.before.luo.serialized
    # each finalisation makes a new one, the last of them before the jump
    is_rebuilt = before.form == "chunks" and not sides.before.is_consumed and not (sides.consumed and is_final)
    if MapStatus.ABSENT not in (before.status, after.status) and not is_rebuilt:
        yield from member_changes("preserved", before, after, ("address",))
    if before.map is not None and after.map is not None:
        yield from member_changes("preserved", before, after, ("form", "bitmap_size"))
        yield from extent_changes(before.map, after.map)


def page_tree_changes(where: str, before: Preserved | None, after: Preserved | None) -> Iterator[Change]:
    """Changes of the tree of pages of a sub-tree, if both sides have one that was read.

    where:  path of the tree.
    before: None: it has none, or it cannot be read.
    after:  the same.
    """
    if before is None or after is None or before.map is None or after.map is None:
        return
    yield from member_changes(where, before, after, ("form", "status", "address"))
    yield from extent_changes(before.map, after.map, where)


def extent_changes(before: PreservedMap, after: PreservedMap, where: str = "preserved") -> Iterator[Change]:
    """Runs of blocks that are in only one of two maps, by order. If the other map is incomplete, they are left out.

    before: first map.
    after:  second map.
    where:  path of the map.
    """
    if before == after:
        return
    removed = ((extent, Kind.REMOVED) for extent in (before.without(after).extents() if after.complete else ()))
    added = ((extent, Kind.ADDED) for extent in (after.without(before).extents() if before.complete else ()))
    for (address, order, count), kind in merge(removed, added, key=lambda one: one[0][1]):
        text = f"{count} x order {order}, {human_size(count * (before.page_size << order))}"
        old, new = (text, None) if kind is Kind.REMOVED else (None, text)
        yield Change(kind=kind, where=f"{where}/{address:#x}", before=old, after=new)
