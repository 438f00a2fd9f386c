# SPDX-License-Identifier: MIT
"""What could not be compared: parts of a handover that are not in one of the sources, or damaged."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import NotCompared
from luoser.changes.sides import NOT_THERE, UNREAD
from luoser.state import Handover, Problem, State

__all__ = ["BROKEN", "UNCOMPARED", "not_compared"]

UNCOMPARED = NOT_THERE | {
    "map-garbage",
    "map-node-broken",
    "map-node-missing",
    "map-unread",
    "map-too-large",
    "too-many",
}
"""Codes of problems: something was not read, or not to its end."""
BROKEN = (UNREAD - UNCOMPARED) | {
    *("bad-fdt", "bad-file", "bad-flb", "bad-handler-data", "bad-kho-test", "bad-memblock", "bad-memfd"),
    *("bad-metadata", "bad-session", "bad-subtree", "luo-reused", "no-fdt", "pci-unknown-layout"),
    *("pointer-encrypted", "pointer-off"),
}
"""Codes of problems: the bytes are there, but were not understood, or not to their end."""
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
    for problem in state.problems:
        is_own = problem.root == handover.address and _counts(problem, contents=contents)
        if is_own and problem.code in _codes(handover, problem):
            where = problem.about or "source"
            yield NotCompared(where=f"{prefix}/{where}" if prefix else where, reason=problem.message)


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
