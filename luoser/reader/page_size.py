# SPDX-License-Identifier: MIT
"""Which page size a source is read with: what the user says, else VMCOREINFO, else the container, else 4 KiB.

The map itself is the proof: before anything in it is called stale or damaged, the other sizes are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luoser.memory.source import Memory
from luoser.state import Handover, MapStatus, Problem, State

__all__ = ["PAGE_SIZES", "best_size", "doubted", "first_size"]

PAGE_SIZES = (4096, 16384, 65536)
_WALKED = (MapStatus.INTACT, MapStatus.DAMAGED, MapStatus.STALE)
"""Of maps that may read better with another page size."""


def first_size(memory: Memory, given: int | None) -> tuple[int, str]:
    """(bytes, who says so): the size to begin with. given: by the user, None where nothing was said."""
    if given is not None:
        return given, "--page-size"
    stated = memory.vmcoreinfo.get("PAGESIZE", "")
    if stated.isascii() and stated.isdigit() and len(stated) <= 7 and int(stated) in PAGE_SIZES:
        return int(stated), "VMCOREINFO"
    if memory.page_size in PAGE_SIZES:
        return memory.page_size, f"the {memory.format} header"
    return PAGE_SIZES[0], ""


def best_size(state: State, size: int, trial: Callable[[int], State]) -> int:
    """The size with which most maps are whole; the first one where no other is better.

    state: as read with `size`. trial: reads with another one.
    """
    walked = any(handover.preserved.status in _WALKED for handover in state.handovers)
    if not walked or _proven(state):
        return size
    scores = {other: _proven(trial(other)) for other in PAGE_SIZES if other != size}
    best = max(scores, key=lambda other: scores[other])
    return best if scores[best] else size


def doubted(state: State, size: int, better: int, who: str, *, code: str) -> State:
    """The state with a problem that says that another page size fits. who: says `size`. code: of the problem."""
    said = f"{who} says {size}" if who else "the source does not say it"
    text = f"page size: {said}, and the map is whole with {better} only"
    text += f"; read with {state.source.page_size}"
    problem = Problem(code=code, address=None, message=text)
    return replace(state, problems=(*state.problems, problem))


def _proven(state: State) -> int:
    """How many maps are whole, hold something, and cover their own root."""
    return sum(1 for handover in state.handovers if _is_proven(handover))


def _is_proven(handover: Handover) -> bool:
    found = handover.preserved.map
    if handover.preserved.status is not MapStatus.INTACT or found is None or not found.complete or not found.entries:
        return False
    return handover.address is None or found.covers(handover.address, 1)
