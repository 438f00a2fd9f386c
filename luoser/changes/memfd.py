# SPDX-License-Identifier: MIT
"""Changes in a preserved memfd: its descriptor and folios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luoser.changes.model import Change, Kind
from luoser.changes.rows import common_runs, outside, unequal_rows
from luoser.changes.sides import member_changes, one_sided, paired, text_of
from luoser.state import Folios, Memfd

__all__ = ["folio_changes", "memfd_changes"]


_FOLIOS = ("count", "address", "total_pages", "flags", "order")
"""Members of the descriptor that are about the array."""


def memfd_changes(where: str, old: Memfd, new: Memfd, *, is_whole: bool = True) -> Iterator[Change]:
    """Changes of members, and of folios by index.

    where:    path of the memfd.
    old:      before.
    new:      after.
    is_whole: whether all pages of the two lists of folios were read. Else those on one side only are left out.
    """
    yield from member_changes(where, old, new, ("layout", "size", "position", "seals", "flags"))
    yield from folio_changes(where, old.folios, new.folios, is_whole=is_whole)


def folio_changes(where: str, old: Folios, new: Folios, *, is_whole: bool = True) -> Iterator[Change]:
    """Changes of the array, and of folios by index.

    where:    path of the memfd.
    old:      before.
    new:      after.
    is_whole: as of `memfd_changes`.
    """
    yield from member_changes(f"{where}/folios", old, new, _FOLIOS)
    was, now = old.list, new.list
    if len(was) == len(now) and was.frame_shift == now.frame_shift:
        rows: Sequence[int] = list(unequal_rows(was.data, now.data, 16))
        pairs = [(was[row], now[row]) for row in rows]
        for one, other in pairs:
            if one.index != other.index:
                yield Change(
                    kind=Kind.CHANGED, where=f"{where}/folios/{one.index}", before=f"index {one.index}",
                    after=f"index {other.index}",
                )  # fmt: skip
            yield from member_changes(f"{where}/folios/{one.index}", one, other, ("address", "flags"))
        return
    runs = list(common_runs(was.data, now.data, 16)) if was.frame_shift == now.frame_shift else []
    olds = [was[row] for rows in outside((run[::2] for run in runs), len(was)) for row in rows]
    news = [now[row] for rows in outside((run[1:] for run in runs), len(now)) for row in rows]
    for index, one_, other_ in paired(olds, news, lambda folio: folio.index):
        path = f"{where}/folios/{index}"
        if (one_ is None or other_ is None) and is_whole:
            yield one_sided(path, one_, other_, lambda folio: text_of(folio.address))
        elif one_ is not None and other_ is not None:
            yield from member_changes(path, one_, other_, ("address", "flags"))
