# SPDX-License-Identifier: MIT
"""What the tests of the reader share."""

from __future__ import annotations

from luoser.memory.overlay import Overlay
from luoser.state import Handover, Problem, State

__all__ = ["codes", "number", "only", "problems", "replace_u64"]


def only(state: State) -> Handover:
    """The one handover of a state."""
    (handover,) = state.handovers
    return handover


def codes(state: State) -> list[str]:
    return [problem.code for problem in state.problems]


def problems(state: State, code: str) -> list[Problem]:
    return [problem for problem in state.problems if problem.code == code]


def number(memory: Overlay, address: int) -> int:
    return int.from_bytes(memory.read(address, 8), "little")


def replace_u64(memory: Overlay, page: int, old: int, new: int) -> None:
    """Put another number where a page holds a given one, once."""
    data = memory.read(page, 4096)
    assert data.count(old.to_bytes(8, "little")) == 1
    memory.write(page + data.index(old.to_bytes(8, "little")), new.to_bytes(8, "little"))
