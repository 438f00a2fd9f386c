# SPDX-License-Identifier: MIT
"""Changes, their kinds, and the verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from luoser.arguments import need_names
from luoser.errors import UsageError
from luoser.text import did_you_mean, safe_text

__all__ = ["PARTS", "SOURCE", "Change", "Kind", "NotCompared", "Verdict", "need_paths", "without"]

PARTS = (
    *(
        "address",
        "compatible",
        "damage",
        "direction",
        "handovers",
        "kexec_metadata",
        "kho_test",
        "luo",
        "memblock",
        "pci",
    ),
    *("pending", "preserved", "scratch", "subtrees"),
)
"""What the path of a change of a state begins with."""
SOURCE = "source"
"""The path of what is about a source as a whole."""


class Kind(StrEnum):
    """Kind of a change.

    added:    only after.
    removed:  only before.
    changed:  on both sides, but not the same.
    progress: consumed or done by the next kernel; not a difference.
    unread:   on one side, but its page is not in the source of the other; not compared.
    """

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    PROGRESS = "progress"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    kind:   of the change.
    where:  path by names, such as `pci/0000:41:00.0/driver_data`.
    before: value as text. None: no value.
    after:  value as text. None: no value.
    also:   further paths to the same thing.
    note:   more, in words.
    """

    kind: Kind
    where: str
    before: str | None = None
    after: str | None = None
    also: tuple[str, ...] = ()
    note: str = ""

    def below(self, prefix: str) -> Change:
        """The same change with a prefix of its path."""
        return replace(self, where=f"{prefix}/{self.where}" if self.where else prefix)


class Verdict(StrEnum):
    """Verdict of a comparison.

    equal:        no change.
    progress:     only changes of kind progress.
    different:    some other change.
    inconclusive: no other change, but something could not be compared.
    """

    EQUAL = "equal"
    PROGRESS = "progress"
    DIFFERENT = "different"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """Something that could not be compared. where: its path. reason: in words."""

    where: str
    reason: str


_Told = TypeVar("_Told", Change, NotCompared)


def without(told: Iterable[_Told], patterns: Iterable[str]) -> tuple[_Told, ...]:
    """The changes, or what was not compared, whose path does not match.

    told:     any. What is about a source as a whole is kept.
    patterns: of paths, `*` matches any text. A pattern also matches paths below it, and the items of a list.
    """
    wanted = [each for pattern in patterns for each in (pattern, f"{pattern}/*", f"{pattern}[*")]
    return tuple(
        one for one in told if one.where == SOURCE or not any(_is_match(one.where, pattern) for pattern in wanted)
    )


def _is_match(path: str, pattern: str) -> bool:
    """Whether a path matches. Brackets are those of items, not of a choice of letters."""
    return fnmatchcase(path, pattern.replace("[", "[[]"))


def need_paths(patterns: Collection[str], parts: Collection[str]) -> None:
    """Raise UsageError for a pattern that no path can match, or if all match. parts: what paths begin with."""
    need_names(ignore=patterns)
    for pattern in patterns:
        first = pattern.partition("/")[0]
        if "*" not in first and not any(_is_match(part, first) for part in parts):
            near, those = did_you_mean(first, sorted(parts)), ", ".join(sorted(parts)[:16])
            raise UsageError(f"--ignore {safe_text(pattern)}: no such path{near}; paths begin with {those}")
    if all(any(_is_match(part, pattern) for pattern in patterns) for part in parts):
        raise UsageError("--ignore: nothing is left to compare")
