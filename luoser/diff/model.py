# SPDX-License-Identifier: MIT
"""One change between two states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

__all__ = ["Change", "Kind", "without"]


class Kind(StrEnum):
    """progress: what the next kernel has consumed, or gone on to do; it is no difference."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    PROGRESS = "progress"


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
