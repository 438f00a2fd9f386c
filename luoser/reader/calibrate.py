# SPDX-License-Identifier: MIT
"""Find a raw image's real base address from its KHO root, which has the addresses of its sub-trees.

An image can be shifted as a whole (it starts at the first RAM address of the machine, or after a header), or lack
the hole that a PC has below 4 GiB. A model of either kind is used only if it finds at least two structures of the
handover more than without it, and more than any other model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from luoser import fdt
from luoser.abi.kho import COMPATIBLE_PREFIX, SUBTREE_PROPERTIES
from luoser.errors import FormatError, MissingMemory, UsageError
from luoser.limits import LIMITS
from luoser.memory.raw import Range, pc_ranges
from luoser.memory.source import Memory
from luoser.state import Handover, MapStatus, State

__all__ = ["ADDRESS_DOUBT", "calibrate", "is_lost"]

ADDRESS_DOUBT = "addresses guessed:"
"""A remark that starts so means that nothing in the source can be judged."""

_3G, _4G, _PAGE = 3 << 30, 1 << 32, 4096
_HOLES = (3 << 30, 2 << 30, 7 << 29)
"""Where the hole of a PC usually starts: QEMU's pc and q35, and others."""
_BLOBS, _TREE_SIZE, _TREE_BYTES = 4096, 64 << 10, 1 << 20
_MODELS = 8
"""At most so many of each kind, as each costs a reading of the whole image."""
_LUO_PAGE = b"luo-v"
_KINDS = {
    "LUO": (b"luo-v", b"luo-session-v"),
    "memblock": (b"memblock-v",),
    "kho_test": (b"kho-test-v",),
}
_LOOKED_FOR = (COMPATIBLE_PREFIX, *(kind for kinds in _KINDS.values() for kind in kinds))


@dataclass(frozen=True, slots=True)
class _Model:
    """Possible addresses of the bytes of an image.

    ranges: of the image.
    shift:  address minus offset of a byte; above the hole, if there is one.
    word:   the model in words.
    """

    ranges: tuple[Range, ...]
    shift: int
    word: str


def calibrate(memory: Memory, state: State, trial: Callable[[], State]) -> bool:
    """Correct the addresses of a raw image. Returns whether it has to be read again.

    memory: a source whose addresses are a guess. They are changed if a model is better.
    state:  as read with the guess.
    trial:  reads the source again, without directions and scratch areas.
    """
    if not is_lost(state):
        return False
    if not _may_move(state):
        _doubt(memory, state)
        return False
    models = list(_models(memory, state))
    if not models and not state.handovers:
        return False
    remarks = list(memory.remarks)
    score, best = _score(state) + 2, list[_Model]()
    for model in models:
        try:
            memory.place(model.ranges)
        except UsageError:  # the image is too small for this model
            continue
        found = _score(trial())
        if found > score:
            score, best = found, []
        if found == score:
            best.append(model)
    chosen = _chosen(best)
    memory.place(chosen.ranges if chosen is not None else (Range(0, None, 0),))
    memory.remarks[:] = remarks
    if chosen is not None:
        memory.remarks.append(f"{chosen.word}; --map overrides this")
        memory.is_guess = False
    else:
        _doubt(memory, state)
    return True  # also without a model: problems and remarks of the trials do not belong to the handover


def _doubt(memory: Memory, state: State) -> None:
    """Add a remark that the addresses in a large image are not known. state: that was read from it."""
    if state.handovers and max(segment.end for segment in memory.segments) > _3G:
        word = "raw image of more than 3 GiB: assuming byte N is address N, though not all structures are found there"
        hint = (
            "on a PC memory from 3 GiB or so on is moved to 4 GiB: --pc-hole or --map; if byte N is address N: --base 0"
        )
        memory.remarks.append(f"{ADDRESS_DOUBT} {word}; {hint}")


def _chosen(best: list[_Model]) -> _Model | None:
    """The only best model. If several agree on the memory above 4 GiB, a model of that memory alone. Else None."""
    if len(best) == 1:
        return best[0]
    shifts = {model.shift for model in best}
    if len(shifts) != 1 or not 0 < (shift := shifts.pop()) < _4G:
        return None
    low = _4G - shift
    word = (
        f"image without the memory below 4 GiB: assuming byte {low:#x} is address {_4G:#x}; earlier bytes are ignored"
    )
    return _Model((Range(_4G, None, low),), shift, word)


def is_lost(state: State) -> bool:
    """Whether there is no root, or a root with a sub-tree that is not at its address, or with anything that is not
    there and is named at 3 GiB or above, where a PC has its hole.
    """
    return (
        not state.handovers
        or _is_lost_above(state)
        or any(
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
    )


def _is_lost_above(state: State) -> bool:
    """Whether things at 3 GiB or above are missing, zeros, or something else, and none was found there."""
    if any(address >= _3G for handover in state.handovers for address in _found(handover)):
        return False
    if any(problem.code in _LOST and (problem.address or 0) >= _3G for problem in state.problems):
        return True
    maps = (handover.preserved for handover in state.handovers)
    return any(entry.address >= _3G and (entry.map is None or not entry.map.entries) for entry in maps)


def _found(handover: Handover) -> Iterator[int]:
    """Addresses of structures that were found there."""
    parts = (handover.luo, handover.memblock, handover.kexec_metadata, handover.kho_test)
    yield from (part.address for part in parts if part is not None and part.address is not None)
    if handover.preserved.map is not None and handover.preserved.map.entries:
        yield from handover.preserved.nodes
    for session in handover.luo.sessions if handover.luo is not None else ():
        yield from (file.memfd.address for file in session.files if file.memfd is not None)


_LOST = frozenset(
    (
        *(
            "missing",
            "excluded",
            "bad-pointer",
            "bad-memfd",
            "zero-memfd",
            "bad-handler-data",
            "short-list",
            "bad-file",
        ),
        *("bad-session", "bad-flb", "no-fdt", "bad-fdt", "luo-reused", "pci-impossible", "pci-unknown-layout"),
        *("bad-kho-test", "bad-memblock", "bad-metadata", "map-garbage", "map-node-broken"),
    )
)
"""Codes of problems: at an address there is not what is named there."""


def _may_move(state: State) -> bool:
    """Whether addresses may be wrong: any, or, if some structure is at its address, only those above 4 GiB."""
    named = (subtree.address for handover in state.handovers for subtree in handover.subtrees)
    return (
        not _score(state) or _is_lost_above(state) or any(address is not None and address >= _4G for address in named)
    )


def _score(state: State) -> int:
    """Number of structures that were found at their addresses. A memfd is two: its descriptor and its folio list."""
    found = 0
    for handover in state.handovers:
        parts = (handover.luo, handover.memblock, handover.kexec_metadata, handover.kho_test)
        found += sum(part is not None for part in parts)
        sessions = handover.luo.sessions if handover.luo is not None else ()
        memfds = [file.memfd for session in sessions for file in session.files]
        found += 2 * sum(memfd is not None and len(memfd.folios.list) > 0 for memfd in memfds)
        preserved = handover.preserved
        found += preserved.status is MapStatus.INTACT and preserved.map is not None and preserved.map.entries > 0
    return found


def _models(memory: Memory, state: State) -> Iterator[_Model]:
    """Each shift of the image, and each hole, with which some sub-tree is at the address in its root.

    If some structure is at its address already, the image is not shifted as a whole.
    """
    roots, below, above = _shifts(memory)
    lows = [0]
    if not _score(state):
        whole = [shift for shift, _ in (below + above).most_common() if any((at + shift) % _PAGE == 0 for at in roots)]
        yield from (_whole(shift) for shift in whole[:_MODELS] if shift)
        lows += [shift for shift, _ in below.most_common(_MODELS) if shift]
    shifts = [shift for shift, _ in above.most_common(_MODELS) if 0 < shift < _4G]
    shifts += [_4G - hole for hole in _HOLES if _4G - hole not in shifts] if _is_lost_above(state) else []
    holes = (_hole(low, shift) for shift in shifts for low in lows)
    yield from islice(holes, _MODELS)


def _whole(shift: int) -> _Model:
    if shift > 0:
        word = f"shifted image: assuming byte 0 is physical address {shift:#x}"
        return _Model((Range(shift, None, 0),), shift, word)
    return _Model((Range(0, None, -shift),), shift, f"shifted image: assuming byte {-shift:#x} is physical address 0")


def _hole(low: int, shift: int) -> _Model:
    """A model with the PCI hole, in which the part below the hole may be shifted, too."""
    hole = _4G - shift
    before, after = pc_ranges(hole)
    word = f"image without the PCI hole: assuming byte {hole:#x} is address {_4G:#x}"
    if low > 0:
        before, word = Range(low, hole, 0), f"{word}, byte 0 is {low:#x}"
    elif low < 0:
        before, word = Range(0, hole + low, -low), f"{word}, byte {-low:#x} is 0"
    return _Model((before, after), shift, word)


def _shifts(memory: Memory) -> tuple[list[int], Counter[int], Counter[int]]:
    """(offsets of roots, shifts with a sub-tree below 4 GiB at its address, shifts with one above), with counts."""
    trees = _trees(memory)
    roots = [(place, tree) for place, tree in trees if _compatible(tree).startswith(COMPATIBLE_PREFIX)][: LIMITS.roots]
    blobs = [(place, _compatible(tree)) for place, tree in trees]
    for residue in {place % _PAGE for place, _ in roots}:
        pages = islice(memory.find_pages(_LUO_PAGE, at=residue), _BLOBS)
        blobs += [(page + residue, _LUO_PAGE) for page in pages]
    below, above = Counter[int](), Counter[int]()
    for named, kinds in {entry for _, tree in roots for entry in _named(tree)}:
        for place, kind in blobs:
            if kind.startswith(kinds):
                (below if named < _4G else above)[named - place] += 1
    return [place for place, _ in roots], below, above


def _named(root: fdt.Fdt) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """(address, possible first bytes) of sub-trees of known kinds."""
    for name, kinds in _KINDS.items():
        node = root.root.node(name)
        address = next((value for key in SUBTREE_PROPERTIES if (value := node.u64(key))), None) if node else None
        if address:
            yield address, kinds


def _trees(memory: Memory) -> list[tuple[int, fdt.Fdt]]:
    """(offset, tree) of the devicetrees on page boundaries, or anywhere if no root is on a page boundary."""
    found = list(_read_trees(memory, memory.find_pages(fdt.MAGIC)))
    if not any(_compatible(tree).startswith(COMPATIBLE_PREFIX) for _, tree in found):
        found = list(_read_trees(memory, memory.find(fdt.MAGIC)))
    return found


def _read_trees(memory: Memory, places: Iterator[int]) -> Iterator[tuple[int, fdt.Fdt]]:
    left = _TREE_BYTES
    for place in islice(places, _BLOBS):
        try:
            header = fdt.parse_header(memory.read(place, fdt.HEADER_SIZE))
            if header.totalsize > min(_TREE_SIZE, left):
                continue
            data = memory.read(place, header.totalsize)
            if any(kind in data for kind in _LOOKED_FOR):
                left -= len(data)
                yield place, fdt.parse(data, partial=True)
        except (FormatError, MissingMemory):
            continue


def _compatible(tree: fdt.Fdt) -> bytes:
    return tree.root.text("compatible") or b""
