# SPDX-License-Identifier: MIT
"""Memory to state: finds the KHO roots of a source and reads everything below them."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.errors import UsageError
from luoser.memory.source import Memory
from luoser.reader.calibrate import calibrated
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
    if memory.is_guess and root is None:
        state = _put_right(memory, said or _PAGE_SIZES[0], tuple(layouts), contents, symbols)
    else:
        state = _read(memory, root, said or _PAGE_SIZES[0], tuple(layouts), contents, symbols)
    if said is None and _map_is_odd(state):
        for other in _PAGE_SIZES[1:]:
            guess = _read(memory, root, other, tuple(layouts), contents, symbols)
            if guess.handovers and _map_is_proven(guess):
                word = f"page size {other}: the source does not say, and the map is one with this size only"
                return State(
                    source=guess.source,
                    handovers=guess.handovers,
                    problems=(*guess.problems, Problem(code="page-size-guessed", address=None, message=word)),
                )
    return state


def _put_right(
    memory: Memory, page_size: int, layouts: tuple[str, ...], contents: bool, symbols: Symbols | None
) -> State:
    """The state of a raw image, of which nothing but its own root says where its bytes belong."""

    def again() -> State:
        return _read(memory, None, page_size, layouts, contents, symbols)

    state = again()
    lost = any(
        subtree.address is not None and part is None
        for handover in state.handovers
        for subtree in handover.subtrees
        for name, part in (
            ("LUO", handover.luo),
            ("memblock", handover.memblock),
            ("kexec-metadata", handover.kexec_metadata),
        )
        if subtree.name == name
    )
    return calibrated(memory, state, again) if lost or not state.handovers else state


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


def _read(
    memory: Memory,
    root: int | None,
    page_size: int,
    layouts: tuple[str, ...],
    contents: bool,
    symbols: Symbols | None,
) -> State:
    walk = Walk(memory, page_size, layouts, contents)
    at_first = len(memory.remarks)
    for remark in memory.remarks:
        walk.problem("source", None, remark)
    handovers = read_handovers(walk, find_roots(walk, wanted=root, symbols=symbols))
    for remark in memory.remarks[at_first:]:  # some damage shows only when it is read
        walk.problem("source", None, remark)
    if root is not None:
        handovers = tuple(handover for handover in handovers if handover.address == root)
    source = Source(path=memory.path, format=memory.format, page_size=page_size)
    return State(source=source, handovers=handovers, problems=tuple(walk.problems))
