# SPDX-License-Identifier: MIT
"""Memory to state: finds the KHO roots of a source, and reads everything below them."""

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
    """The state of a source. Faults in the dump do not raise; they become Problems.

    memory:    the source.
    root:      physical address of the only KHO root to read. None: all that can be found.
    page_size: bytes. None: that of VMCOREINFO, else 4096.
    layouts:   names of layouts to use where several fit.
    contents:  read the bytes of driver pages and small files, too.
    symbols:   of the running kernel, for the names in `SYMBOLS`; with VMCOREINFO they make directions certain.

    Raises UsageError for an impossible page size or if there is no KHO root at `root`, and SourceError if the
    symbols are those of another kernel.
    """
    if page_size is not None and page_size not in _PAGE_SIZES:
        raise UsageError(f"page size: expected one of {', '.join(map(str, _PAGE_SIZES))} bytes, found {page_size}")
    said = page_size or (memory.page_size if memory.page_size in _PAGE_SIZES else None)

    def reading(size: int, wanted: int | None = root) -> State:
        return _read(Walk(memory, size, tuple(layouts), contents), wanted, symbols)

    size = said or _PAGE_SIZES[0]
    if memory.is_guess:  # any root can give the base address, also one that is not wanted
        state = reading(size, None)
        again = calibrate(memory, state, lambda: _read(Walk(memory, size), None, None, whole=False))
        state = reading(size) if again or root is not None else state
    else:
        state = reading(size)
    if said is None and _map_is_odd(state):
        for other in _PAGE_SIZES[1:]:
            guess = reading(other)
            if guess.handovers and _map_is_proven(guess):
                word = f"page size unknown: assuming {other} bytes, the only size with which the map is intact"
                return State(
                    source=guess.source,
                    handovers=guess.handovers,
                    problems=(*guess.problems, Problem(code="page-size-guessed", address=None, message=word)),
                )
    return state


def _map_is_proven(state: State) -> bool:
    """Whether every map is complete and not empty: a map that is just not stale does not prove a page size."""
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
    """One reading. whole: with directions and scratch areas, which may need another search."""
    memory = walk.memory
    at_first = len(memory.remarks)
    for remark in memory.remarks:
        walk.problem("source", None, None, remark)
    handovers = read_handovers(walk, find_roots(walk, wanted=root, symbols=symbols), whole=whole)
    for remark in memory.remarks[at_first:]:  # some damage is found only while reading
        walk.problem("source", None, None, remark)
    if root is not None:
        handovers = tuple(handover for handover in handovers if handover.address == root)
    source = Source(path=memory.path, format=memory.format, page_size=walk.page_size)
    return State(source=source, handovers=handovers, problems=tuple(walk.problems))
