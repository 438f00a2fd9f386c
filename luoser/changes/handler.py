# SPDX-License-Identifier: MIT
"""Changes in the structs of file handlers and FLBs other than memfd and PCI."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change, Kind
from luoser.changes.sides import UNREAD, Sides, mapping_changes, path_part, tuple_changes
from luoser.state import Record

__all__ = ["HANDLE_CODES", "record_changes"]

HANDLE_CODES = UNREAD | {"bad-memfd", "zero-memfd", "bad-handler-data", "no-fdt", "bad-fdt"}
"""Codes of problems: what was at a handle is gone."""


def record_changes(
    sides: Sides, where: str, place: str, place_before: str, old: Record | None, new: Record | None
) -> Iterator[Change]:
    """Changes in a struct.

    sides: the handover.
    where: path of the changes.
    place: path of its file or FLB after.
    place_before: the same before.
    old:   before. None: no struct.
    new:   after. None: no struct.
    """
    if old is None and new is None:
        return
    if old is None or new is None:
        if new is None and old is not None:
            yield sides.gone(f"{where}/detail", old.readings[0][0], "consumed", sides.about(place, HANDLE_CODES))
        elif new is not None:
            yield sides.come(f"{where}/detail", new.readings[0][0], place_before)
        return
    was, now = dict(old.readings), dict(new.readings)
    name = next((layout for layout in was if layout in now), None)
    if name is None:
        yield Change(kind=Kind.CHANGED, where=f"{where}/detail/layout", before=", ".join(was), after=", ".join(now))
    else:
        yield from mapping_changes(f"{where}/detail", was[name], now[name])
        arrays = [{array.member: array for array in record.arrays} for record in (old, new)]
        for member in arrays[0].keys() & arrays[1].keys():
            if not all(side[member].complete for side in arrays):
                continue  # that it could not be read is a problem of its source
            for part in ("chunks", "pages", "words"):
                lists = [getattr(side[member], part) for side in arrays]
                yield from tuple_changes(f"{where}/detail/{path_part(member)}/{part}", *lists)
