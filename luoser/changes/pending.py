# SPDX-License-Identifier: MIT
"""Changes in what the running kernel will hand over, and what its serialisation lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from luoser.changes.memfd import folio_changes
from luoser.changes.model import Change, Kind
from luoser.changes.pci import device_changes
from luoser.changes.sides import Sides, paired, path_part
from luoser.state import Direction, Folios, Handover, Luo, Pending
from luoser.text import counted

__all__ = ["pending_changes"]


@dataclass(frozen=True, slots=True)
class _File:
    """What pending and serialised files have in common; None where one side does not say."""

    compatible: str
    data: int
    size: int | None
    position: int | None
    folios: Folios | None


_VALUES = ("compatible", "data", "size", "position")
_Sessions = dict[str, dict[int, _File]]
"""Files by token, of sessions by name."""


def pending_changes(sides: Sides) -> Iterator[Change]:
    """Changes in what is pending; from pending to serialised what got lost on the way. sides: the handover."""
    before, after = sides.before, sides.after
    if before.pending is None:
        if after.pending is not None:
            yield from _unknown(sides)
        return
    old = _pending(before.pending)
    if not _is_serialised(before) and after.luo is not None and after.luo.serialized:
        yield from _changes(old, _serialised(after.luo), Kind.REMOVED, whole=before.pending.complete)
        flbs = {flb.name: (flb.count, flb.data) for flb in after.luo.flbs}
        used = {name: flb for name, flb in _counted(before.pending).items() if flb[0]}
        yield from _flbs(used, flbs, Kind.REMOVED, whole=before.pending.complete)
    elif after.pending is not None:
        kind = Kind.PROGRESS if after.direction is Direction.INCOMING else Kind.REMOVED
        whole = before.pending.complete and after.pending.complete
        if not any(_is_unopened(side) for side in (before, after)):
            yield from _changes(old, _pending(after.pending), kind, whole=whole)  # else it may not be opened yet
        yield from _flbs(_counted(before.pending), _counted(after.pending), kind, whole=whole)
        for _, was, now in paired(before.pending.lists, after.pending.lists, lambda entry: entry.via):
            if was is not None and now is not None:  # else its FLB tells
                found = (change.below("pending/devices") for change in device_changes(was.devices, now.devices))
                yield from (_of_kind(change, kind) for change in found)
    else:
        yield from _unknown(sides)


def _unknown(sides: Sides) -> Iterator[Change]:
    """That what is pending is known on one side only. It is all that there is to compare before serialisation."""
    if not sides.consumed and not any(map(_is_serialised, (sides.before, sides.after))):
        lacking = "after" if sides.after.pending is None else "before"
        note = f"the running kernel's own lists are not known {lacking}: its symbols or types are not in the source"
        yield Change(kind=Kind.UNREAD, where="pending", note=note)


def _is_unopened(handover: Handover) -> bool:
    """Whether an incoming list is empty: all finished, or not made yet. Kernels make it at the first open."""
    is_empty = handover.pending is not None and not handover.pending.sessions
    return handover.direction is Direction.INCOMING and is_empty


def _is_serialised(handover: Handover) -> bool:
    return handover.luo is not None and handover.luo.serialized


def _pending(pending: Pending) -> _Sessions:
    return {
        session.name: {
            file.token: _File(
                file.compatible,
                file.data,
                file.size,
                file.position,
                file.memfd.folios if file.memfd is not None else None,
            )
            for file in session.files
        }
        for session in pending.sessions
    }


def _serialised(luo: Luo) -> _Sessions:
    return {
        session.name: {
            file.token: _File(
                file.compatible,
                file.data,
                file.memfd.size if file.memfd is not None else None,
                file.memfd.position if file.memfd is not None else None,
                file.memfd.folios if file.memfd is not None else None,
            )
            for file in session.files
        }
        for session in luo.sessions
    }


def _changes(old: _Sessions, new: _Sessions, gone: Kind, *, whole: bool) -> Iterator[Change]:
    """gone: kind of what is not there any more; what comes is of the same kind if that is progress.

    whole: both sides were read to the end. Else what is missing on one side is not compared.
    """
    left, come = (gone, Kind.PROGRESS if gone is Kind.PROGRESS else Kind.ADDED) if whole else (Kind.UNREAD, Kind.UNREAD)
    for name in dict.fromkeys((*old, *new)):
        where = f"pending/sessions/{path_part(name)}"
        if name not in new:
            yield _lone(left, where, before=counted(len(old[name]), "file"))
        elif name not in old:
            yield _lone(come, where, after=counted(len(new[name]), "file"))
        else:
            yield from _files(where, old[name], new[name], left, come)


def _files(where: str, old: dict[int, _File], new: dict[int, _File], left: Kind, come: Kind) -> Iterator[Change]:
    for token in dict.fromkeys((*old, *new)):
        place = f"{where}/{token:#x}"
        was, now = old.get(token), new.get(token)
        if was is None or now is None:
            kind = left if now is None else come
            names = tuple(side.compatible if side is not None else None for side in (was, now))
            yield _lone(kind, place, before=names[0], after=names[1])
            continue
        for member in _VALUES:
            first, second = getattr(was, member), getattr(now, member)
            if None not in (first, second) and first != second:
                yield Change(kind=_kind(left), where=f"{place}/{member}", before=_text(first), after=_text(second))
        if was.folios is not None and now.folios is not None:
            found = folio_changes(place, was.folios, now.folios, is_whole=left is not Kind.UNREAD)
            yield from (_of_kind(change, left) for change in found)


def _lone(kind: Kind, where: str, *, before: str | None = None, after: str | None = None) -> Change:
    """The change for something on one side only."""
    note = "not all of the running kernel's own lists could be read" if kind is Kind.UNREAD else ""
    return Change(kind=kind, where=where, before=before, after=after, note=note)


def _of_kind(change: Change, left: Kind) -> Change:
    """A change, which is progress if all is that is gone."""
    return replace(change, kind=Kind.PROGRESS) if left is Kind.PROGRESS else change


def _kind(left: Kind) -> Kind:
    return Kind.PROGRESS if left is Kind.PROGRESS else Kind.CHANGED


_Flbs = dict[str, tuple[int, int]]
"""(count, data) of FLBs by name."""


def _counted(pending: Pending) -> _Flbs:
    return {flb.name: (flb.count, flb.data) for flb in pending.flbs}


def _flbs(old: _Flbs, new: _Flbs, gone: Kind, *, whole: bool) -> Iterator[Change]:
    """gone, whole: as of `_changes`."""
    for name, (count, data) in old.items():
        where, was = f"pending/flbs/{path_part(name)}", f"{counted(count, 'file')}, data {data:#x}"
        if name not in new:
            yield _lone(gone if whole else Kind.UNREAD, where, before=was)
        elif new[name] != (count, data):
            yield Change(
                kind=_kind(gone), where=where, before=was, after=f"{new[name][0]} files, data {new[name][1]:#x}"
            )


def _text(value: int | str) -> str:
    return f"{value:#x}" if isinstance(value, int) else value
