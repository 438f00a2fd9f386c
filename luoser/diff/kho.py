# SPDX-License-Identifier: MIT
"""Changes in one handover: added, removed, changed, or consumed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.diff.kexec_metadata import metadata_changes
from luoser.diff.kho_test import test_changes
from luoser.diff.luo import luo_changes
from luoser.diff.memblock import memblock_changes
from luoser.diff.model import Change, Kind
from luoser.diff.pci import pci_changes
from luoser.diff.preserved import map_changes
from luoser.diff.sides import Sides, member_changes, one_sided, paired, path_part, text_of
from luoser.state import Handover, State

__all__ = ["handover_changes"]


def handover_changes(before: Handover, after: Handover, states: tuple[State, State]) -> Iterator[Change]:
    """All changes in one handover.

    before: first handover.
    after:  the same handover later.
    states: that they belong to, for the problems.
    """
    met = tuple(problem for problem in states[1].problems if problem.root == after.address)
    sides = Sides(before, after, met, states[1].source.page_size)
    yield from member_changes("", before, after, ("address", "compatible"))
    if before.direction is not after.direction:
        kind = Kind.PROGRESS if after.is_consumed else Kind.CHANGED
        yield Change(kind=kind, where="direction", before=before.direction.value, after=after.direction.value)
    if before.scratch is not None and after.scratch is not None and before.scratch != after.scratch:
        yield Change(kind=Kind.CHANGED, where="scratch", before=_areas(before), after=_areas(after))
    for changes in _SUBJECTS:
        yield from changes(sides)


def _areas(handover: Handover) -> str:
    return ", ".join(f"{area.address:#x} {area.size:#x}" for area in handover.scratch or ())


def _subtrees(sides: Sides) -> Iterator[Change]:
    for name, old, new in paired(sides.before.subtrees, sides.after.subtrees, lambda subtree: subtree.name):
        where = f"subtrees/{path_part(name)}"
        if new is None or old is None:
            yield one_sided(where, old, new, lambda subtree: text_of(subtree.address))
        else:
            yield from member_changes(where, old, new, ("address", "size"))


_SUBJECTS = (
    map_changes,
    _subtrees,
    luo_changes,
    pci_changes,
    memblock_changes,
    metadata_changes,
    test_changes,
)
"""In the order of their changes."""
