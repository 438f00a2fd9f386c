# SPDX-License-Identifier: MIT
"""The same handover before and after, and what all subjects share to compare it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from luoser.diff.model import Change, Kind
from luoser.state import Handover, Problem
from luoser.text import safe_text

__all__ = [
    "NOT_THERE",
    "UNREAD",
    "Sides",
    "added",
    "mapping_changes",
    "member_changes",
    "one_sided",
    "paired",
    "text_of",
]

_T = TypeVar("_T")
NOT_THERE = frozenset({"missing", "excluded", "page-damaged"})
"""Codes of problems that say that a page is not in the source, or cannot be unpacked."""
UNREAD = NOT_THERE | frozenset({"shared-page", "bad-pointer", "loop", "bad-count", "too-many", "short-list"})
"""Codes of problems that say that a thing could not be read, or not to its end."""


@dataclass(frozen=True, slots=True)
class Sides:
    """before, after: the same handover. consumed: whether the next kernel has taken it over in between.

    met: the problems that were met when reading it after. page_size: bytes.
    """

    before: Handover
    after: Handover
    consumed: bool
    met: tuple[Problem, ...]
    page_size: int = 4096

    def about(self, path: str, codes: Collection[str]) -> list[Problem]:
        """What was met when reading one thing after, by its path."""
        return [problem for problem in self.met if problem.about == path and problem.code in codes]

    def about_subtree(self, name: str, path: str, codes: Collection[str]) -> list[Problem]:
        """The same for the owner of a sub-tree: the problems about its own path and those about the sub-tree."""
        paths = [f"subtrees[{index}]" for index, entry in enumerate(self.after.subtrees) if entry.name == name]
        return [problem for where in (path, *paths) for problem in self.about(where, codes)]

    def gone(self, where: str, before: str, why: str, signs: Collection[Problem]) -> Change:
        """Something that is not there any more: consumed, where the problems met in its own place say so; not in the
        source, where they say that; else lost.

        where: path of the change. before: as text. why: of a thing that was consumed. signs: the problems.
        """
        if self.consumed and signs:
            return Change(kind=Kind.PROGRESS, where=where, before=before, after=why)
        lost = next((problem for problem in signs if problem.code in NOT_THERE), None)
        if lost is not None:
            return Change(kind=Kind.UNREAD, where=where, before=before, note=lost.message)
        return Change(kind=Kind.REMOVED, where=where, before=before)


def member_changes(where: str, before: Any, after: Any, names: Sequence[str]) -> Iterator[Change]:
    """Members of two values that are not the same."""
    for name in names:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            path = f"{where}/{name}" if where else name
            yield Change(kind=Kind.CHANGED, where=path, before=text_of(old), after=text_of(new))


def mapping_changes(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Items of two mappings that are not the same, nested ones by themselves."""
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from mapping_changes(f"{where}/{name}", was, now)
        elif was != now:
            yield Change(kind=Kind.CHANGED, where=f"{where}/{name}", before=text_of(was), after=text_of(now))


def text_of(value: Any) -> str | None:
    """A value as a change has it: numbers in hex, None for what is not there."""
    if value is None:
        return None
    return f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else safe_text(str(value))


def added(where: str, after: str | None) -> Change:
    """Something that only the later side has."""
    return Change(kind=Kind.ADDED, where=where, after=after)


def one_sided(where: str, old: _T | None, new: _T | None, text: Callable[[_T], str | None]) -> Change:
    """Something that only one side has; not both are None."""
    if old is not None:
        return Change(kind=Kind.REMOVED, where=where, before=text(old))
    assert new is not None
    return Change(kind=Kind.ADDED, where=where, after=text(new))


def paired(
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
