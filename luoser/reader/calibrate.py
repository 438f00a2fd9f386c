# SPDX-License-Identifier: MIT
"""Puts a raw image right whose bytes lie elsewhere than it seems: a KHO root names where its sub-trees are.

An image can be shifted as a whole (it starts at the machine's first RAM address, or behind a header), or lack
the hole that a PC has below 4 GiB. A model of either kind is taken only when the handover reads better by at
least two structures with it than without, and better than with any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from luoser import fdt
from luoser.abi.kho import COMPATIBLE_PREFIX, SUBTREE_PROPERTIES
from luoser.errors import FormatError, MissingMemory, UsageError
from luoser.memory.raw import Range, pc_ranges
from luoser.memory.source import Memory
from luoser.state import MapStatus, State

__all__ = ["calibrated"]

_4G = 1 << 32
_TREES = 4096
_MODELS = 16
_LUO_PAGE = b"luo-v"
_KINDS = {
    "LUO": (b"luo-v", b"luo-session-v"),
    "memblock": (b"memblock-v",),
    "kho_test": (b"kho-test-v",),
}


def calibrated(memory: Memory, state: State, read_again: Callable[[], State]) -> State:
    """The state of an image as it is, or with its bytes put where its own KHO root says.

    memory: a source whose addresses are a guess; it is changed when another model is better. state: what it
    reads like now. read_again: reads it once more.
    """
    best, chosen, ties = state, None, 0
    whole = [Range(0, None, 0)]
    remarks = list(memory.remarks)
    for ranges, word in _models(memory):
        try:
            memory.place(ranges)
        except UsageError:  # the image is too small for this one
            continue
        guess = read_again()
        if _score(guess) > _score(best) and _score(guess) >= _score(state) + 2:
            best, chosen, ties = guess, (ranges, word), 0
        elif chosen is not None and _score(guess) == _score(best):
            ties += 1
    if chosen is None or ties:
        memory.place(whole)
        memory.remarks[:] = remarks
        return state
    memory.place(chosen[0])
    memory.remarks[:] = [*remarks, f"{chosen[1]}; --map says otherwise"]
    memory.is_guess = False
    return read_again()


def _score(state: State) -> int:
    """How many structures were where they should be."""
    found = 0
    for handover in state.handovers:
        parts = (handover.luo, handover.memblock, handover.kexec_metadata, handover.kho_test)
        found += sum(part is not None for part in parts)
        preserved = handover.preserved
        found += preserved.status is MapStatus.INTACT and preserved.map is not None and preserved.map.entries > 0
    return found


def _models(memory: Memory) -> Iterator[tuple[Sequence[Range], str]]:
    """Where the bytes may belong: each shift that puts some sub-tree where its root says."""
    trees = _trees(memory)
    blobs = [(place, _kind(tree)) for place, tree in trees]
    blobs += [(place, _LUO_PAGE) for place in memory.find_pages(_LUO_PAGE)]
    shifts: dict[int, int] = {}
    for _, tree in trees:
        if not (tree.root.text("compatible") or b"").startswith(COMPATIBLE_PREFIX):
            continue
        for node in tree.root.nodes:
            named = next((value for name in SUBTREE_PROPERTIES if (value := node.u64(name)) is not None), None)
            kinds = _KINDS.get(node.name.decode("ascii", "replace"), ())
            for place, kind in blobs:
                if named and any(kind.startswith(wanted) for wanted in kinds):
                    shifts[named - place] = shifts.get(named - place, 0) + 1
    for shift in sorted(shifts, key=lambda shift: -shifts[shift])[:_MODELS]:
        if shift > 0:
            yield [Range(shift, None, 0)], f"shifted image: its byte 0 is taken for physical address {shift:#x}"
            if shift < _4G:
                hole = _4G - shift
                yield pc_ranges(hole), f"image without the PC's hole: byte {hole:#x} is taken for address {_4G:#x}"
        elif shift < 0:
            yield [Range(0, None, -shift)], f"shifted image: its byte {-shift:#x} is taken for physical address 0"


def _trees(memory: Memory) -> list[tuple[int, fdt.Fdt]]:
    """(address, tree) of the devicetrees, on page boundaries or, where no root is on one, anywhere."""
    found = list(_read_trees(memory, memory.find_pages(fdt.MAGIC)))
    if not any((tree.root.text("compatible") or b"").startswith(COMPATIBLE_PREFIX) for _, tree in found):
        found = list(_read_trees(memory, memory.find(fdt.MAGIC)))
    return found


def _read_trees(memory: Memory, places: Iterator[int]) -> Iterator[tuple[int, fdt.Fdt]]:
    for count, place in enumerate(places):
        if count >= _TREES:
            return
        try:
            header = fdt.parse_header(memory.read(place, fdt.HEADER_SIZE))
            if header.totalsize <= 1 << 16:
                yield place, fdt.parse(memory.read(place, header.totalsize), partial=True)
        except (FormatError, MissingMemory):
            continue


def _kind(tree: fdt.Fdt) -> bytes:
    return tree.root.text("compatible") or b""
