# SPDX-License-Identifier: MIT
"""One change between two states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

__all__ = ["Change", "Kind", "NotCompared", "Verdict", "without"]


class Kind(StrEnum):
    """progress: what the next kernel has consumed, or gone on to do; it is no difference.

    unread: a thing that one side has and the other side's source does not hold; it cannot be compared.
    """

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    PROGRESS = "progress"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """where: a path by names, such as `pci/0000:41:00.0/driver_data`. before, after: as text, None for what is not.

    also: further paths that lead to the same thing. note: more in words.
    """

    kind: Kind
    where: str
    before: str | None = None
    after: str | None = None
    also: tuple[str, ...] = ()
    note: str = ""

    def below(self, prefix: str) -> Change:
        """The same, somewhere below."""
        return replace(self, where=f"{prefix}/{self.where}" if self.where else prefix)


class Verdict(StrEnum):
    """Of a comparison. progress: nothing but what the next kernel has consumed. What was not compared is not equal."""

    EQUAL = "equal"
    PROGRESS = "progress"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """A thing that could not be compared, by its path, and why."""

    where: str
    reason: str


def without(changes: Iterable[Change], patterns: Iterable[str]) -> tuple[Change, ...]:
    """The changes whose path is not one of the patterns, nor below one: `*` stands for anything."""
    wanted = list(patterns)
    return tuple(
        change
        for change in changes
        if not any(
            fnmatchcase(change.where, pattern) or fnmatchcase(change.where, f"{pattern}/*") for pattern in wanted
        )
    )
