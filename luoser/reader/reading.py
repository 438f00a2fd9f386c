# SPDX-License-Identifier: MIT
"""The state of a whole source: page size, addresses of a raw image, roots, and everything below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from luoser.abi.registry import usable_layouts
from luoser.errors import UsageError
from luoser.limits import Limits, limited
from luoser.memory.source import Memory
from luoser.reader.calibrate import ADDRESS_DOUBT, calibrate, is_lost
from luoser.reader.kho import read_handovers
from luoser.reader.locate import find_roots, known_roots
from luoser.reader.page_size import PAGE_SIZES, best_size, doubted, first_size, is_proven
from luoser.reader.pending import why_unknown
from luoser.reader.walk import Walk
from luoser.state import Direction, Handover, Source, State
from luoser.symbols import Symbols

__all__ = ["read"]


def read(
    memory: Memory,
    *,
    root: int | None = None,
    search: bool = True,
    page_size: int | None = None,
    layouts: Sequence[str] = (),
    contents: bool = False,
    symbols: Symbols | None = None,
    kallsyms: bool = True,
    pending: bool = False,
    directions: Mapping[int, Direction] | None = None,
    salvage: bool = False,
    limits: Limits | None = None,
) -> State:
    """The state of a source. Faults in the dump do not raise; they become Problems.

    memory:     the source.
    root:       physical address of the only KHO root to read. None: all that can be found.
    search:     with `root`, look for other roots and kernels, too. False: only if something in it shows that the
                state of its map depends on them; else its direction may be unknown, and no verdict is sound.
                A remote source is searched only as far as the user agreed to, with or without `root`.
    page_size:  bytes. None: that of VMCOREINFO, else of the container, else 4096.
    layouts:    names of layouts; they override detection.
    contents:   read the bytes of driver pages and small files, too.
    symbols:    of the running kernel, for the names in `SYMBOLS`; with VMCOREINFO they make directions certain.
    kallsyms:   without `symbols`, use the kernel's own symbols and types, if they are in its memory.
    pending:    note a problem if what the running kernel will hand over is not known.
    directions: of roots by physical address; they override all evidence.
    salvage:    look for sessions, files, memfds, FLBs, device lists and devicetrees by their shape in the whole source,
                where no pointer leads to them. They are in `State.salvaged`, and in nothing else.
    limits:     bounds on what is read; what meets one becomes a Problem. None: the defaults.

    Raises UsageError for what is not a source, for an impossible page size, if there is no KHO root at `root` or at
    an address in `directions`, or to salvage from blobs without addresses; SourceError if the symbols are those of
    another kernel.
    """
    if not isinstance(memory, Memory):
        raise UsageError(f"expected a source of luoser.open, found {type(memory).__name__}; luoser.load takes a path")
    if page_size is not None and page_size not in PAGE_SIZES:
        raise UsageError(f"page size: expected one of {', '.join(map(str, PAGE_SIZES))} bytes, found {page_size}")
    asked = _Asked(
        root=root,
        search=search,
        page_size=page_size,
        layouts=usable_layouts(layouts),
        contents=contents,
        symbols=symbols,
        kallsyms=kallsyms,
        pending=pending,
        directions=_directions(directions or {}),
    )
    _need_values(root, symbols)
    with limited(limits):
        state = _read_source(memory, asked)
        return _salvaged(memory, state, page_size) if salvage else state


def _need_values(root: int | None, symbols: Symbols | None) -> None:
    """Raise UsageError for arguments of another type."""
    if root is not None and (not isinstance(root, int) or isinstance(root, bool)):
        raise UsageError(f"--root: expected an address, found {root!r}")
    if symbols is not None and not isinstance(symbols, Symbols):
        raise UsageError(f"--symbols: expected those of luoser.symbols, found {type(symbols).__name__}")


def _directions(given: Mapping[int, Direction]) -> dict[int, Direction]:
    """Directions by root, also of their names. Raises UsageError for anything else."""
    try:
        return {root: Direction(way) for root, way in given.items()}
    except (AttributeError, ValueError):
        words = ", ".join(Direction)
        raise UsageError(f"--direction: expected one of {words} for each root, found {given!r}") from None


def _salvaged(memory: Memory, state: State, page_size: int | None) -> State:
    """The state with what is found by its shape."""
    from luoser.reader.salvage import salvage  # late: few ask for it

    if memory.placeless:
        raise UsageError("--salvage: blobs of debugfs have no addresses; expected a dump of memory")
    is_guess = not first_size(memory, page_size)[1] and not any(map(is_proven, state.handovers))
    found, problems = salvage(memory, state, guess=is_guess)
    return replace(state, salvaged=found, problems=(*state.problems, *problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a user wants; see `read`."""

    root: int | None
    search: bool
    page_size: int | None
    layouts: tuple[str, ...]
    contents: bool
    symbols: Symbols | None
    kallsyms: bool
    pending: bool
    directions: Mapping[int, Direction]


_SMALL = 4 << 20
"""Bytes of a source that is searched in any case, as a cut is."""


def _read_source(memory: Memory, asked: _Asked) -> State:
    """The state, with no more of a search than the answer needs."""
    if asked.root is not None and _may_do_without(memory, asked):
        try:
            state = _known(memory, asked, asked.root)
        except UsageError:
            if not memory.is_guess:  # else the address may be another one
                raise
        else:
            if state is not None:
                return state
        memory.start_again()
    if not memory.may_search:
        return _by_need(memory, asked)
    return _searched(memory, asked)


_OPEN = "what is at {:#x} does not show whether page size, addresses and map are right (--page-size, --base)"


def _by_need(memory: Memory, asked: _Asked) -> State:
    """The state of a remote source without a search. Raises SourceError if it takes one."""
    state = _known(memory, asked, asked.root)
    if state is None or not state.handovers:
        memory.need_search(*([_OPEN.format(asked.root)] if asked.root is not None else []))
        raise AssertionError("may_search and need_search differ")
    unknown = asked.directions.keys() - {handover.address for handover in state.handovers}
    if unknown:
        raise UsageError(f"--direction: no KHO root at {min(unknown):#x}, or it is found only by a search: --scan")
    return state


def _may_do_without(memory: Memory, asked: _Asked) -> bool:
    """Whether a search may be left out: for a large source, unless the user wants it or names other roots."""
    if asked.search or memory.live or memory.known_roots or asked.directions.keys() - {asked.root}:
        return False
    return sum(segment.stored for segment in memory.segments) > _SMALL


def _known(memory: Memory, asked: _Asked, root: int | None) -> State | None:
    """The state of a root without a search. None: a search is needed, to tell damage from age or to place an image.

    root: its address. None: all that the source's kernel names.
    """
    walk = Walk(memory, first_size(memory, asked.page_size)[0], asked.layouts, asked.contents, asked.directions)
    state = _read(walk, root, asked, search=False)
    state = _only(state, root) if root is not None else state
    is_sound = all(is_proven(one) and not _is_of_another(memory, one) for one in state.handovers)
    is_clean = not any(problem.code == "map-damaged" for problem in state.problems)
    return state if is_sound and is_clean and not (memory.is_guess and is_lost(state)) else None


def _is_of_another(memory: Memory, handover: Handover) -> bool:
    """Whether another kernel than the running one made it: with one more such sign its map is stale, however sound."""
    release, metadata = memory.vmcoreinfo.get("OSRELEASE"), handover.kexec_metadata
    return bool(release) and metadata is not None and metadata.previous_release != release


def _only(state: State, root: int) -> State:
    return replace(state, handovers=tuple(handover for handover in state.handovers if handover.address == root))


def _searched(memory: Memory, asked: _Asked) -> State:
    root, page_size = asked.root, asked.page_size

    def reading(size: int, wanted: int | None = root, *, whole: bool = True) -> State:
        walk = Walk(memory, size, asked.layouts, asked.contents and whole, asked.directions)
        return _read(walk, wanted, asked if whole else None)

    size, who = first_size(memory, page_size)
    if memory.is_guess:  # any root can give the base address, also one that is not wanted
        state = reading(size, None)
        again = calibrate(memory, state, lambda: _read(Walk(memory, size), None, None))
        state = reading(size) if again or root is not None else state
    else:
        state = reading(size)
    unknown = asked.directions.keys() - {handover.address for handover in state.handovers}
    if unknown:
        raise UsageError(f"--direction: no KHO root at {min(unknown):#x}")
    with memory.trial():
        better = best_size(state, size, lambda other: reading(other, whole=False))
    if better[0] != size:
        is_doubt = who in ("--page-size", "VMCOREINFO")
        if page_size is None:  # the page size of the user is never replaced
            memory.start_again()
            state = reading(better[0])
        state = doubted(state, size, better, who, code="page-size-doubt" if is_doubt else "page-size-guessed")
    return state if root is None else _only(state, root)


def _read(walk: Walk, root: int | None, asked: _Asked | None, *, search: bool = True) -> State:
    """One reading.

    asked:  None: without directions and scratch areas, which may need another search.
    search: for all roots. False: `root`, if any, and those that the running kernel names.
    """
    whole = asked is not None
    memory = walk.memory
    at_first = len(memory.remarks)
    _remark(walk, memory.remarks)
    symbols, kallsyms = (asked.symbols, asked.kallsyms) if asked is not None else (None, False)
    if search:
        found = find_roots(walk, wanted=root, symbols=symbols, kallsyms=kallsyms)
    else:
        found = known_roots(walk, root, symbols=symbols, kallsyms=kallsyms)
    handovers = read_handovers(walk, found, whole=whole)
    if found.kernel is not None:
        memory.remember(found.kernel.answers)
    if asked is not None and asked.pending and not any(handover.pending for handover in handovers):
        walk.problem("pending-unknown", None, None, why_unknown(found.kernel))
    _remark(walk, memory.remarks[at_first:])  # some damage is found only while reading
    kernel = memory.vmcoreinfo.get("OSRELEASE")
    source = Source(
        path=memory.path, format=memory.format, page_size=walk.page_size, kernel=kernel, left_out=memory.left_out
    )
    return State(source=source, handovers=handovers, problems=tuple(walk.problems))


def _remark(walk: Walk, remarks: Sequence[str]) -> None:
    """Note the remarks of the source as problems. A truncated source has a separate code."""
    for remark in remarks:
        if remark.startswith("truncated:"):
            walk.problem("truncated", None, None, remark)
        elif remark.startswith(ADDRESS_DOUBT):
            walk.problem("address-doubt", None, None, remark)
        else:
            walk.problem("source", None, None, remark)
