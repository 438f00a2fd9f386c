# SPDX-License-Identifier: MIT
"""Memory to state: finds the KHO roots of a source and reads everything below them."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.errors import UsageError
from luoser.memory.source import Memory
from luoser.reader.calibrate import calibrate
from luoser.reader.kernel import SYMBOLS
from luoser.reader.kho import read_handovers
from luoser.reader.locate import find_roots
from luoser.reader.walk import Walk
from luoser.state import Direction, MapStatus, Problem, Source, State
from luoser.symbols import Symbols

__all__ = ["SYMBOLS", "read"]

_PAGE_SIZES = (4096, 16384, 65536)


def read(
    memory: Memory,
    *,
    root: int | None = None,
    page_size: int | None = None,
    layouts: Sequence[str] = (),
    contents: bool = False,
    symbols: Symbols | None = None,
) -> State:
    """Read the state of a source. Nothing that the dump contains raises; it becomes a Problem.

    root: physical address of the one KHO root to read, instead of all that can be found. page_size: bytes,
    instead of what VMCOREINFO says or 4096. layouts: names of layouts that are the last word where bytes
    leave a choice. contents: read the bytes of driver pages and small files as well. symbols: those of the
    running kernel, of the names in `SYMBOLS`; with VMCOREINFO they make the direction of the roots certain.

    Raises UsageError for an impossible page size, or when there is no KHO root at `root`, and SourceError
    when the symbols are those of another kernel.
    """
    if page_size is not None and page_size not in _PAGE_SIZES:
        raise UsageError(f"page size {page_size}: expected one of {', '.join(map(str, _PAGE_SIZES))}")
    said = page_size or (memory.page_size if memory.page_size in _PAGE_SIZES else None)

    def reading(size: int, wanted: int | None = root) -> State:
        return _read(Walk(memory, size, tuple(layouts), contents), wanted, symbols)

    size = said or _PAGE_SIZES[0]
    if memory.is_guess:  # all roots say where its bytes belong, whichever one is wanted
        state = reading(size, None)
        again = calibrate(memory, state, lambda: _read(Walk(memory, size), None, None, whole=False))
        state = reading(size) if again or root is not None else state
    else:
        state = reading(size)
    if said is None and _map_is_odd(state):
        for other in _PAGE_SIZES[1:]:
            guess = reading(other)
            if guess.handovers and _map_is_proven(guess):
                word = f"page size {other}: the source does not say, and the map is one with this size only"
                return State(
                    source=guess.source,
                    handovers=guess.handovers,
                    problems=(*guess.problems, Problem(code="page-size-guessed", address=None, message=word)),
                )
    return state


def _map_is_proven(state: State) -> bool:
    """Whether every map is whole and holds something: a page size that only avoids staleness proves nothing."""
    return all(
        handover.preserved.map is not None and handover.preserved.map.complete and handover.preserved.map.entries
        for handover in state.handovers
    )


def _map_is_odd(state: State) -> bool:
    return any(handover.preserved.status is MapStatus.STALE for handover in state.handovers) and not any(
        handover.preserved.status is MapStatus.INTACT and handover.direction is Direction.OUTGOING
        for handover in state.handovers
    )


def _read(walk: Walk, root: int | None, symbols: Symbols | None, *, whole: bool = True) -> State:
    """One reading. whole: with directions and scratch, which may take a search of their own."""
    memory = walk.memory
    at_first = len(memory.remarks)
    for remark in memory.remarks:
        walk.problem("source", None, None, remark)
    handovers = read_handovers(walk, find_roots(walk, wanted=root, symbols=symbols), whole=whole)
    for remark in memory.remarks[at_first:]:  # some damage shows only when it is read
        walk.problem("source", None, None, remark)
    if root is not None:
        handovers = tuple(handover for handover in handovers if handover.address == root)
    source = Source(path=memory.path, format=memory.format, page_size=walk.page_size)
    return State(source=source, handovers=handovers, problems=tuple(walk.problems))
