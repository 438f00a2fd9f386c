# SPDX-License-Identifier: MIT
"""What could not be compared: parts of a handover that one of the sources does not hold, or that are damaged."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.diff.model import NotCompared
from luoser.diff.sides import NOT_THERE
from luoser.state import Direction, Handover, MapStatus, Problem, State

__all__ = ["not_compared"]

_CODES = NOT_THERE | {"map-garbage", "map-node-broken", "map-node-missing", "map-unread", "map-too-large", "too-many"}
"""Codes of problems that say that a thing was not read, or not to its end."""


def not_compared(
    before: Handover, after: Handover, states: tuple[State, State], *, prefix: str, contents: bool
) -> Iterator[NotCompared]:
    """What was met on either side of one handover. prefix: of the paths. contents: whether bytes were compared."""
    for handover, state in zip((before, after), states, strict=True):
        if _is_consumed(handover):
            continue  # what is not there any more is progress
        for problem in state.problems:
            if problem.root == handover.address and problem.code in _CODES and _counts(problem, contents=contents):
                where = problem.about or "source"
                yield NotCompared(where=f"{prefix}/{where}" if prefix else where, reason=problem.message)


def _is_consumed(handover: Handover) -> bool:
    return handover.direction is Direction.INCOMING or handover.preserved.status is MapStatus.STALE


def _counts(problem: Problem, *, contents: bool) -> bool:
    """The bytes of files and driver pages count only where they were asked for."""
    return contents or not problem.about.endswith(".contents")
