# SPDX-License-Identifier: MIT
"""What could not be compared: parts of a handover that are not in one of the sources, or damaged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from luoser.changes.model import SOURCE, NotCompared
from luoser.changes.sides import NOT_THERE, path_part
from luoser.state import Handover, Problem, State
from luoser.state.problems import PROBLEMS

__all__ = ["BROKEN", "UNCOMPARED", "named_path", "not_compared"]

_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?")
"""A member of a path, or an item of a list."""

UNCOMPARED = NOT_THERE | {
    "map-garbage",
    "map-node-broken",
    "map-node-missing",
    "map-unread",
    "map-too-large",
    "too-many",
}
"""Codes of problems: something was not read, or not to its end."""
_READ = frozenset(
    (
        *("direction-by-map", "kho-version", "layout-not-of-this-kernel", "layout-own"),
        *("map-damaged", "map-stale", "map-width"),
        *("empty-session", "file-count", "left-over", "luo-bad-string", "unnamed-session", "zero-flb", "zero-memfd"),
        *("pci-fault", "pci-impossible", "pci-not-zero"),
    )
)
"""Codes of problems of a handover: odd values, which were read all the same, and what is told elsewhere."""
BROKEN = frozenset(code for codes in PROBLEMS.values() for code in codes) - UNCOMPARED - _READ
"""Codes of problems: the bytes are there, but were not understood, or not to their end."""
_NO_LISTS = frozenset({"symbols-unread", "types-unread"})
"""Codes of problems of a source: damage that hides the running kernel's own lists."""
_NOT_FREE = NOT_THERE - {"excluded"}
_ALWAYS = frozenset({"direction-by-map"})
"""Codes of problems of a handover that may not be consumed."""


def not_compared(handover: Handover, state: State, *, prefix: str, contents: bool) -> Iterator[NotCompared]:
    """What could not be compared of one handover, because of what is on this side.

    handover: to look at.
    state:    that it belongs to.
    prefix:   of the paths. Empty: none.
    contents: whether bytes were compared.
    """
    is_open = handover.pending is None and not handover.is_consumed
    if is_open and not (handover.luo is not None and handover.luo.serialized):  # then these are all that there is
        for problem in state.problems:
            if problem.root is None and problem.code in _NO_LISTS:
                yield NotCompared(where=f"{prefix}/pending" if prefix else "pending", reason=problem.message)
    for problem in state.problems:
        is_own = problem.root == handover.address and _counts(problem, contents=contents)
        if is_own and problem.code in _codes(handover, problem):
            where = named_path(handover, problem.about) or SOURCE
            yield NotCompared(where=f"{prefix}/{where}" if prefix else where, reason=problem.message)


def named_path(handover: Handover, about: str) -> str:
    """The path of a change that a problem would have: `luo.sessions[0].files[2]` is `luo/sessions/NAME/files/TOKEN`.

    handover: that the problem is about.
    about:    path of the thing, relative to the root.
    """
    here: Any = handover
    parts: list[str] = []
    for name, place in _STEP.findall(about):
        here = getattr(here, name, None)
        parts.append(name)
        if place:
            here = here[int(place)] if here is not None and int(place) < len(here) else None
            parts.append(_name(here) or place)
    return "/".join(parts)


def _name(item: Any) -> str:
    """What the path of a change calls an item. Empty: it has no name."""
    token, via = getattr(item, "token", None), getattr(item, "via", ())
    return f"{token:#x}" if token is not None else path_part(via[0] if via else getattr(item, "name", ""))


def _codes(handover: Handover, problem: Problem) -> frozenset[str]:
    """The codes of problems that keep a thing from being compared. A kernel frees most pages of what it has taken over;
    only a dump without free pages explains that one is not there.
    """
    if not handover.is_consumed:
        return _ALWAYS | UNCOMPARED
    return _ALWAYS | (_NOT_FREE if handover.may_be_freed(problem.about) else NOT_THERE)


def _counts(problem: Problem, *, contents: bool) -> bool:
    """Whether a problem matters. Those of bytes of files and driver pages do only if contents are compared."""
    return contents or not problem.about.endswith(".contents")
