# SPDX-License-Identifier: MIT
"""One handover before and after, and functions for all subjects to compare it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

from luoser.abi.release import kept_subtrees
from luoser.changes.model import Change, Kind
from luoser.state import Handover, Problem
from luoser.text import counted, safe_text

__all__ = [
    "NOT_THERE",
    "UNREAD",
    "Matches",
    "Sides",
    "mapping_changes",
    "member_changes",
    "one_sided",
    "paired",
    "path_part",
    "text_of",
    "tuple_changes",
]

_T = TypeVar("_T")
NOT_THERE = frozenset({"excluded", "page-damaged", "missing"})
"""Codes of problems: a page is not in the source, or cannot be unpacked."""
UNREAD = NOT_THERE | frozenset({"shared-page", "bad-pointer", "loop", "bad-count", "too-many", "short-list"})
"""Codes of problems: something could not be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Sides:
    """One handover on both sides.

    before:    first.
    after:     later.
    met:       problems below its root after.
    page_size: bytes.
    was:       problems below its root before.
    """

    before: Handover
    after: Handover
    met: tuple[Problem, ...]
    page_size: int = 4096
    was: tuple[Problem, ...] = ()
    _about: dict[str, list[Problem]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for problem in self.met:
            self._about.setdefault(problem.about, []).append(problem)

    @property
    def consumed(self) -> bool:
        """Whether the next kernel has taken it over."""
        return self.after.is_consumed

    def about(self, path: str, codes: Collection[str]) -> list[Problem]:
        """Problems of one thing after.

        path:  of the thing, relative to the root.
        codes: to select.
        """
        return [problem for problem in self._about.get(path, ()) if problem.code in codes]

    def is_unread(self, before: str, after: str) -> bool:
        """Whether pages of a thing are not in one of the sources, or cannot be unpacked.

        before: path of the thing before, relative to the root.
        after:  the same after.
        """
        sides = ((self.was, before), (self.met, after))
        return any(one.about == path and one.code in NOT_THERE for problems, path in sides for one in problems)

    def about_subtree(self, name: str, path: str, codes: Collection[str]) -> list[Problem]:
        """Problems of a sub-tree after, and of what is read from it.

        name:  of the sub-tree.
        path:  of what is read from it, relative to the root.
        codes: to select.
        """
        paths = [f"subtrees[{index}]" for index, entry in enumerate(self.after.subtrees) if entry.name == name]
        return [problem for where in (path, *paths) for problem in self.about(where, codes)]

    def gone(self, where: str, before: str, why: str, signs: Collection[Problem], *, subtree: str = "") -> Change:
        """The change for something that is gone: consumed, if there are problems of it in a consumed handover, but for
        pages that are not there; not in the source, if its problems report that; else removed.

        where:   path of the change.
        before:  value as text.
        why:     what happened to it, as text, if it was consumed.
        signs:   problems of the thing after.
        subtree: name of the sub-tree that it is. Kernels do not free all of them, so those are never consumed.
        """
        is_kept = subtree in kept_subtrees(self.before.compatible)
        if self.consumed and signs and not is_kept and not any(problem.code in NOT_THERE for problem in signs):
            return Change(kind=Kind.PROGRESS, where=where, before=before, after=why)
        lost = next((problem for problem in signs if problem.code in NOT_THERE), None)
        if lost is not None:
            return Change(kind=Kind.UNREAD, where=where, before=before, note=lost.message)
        return Change(kind=Kind.REMOVED, where=where, before=before)

    def come(self, where: str, after: str | None, *paths: str, subtree: str = "") -> Change:
        """The change for something that is only after: added, or not in the source before.

        where:   path of the change.
        after:   value as text.
        paths:   of what is not read if it was there before.
        subtree: name of the sub-tree that it is, or is read from.
        """
        trees = enumerate(self.before.subtrees)
        named = {*paths, *(f"subtrees[{index}]" for index, entry in trees if subtree and entry.name == subtree)}
        lost = next((one for one in self.was if one.code in NOT_THERE and one.about in named), None)
        if lost is not None:
            return Change(kind=Kind.UNREAD, where=where, after=after, note=lost.message)
        return Change(kind=Kind.ADDED, where=where, after=after)


def member_changes(where: str, before: Any, after: Any, names: Sequence[str]) -> Iterator[Change]:
    """Changes of the members of two objects.

    where:  path of the objects. Empty: the top.
    before: first object.
    after:  second object.
    names:  of the members to compare.
    """
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            path = f"{where}/{name}" if where else name
            yield Change(kind=Kind.CHANGED, where=path, before=text_of(old), after=text_of(new))


def mapping_changes(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Changes of the values of two mappings, recursively.

    where: path of the mappings.
    old:   first mapping.
    new:   second mapping.
    """
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from mapping_changes(f"{where}/{name}", was, now)
        elif was != now:
            yield Change(kind=Kind.CHANGED, where=f"{where}/{name}", before=text_of(was), after=text_of(now))


def tuple_changes(where: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Change]:
    """One change if two sequences differ: their first different entries.

    where: path of the sequences.
    old:   first.
    new:   second.
    """
    if tuple(old) == tuple(new):
        return
    index = next((place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    place = min(len(old), len(new)) if index is None else index
    texts = [text_of(entries[place]) if place < len(entries) else "none" for entries in (old, new)]
    note = f"{counted(len(old), 'item')} before, {len(new)} after"
    yield Change(kind=Kind.CHANGED, where=f"{where}[{place}]", before=texts[0], after=texts[1], note=note)


def text_of(value: Any) -> str | None:
    """A value as the text in a change: numbers in hex, also those of a tuple. None: no value."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return ", ".join(filter(None, map(text_of, value))) or "none"
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else safe_text(str(value))


def path_part(name: str) -> str:
    """A name from a dump as one part of a path: safe to print, and without `/`. name: as decoded."""
    return safe_text(name).replace("/", "\\x2f")


def one_sided(where: str, old: _T | None, new: _T | None, text: Callable[[_T], str | None]) -> Change:
    """The change for something on one side only.

    where: path of the change.
    old:   before. None: not there.
    new:   after. None: not there, if `old` is.
    text:  makes the text of a value.
    """
    if old is not None:
        return Change(kind=Kind.REMOVED, where=where, before=text(old))
    assert new is not None
    return Change(kind=Kind.ADDED, where=where, after=text(new))


def paired(
    before: Sequence[_T], after: Sequence[_T], key: Callable[[_T], Any]
) -> Iterator[tuple[Any, _T | None, _T | None]]:
    """(key, item before, item after) for all keys. None: not there. Items with the same key are paired in order.

    before: first items.
    after:  second items.
    key:    of an item.
    """
    was, now = _keyed(before, key), _keyed(after, key)
    for name in dict.fromkeys((*was, *now)):
        yield name[0], was.get(name), now.get(name)


class Matches(Generic[_T]):
    """Items of which each is taken once: the first one that has a key of another item."""

    def __init__(self, items: Iterable[_T], keys: Callable[[_T], Iterable[Hashable]]) -> None:
        """keys: of an item."""
        self._items: dict[int, _T] = dict(enumerate(items))
        self._keys = keys
        self._places: dict[Hashable, deque[int]] = {}
        for place, item in self._items.items():
            for key in keys(item):
                self._places.setdefault(key, deque()).append(place)

    def take(self, other: _T) -> _T | None:
        """The first item left that has a key of another item. None: there is none."""
        found = list[int]()
        for places in filter(None, map(self._places.get, self._keys(other))):
            while places and places[0] not in self._items:
                places.popleft()
            found += islice(places, 1)
        return self._items.pop(min(found)) if found else None

    def left(self) -> Iterable[_T]:
        """The items that were not taken, in their order."""
        return self._items.values()


def _keyed(items: Sequence[_T], key: Callable[[_T], Any]) -> dict[tuple[Any, int], _T]:
    made: dict[tuple[Any, int], _T] = {}
    met: dict[Any, int] = {}
    for item in items:
        name = key(item)
        number = met[name] = met.get(name, -1) + 1
        made[name, number] = item
    return made
