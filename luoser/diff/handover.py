# SPDX-License-Identifier: MIT
"""Two readings of one handover: what arrived, what was lost, what changed, what was consumed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from luoser.diff.devices import device_changes
from luoser.diff.extents import extent_changes
from luoser.diff.model import Change, Kind
from luoser.diff.rows import unequal_rows
from luoser.state import Direction, File, Handover, Luo, MapStatus, Memfd, PciList, Record, Session, State
from luoser.text import safe_text

__all__ = ["handover_changes"]

_T = TypeVar("_T")
_UNREAD = frozenset({"missing", "excluded", "shared-page", "bad-pointer", "loop", "bad-count"})
"""Problems that say that something could not be read, whatever it was."""
_LUO = frozenset({"luo-reused", "no-fdt", "bad-fdt", "missing", "excluded"})
_SESSIONS = _UNREAD | {"bad-session", "empty-session", "unnamed-session"}
_FILES = _UNREAD | {"bad-file", "file-count"}
_HANDLES = _UNREAD | {"bad-memfd", "zero-memfd", "bad-handler-data", "no-fdt", "bad-fdt"}
_FLBS = frozenset({"bad-flb", "missing", "excluded"})
_LISTS = _UNREAD | {"pci-unknown-layout"}
_USERS = frozenset({"bad-memblock", "bad-metadata", "bad-kho-test", "no-fdt", "bad-fdt", "missing", "excluded"})


@dataclass(frozen=True, slots=True)
class _Sides:
    """before, after: the same handover. consumed: whether the next kernel has taken it over in between.

    unread: codes of the problems that were met when reading it after.
    """

    before: Handover
    after: Handover
    consumed: bool
    unread: frozenset[str]

    def gone(self, where: str, before: str, why: str, signs: frozenset[str]) -> Change:
        """Something that is not there any more: consumed, where its place shows one of the signs, else lost."""
        if self.consumed and not self.unread.isdisjoint(signs):
            return Change(kind=Kind.PROGRESS, where=where, before=before, after=why)
        return Change(kind=Kind.REMOVED, where=where, before=before)


def handover_changes(before: Handover, after: Handover, states: tuple[State, State]) -> Iterator[Change]:
    """All that differs. states: what the handovers are part of, for the problems met on the way."""
    consumed = after.direction is Direction.INCOMING and before.direction is not Direction.INCOMING
    consumed = consumed or (after.preserved.status is MapStatus.STALE and after.direction is not Direction.OUTGOING)
    unread = frozenset(problem.code for problem in states[1].problems if problem.root == after.address)
    sides = _Sides(before, after, consumed, unread)
    yield from _plain("", before, after, ("address", "compatible"))
    if before.direction is not after.direction:
        kind = Kind.PROGRESS if consumed else Kind.CHANGED
        yield Change(kind=kind, where="direction", before=before.direction.value, after=after.direction.value)
    if before.scratch is not None and after.scratch is not None and before.scratch != after.scratch:
        yield Change(kind=Kind.CHANGED, where="scratch", before=_areas(before), after=_areas(after))
    yield from _maps(sides)
    yield from _subtrees(sides)
    yield from _luo(sides)
    yield from _pci(sides)
    yield from _users(sides)


def _areas(handover: Handover) -> str:
    return ", ".join(f"{area.address:#x} {area.size:#x}" for area in handover.scratch or ())


def _plain(where: str, before: Any, after: Any, names: Sequence[str]) -> Iterator[Change]:
    """Members of two values that are not the same."""
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            path = f"{where}/{name}" if where else name
            yield Change(kind=Kind.CHANGED, where=path, before=_text(old), after=_text(new))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else safe_text(str(value))


# -- the map and the sub-trees ----------------------------------------------------------------------------


def _maps(sides: _Sides) -> Iterator[Change]:
    before, after = sides.before.preserved, sides.after.preserved
    if before.map is not None and after.map is not None:
        yield from _plain("preserved", before, after, ("form", "bitmap_size"))
        yield from extent_changes(before.map, after.map)
    elif before.status is not after.status and MapStatus.MISSING not in (before.status, after.status):
        is_progress = (after.status is MapStatus.STALE and sides.consumed) or before.status is MapStatus.ABSENT
        yield Change(
            kind=Kind.PROGRESS if is_progress else Kind.CHANGED,
            where="preserved/status",
            before=before.status.value,
            after=after.status.value,
            note="the next kernel freed the map once it had read it"
            if after.status is MapStatus.STALE and sides.consumed
            else "",
        )


def _subtrees(sides: _Sides) -> Iterator[Change]:
    for name, old, new in _paired(sides.before.subtrees, sides.after.subtrees, lambda subtree: subtree.name):
        where = f"subtrees/{safe_text(name)}"
        if new is None or old is None:
            yield _one_sided(where, old, new, lambda subtree: _text(subtree.address))
        else:
            yield from _plain(where, old, new, ("address", "size"))


def _paired(
    before: Sequence[_T], after: Sequence[_T], key: Callable[[_T], Any]
) -> Iterator[tuple[Any, _T | None, _T | None]]:
    """(key, before, after) of items by key; those with a key twice keep their order."""
    was, now = _keyed(before, key), _keyed(after, key)
    for name in dict.fromkeys((*was, *now)):
        yield name[0], was.get(name), now.get(name)


def _keyed(items: Sequence[_T], key: Callable[[_T], Any]) -> dict[tuple[Any, int], _T]:
    made: dict[tuple[Any, int], _T] = {}
    for item in items:
        number = 0
        while (key(item), number) in made:
            number += 1
        made[key(item), number] = item
    return made


def _one_sided(where: str, old: _T | None, new: _T | None, text: Callable[[_T], str | None]) -> Change:
    if old is not None:
        return Change(kind=Kind.REMOVED, where=where, before=text(old))
    assert new is not None
    return Change(kind=Kind.ADDED, where=where, after=text(new))


# -- LUO --------------------------------------------------------------------------------------------------


def _luo(sides: _Sides) -> Iterator[Change]:
    before, after = sides.before.luo, sides.after.luo
    if before is None and after is None:
        return
    if after is None:
        assert before is not None
        yield sides.gone("luo", _text(before.address) or "", "consumed, its page was reused", _LUO)
        return
    if before is None:
        yield Change(kind=Kind.ADDED, where="luo", after=_text(after.address))
        return
    yield from _plain("luo", before, after, ("layout", "compatible", "address", "number"))
    if not before.serialized and after.serialized:
        yield Change(kind=Kind.PROGRESS, where="luo/serialized", before="not yet", after="serialised")
        return
    if before.serialized and not after.serialized:
        yield sides.gone("luo/serialized", "serialised", "no session or FLB can be read", _SESSIONS | _FLBS)
        return
    yield from _sessions(sides, before, after)
    for name, old, new in _paired(before.flbs, after.flbs, lambda flb: flb.name):
        where = f"luo/flbs/{safe_text(name)}"
        if old is not None and new is None:
            yield sides.gone(where, _text(old.data) or "", "consumed", _FLBS)
        elif old is None and new is not None:
            yield _added(where, _text(new.data))
        elif old is not None and new is not None:
            yield from _plain(where, old, new, ("data", "count"))
            yield from _records(sides, where, old.detail, new.detail)
    for name, was, now in _paired(before.subsystems, after.subsystems, lambda entry: entry.name):
        where = f"luo/subsystems/{safe_text(name)}"
        if was is None or now is None:
            yield _one_sided(where, was, now, lambda entry: _text(entry.data))
        else:
            yield from _plain(where, was, now, ("data",))


def _added(where: str, after: str | None) -> Change:
    return Change(kind=Kind.ADDED, where=where, after=after)


def _sessions(sides: _Sides, before: Luo, after: Luo) -> Iterator[Change]:
    left: list[Session] = []
    new_ones: list[Session] = []
    for _, old, new in _paired(before.sessions, after.sessions, lambda session: session.name):
        if old is not None and new is not None:
            yield from _session(sides, old, new)
        elif old is not None:
            left.append(old)
        elif new is not None:
            new_ones.append(new)
    for old in left:
        where = f"luo/sessions/{safe_text(old.name)}"
        same = next((new for new in new_ones if _is_renamed(old, new)), None)
        if same is not None:
            new_ones.remove(same)
            yield Change(
                kind=Kind.CHANGED, where=f"{where}/name", before=safe_text(old.name), after=safe_text(same.name)
            )
            yield from _session(sides, old, same)
        else:
            yield sides.gone(where, f"{len(old.files)} files", "finished, or its page was reused", _SESSIONS)
    for new in new_ones:
        yield _added(f"luo/sessions/{safe_text(new.name)}", f"{len(new.files)} files")


def _is_renamed(old: Session, new: Session) -> bool:
    """Another name on the same entry, or on the same files."""
    files = [(file.token, file.data) for file in old.files]
    return old.address == new.address or (bool(files) and files == [(file.token, file.data) for file in new.files])


def _session(sides: _Sides, old: Session, new: Session) -> Iterator[Change]:
    where = f"luo/sessions/{safe_text(old.name)}"
    yield from _plain(where, old, new, ("address",))
    left: list[File] = []
    new_ones: list[File] = []
    for _, was, now in _paired(old.files, new.files, lambda file: file.token):
        if was is not None and now is not None:
            yield from _file(sides, f"{where}/files/{was.token:#x}", was, now)
        elif was is not None:
            left.append(was)
        elif now is not None:
            new_ones.append(now)
    for was in left:
        path = f"{where}/files/{was.token:#x}"
        same = next((now for now in new_ones if (now.compatible, now.data) == (was.compatible, was.data)), None)
        if same is not None:
            new_ones.remove(same)
            yield Change(kind=Kind.CHANGED, where=f"{path}/token", before=_text(was.token), after=_text(same.token))
            yield from _file(sides, path, was, same)
        else:
            yield sides.gone(path, safe_text(was.compatible), "finished, or its page was reused", _FILES)
    for now in new_ones:
        yield _added(f"{where}/files/{now.token:#x}", safe_text(now.compatible))


def _file(sides: _Sides, where: str, old: File, new: File) -> Iterator[Change]:
    yield from _plain(where, old, new, ("compatible", "data"))
    if old.memfd is not None and new.memfd is not None:
        yield from _memfd(where, old.memfd, new.memfd)
    elif old.memfd is not None:
        yield sides.gone(f"{where}/memfd", f"{old.memfd.size:#x} bytes", "restored, its descriptor was freed", _HANDLES)
    elif new.memfd is not None:
        yield _added(f"{where}/memfd", f"{new.memfd.size:#x} bytes")
    yield from _records(sides, where, old.detail, new.detail)


def _memfd(where: str, old: Memfd, new: Memfd) -> Iterator[Change]:
    yield from _plain(where, old, new, ("layout", "size", "position", "seals", "flags"))
    was, now = old.folios.list, new.folios.list
    if len(was) == len(now) and was.frame_shift == now.frame_shift:
        rows: Sequence[int] = list(unequal_rows(was.data, now.data, 16))
        pairs = [(was[row], now[row]) for row in rows]
        for one, other in pairs:
            if one.index != other.index:
                yield Change(
                    kind=Kind.CHANGED, where=f"{where}/folios/{one.index}", before=f"index {one.index}",
                    after=f"index {other.index}",
                )  # fmt: skip
            yield from _plain(f"{where}/folios/{one.index}", one, other, ("address", "flags"))
        return
    for index, one_, other_ in _paired(list(was), list(now), lambda folio: folio.index):
        path = f"{where}/folios/{index}"
        if one_ is None or other_ is None:
            yield _one_sided(path, one_, other_, lambda folio: _text(folio.address))
        else:
            yield from _plain(path, one_, other_, ("address", "flags"))


def _records(sides: _Sides, where: str, old: Record | None, new: Record | None) -> Iterator[Change]:
    if old is None and new is None:
        return
    if old is None or new is None:
        if new is None and old is not None:
            yield sides.gone(f"{where}/detail", old.readings[0][0], "consumed", _HANDLES)
        elif new is not None:
            yield _added(f"{where}/detail", new.readings[0][0])
        return
    was, now = dict(old.readings), dict(new.readings)
    name = next((layout for layout in was if layout in now), None)
    if name is None:
        yield Change(kind=Kind.CHANGED, where=f"{where}/detail/layout", before=", ".join(was), after=", ".join(now))
    else:
        yield from _mappings(f"{where}/detail", was[name], now[name])


def _mappings(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _mappings(f"{where}/{name}", was, now)
        elif was != now:
            yield Change(kind=Kind.CHANGED, where=f"{where}/{name}", before=_text(was), after=_text(now))


# -- device lists -----------------------------------------------------------------------------------------


def _pci(sides: _Sides) -> Iterator[Change]:
    left = list(sides.after.pci)
    for old in sides.before.pci:
        new = next((entry for entry in left if _is_same_list(old, entry)), None)
        if new is None:
            yield sides.gone(f"pci/{_way(old)}", f"{len(old.devices)} devices", "consumed", _LISTS | _LUO)
            continue
        left.remove(new)
        if old.layout != new.layout:
            yield Change(
                kind=Kind.CHANGED, where=f"pci/{_way(old)}/layout", before=old.layout, after=new.layout,
                note="members that only one of them has are not compared",
            )  # fmt: skip
        if old.address != new.address:
            yield Change(
                kind=Kind.CHANGED, where=f"pci/{_way(old)}/address", before=_text(old.address), after=_text(new.address)
            )
        changes = list(device_changes(old.devices, new.devices))
        yield from (change.below("pci") for change in changes)
        if old.layout == new.layout and all(change.kind is Kind.CHANGED for change in changes):
            # where devices came or went, the counts of the head follow
            for name in old.header.keys() & new.header.keys():
                if old.header[name] != new.header[name]:
                    where, first, then = f"pci/{_way(old)}/header/{name}", old.header[name], new.header[name]
                    yield Change(kind=Kind.CHANGED, where=where, before=_text(first), after=_text(then))
        for number, was, now in _paired(old.buses, new.buses, lambda bus: (bus.get("domain"), bus.get("number"))):
            where = f"pci/bus/{number[0] or 0:04x}:{number[1] or 0:02x}"
            if was is None or now is None:
                yield _one_sided(where, was, now, lambda bus: str(len(bus)))
            else:
                yield from _mappings(where, was, now)
    serialised = not _is_serialised(sides.before) and _is_serialised(sides.after)
    for new in left:
        is_late = serialised and all(way.startswith("flb:") for way in new.via)
        kind = Kind.PROGRESS if is_late else Kind.ADDED
        yield Change(kind=kind, where=f"pci/{_way(new)}", after=f"{len(new.devices)} devices")


def _is_serialised(handover: Handover) -> bool:
    return handover.luo is not None and handover.luo.serialized


def _is_same_list(old: PciList, new: PciList) -> bool:
    return bool(set(old.via) & set(new.via)) or old.address == new.address


def _way(entry: PciList) -> str:
    return safe_text(entry.via[0]) if entry.via else f"{entry.address:#x}"


# -- plain users of KHO -----------------------------------------------------------------------------------


def _users(sides: _Sides) -> Iterator[Change]:
    before, after = sides.before, sides.after
    if before.memblock is not None and after.memblock is not None:
        pairs = _paired(before.memblock.reservations, after.memblock.reservations, lambda entry: entry.name)
        for name, old, new in pairs:
            where = f"memblock/{safe_text(name)}"
            if old is None or new is None:
                yield _one_sided(where, old, new, lambda entry: _text(entry.start))
            else:
                yield from _plain(where, old, new, ("start", "size"))
    elif before.memblock is not None:
        yield sides.gone("memblock", f"{len(before.memblock.reservations)} areas", "consumed", _USERS)
    elif after.memblock is not None:
        yield _added("memblock", f"{len(after.memblock.reservations)} areas")
    for name in ("kexec_metadata", "kho_test"):
        old, new = getattr(before, name), getattr(after, name)
        members = ("version", "previous_release", "kexec_count") if name == "kexec_metadata" else ("magic", "checksum")
        if old is not None and new is not None:
            yield from _plain(name, old, new, members)
        elif old is not None:
            yield sides.gone(name, _text(old.address) or "", "consumed", _USERS)
        elif new is not None:
            yield _added(name, _text(new.address))
