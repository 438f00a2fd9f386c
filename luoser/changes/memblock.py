# SPDX-License-Identifier: MIT
"""Changes in the sub-tree memblock."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change
from luoser.changes.sides import UNREAD, Sides, member_changes, one_sided, paired, path_part, text_of
from luoser.text import counted

__all__ = ["memblock_changes"]

_CODES = UNREAD | {"bad-memblock", "no-fdt", "bad-fdt"}


def memblock_changes(sides: Sides) -> Iterator[Change]:
    """Changes of the reserve_mem regions by name, or the whole sub-tree. sides: the handover."""
    before, after = sides.before.memblock, sides.after.memblock
    if before is not None and after is not None:
        for name, old, new in paired(before.reservations, after.reservations, lambda entry: entry.name):
            where = f"memblock/{path_part(name)}"
            if old is None or new is None:
                yield one_sided(where, old, new, lambda entry: text_of(entry.start))
            else:
                yield from member_changes(where, old, new, ("start", "size"))
    elif before is not None:
        signs = sides.about_subtree("memblock", "memblock", _CODES)
        yield sides.gone("memblock", counted(len(before.reservations), "region"), "consumed", signs, subtree="memblock")
    elif after is not None:
        yield sides.come("memblock", counted(len(after.reservations), "region"), "memblock", subtree="memblock")
