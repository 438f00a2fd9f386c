# SPDX-License-Identifier: MIT
"""Changes in the preserved map: its status, and its blocks by address and order."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change, Kind
from luoser.changes.sides import Sides, member_changes
from luoser.state import Extent, MapStatus, PreservedMap
from luoser.text import human_size

__all__ = ["extent_changes", "map_changes"]

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


def extent_changes(before: PreservedMap, after: PreservedMap) -> Iterator[Change]:
    """Runs of blocks that are in only one of two maps. If the other map is incomplete, they are left out.

    before: first map.
    after:  second map.
    """
    if before == after:
        return
    old, new = _by_order(before), _by_order(after)
    for order in sorted(old.keys() | new.keys()):
        size = before.page_size << order
        for start, end in _minus(old.get(order, []), new.get(order, [])) if after.complete else ():
            yield Change(kind=Kind.REMOVED, where=f"preserved/{start:#x}", before=_text(start, end, order, size))
        for start, end in _minus(new.get(order, []), old.get(order, [])) if before.complete else ():
            yield Change(kind=Kind.ADDED, where=f"preserved/{start:#x}", after=_text(start, end, order, size))


def _text(start: int, end: int, order: int, size: int) -> str:
    return f"{(end - start) // size} x order {order}, {human_size(end - start)}"


def _by_order(found: PreservedMap) -> dict[int, list[tuple[int, int]]]:
    made: dict[int, list[tuple[int, int]]] = {}
    extent: Extent
    for extent in found.extents():
        address, order, count = extent
        made.setdefault(order, []).append((address, address + count * (found.page_size << order)))
    return made


def _minus(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The parts of sorted ranges that are not covered by other sorted ranges."""
    place = 0
    for start, end in one:
        while place < len(other) and other[place][1] <= start:
            place += 1
        at, low = place, start
        while at < len(other) and other[at][0] < end:
            if low < other[at][0]:
                yield low, other[at][0]
            low = max(low, other[at][1])
            at += 1
        if low < end:
            yield low, end
