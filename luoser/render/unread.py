# SPDX-License-Identifier: MIT
"""What could not be read, for commands that show a part of a handover."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.state import Handover, State
from luoser.text import safe_text

__all__ = ["unread_lines"]

_UNREAD = frozenset(
    {"missing", "excluded", "page-damaged", "bad-pointer", "short-list", "luo-reused", "pci-unknown-layout"}
    | {"map-garbage", "map-node-broken", "map-node-missing", "map-too-large", "map-unread", "map-stale", "no-map"}
)
"""Codes of problems: a thing was not read, or not to its end."""


def unread_lines(state: State, handover: Handover, *paths: str) -> Iterator[str]:
    """A line for each thing of a handover that could not be read.

    state:    that the handover belongs to.
    handover: to look at.
    paths:    of what is shown, relative to the root; what lies below them counts, but not contents.
    """
    messages = (
        problem.message
        for problem in state.problems
        if problem.root == handover.address and problem.code in _UNREAD and not problem.about.endswith(".contents")
        if any(problem.about == path or problem.about.startswith((f"{path}[", f"{path}.")) for path in paths)
    )
    return (f"not read: {safe_text(message, again=True)}" for message in dict.fromkeys(messages))
