# SPDX-License-Identifier: MIT
"""The page size of a source: that of the user, else of VMCOREINFO, else of the container, else 4 KiB.

The map proves it: unless a map is intact, the other sizes are tried before it is called stale or damaged. Where no map
can prove anything, because all are consumed, sub-trees that are not aligned to the size disprove it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luoser.abi.kho import SUBTREE_PROPERTIES
from luoser.memory.source import Memory
from luoser.state import Handover, MapStatus, Problem, State

__all__ = ["PAGE_SIZES", "best_size", "doubted", "first_size", "is_proven"]

PAGE_SIZES = (4096, 16384, 65536)
_WALKED = (MapStatus.INTACT, MapStatus.DAMAGED, MapStatus.STALE)
"""Statuses of maps that may improve with another page size."""


def first_size(memory: Memory, given: int | None) -> tuple[int, str]:
    """(page size to begin with in bytes, its origin in words; empty: assumed).

    memory: the source.
    given:  by the user. None: not given.
    """
    if given is not None:
        return given, "--page-size"
    stated = memory.vmcoreinfo.get("PAGESIZE", "")
    if stated.isascii() and stated.isdigit() and len(stated) <= 7 and int(stated) in PAGE_SIZES:
        return int(stated), "VMCOREINFO"
    if memory.page_size in PAGE_SIZES:
        return memory.page_size, f"the {memory.format} header"
    return PAGE_SIZES[0], ""


def best_size(state: State, size: int, trial: Callable[[int], State]) -> tuple[int, str]:
    """(the page size with which most maps are intact and complete, why it is better); `size` if no other one is.

    state: as read with `size`.
    size:  bytes.
    trial: reads the source with another page size.
    """
    if _proven(state):
        return size, ""
    if any(handover.preserved.status in _WALKED for handover in state.handovers):
        scores = {other: _proven(trial(other)) for other in PAGE_SIZES if other != size}
        best = max(scores, key=lambda other: scores[other])
        if scores[best]:
            return best, "the map is intact only with"
    fits = {other: _aligned(state, other) for other in PAGE_SIZES}
    if fits[size] == max(fits.values()):
        return size, ""
    return next(other for other in PAGE_SIZES if fits[other] == max(fits.values())), "sub-trees are aligned only to"


def _aligned(state: State, size: int) -> int:
    """Number of roots whose sub-trees are all at addresses of pages of a size."""
    roots = [
        [value % size == 0 for node in one.fdt.root.nodes for name in SUBTREE_PROPERTIES if (value := node.u64(name))]
        for one in state.handovers
        if one.fdt is not None
    ]
    return sum(map(all, roots))


def doubted(state: State, size: int, better: tuple[int, str], who: str, *, code: str) -> State:
    """The state with one more problem: only another page size fits.

    state:  as read.
    size:   that was expected, in bytes.
    better: that fits, in bytes, and why.
    who:    origin of `size`, in words. Empty: assumed.
    code:   of the problem.
    """
    found = f"{who} has {size}" if who else "not in the source"
    text = f"page size: {found}, but {better[1]} {better[0]}; read with {state.source.page_size}"
    problem = Problem(code=code, address=None, message=text)
    return replace(state, problems=(*state.problems, problem))


def _proven(state: State) -> int:
    """Number of maps that are intact, complete and not empty, and cover their root."""
    return sum(1 for handover in state.handovers if is_proven(handover))


def is_proven(handover: Handover) -> bool:
    """Whether its map is intact, complete and not empty, and covers its root."""
    found = handover.preserved.map
    if handover.preserved.status is not MapStatus.INTACT or found is None or not found.complete or not found.entries:
        return False
    return handover.address is None or found.covers(handover.address, 1)
