# SPDX-License-Identifier: MIT
"""Changes in one handover: added, removed, changed, or consumed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.diff.gaps import UNCOMPARED
from luoser.diff.kexec_metadata import metadata_changes
from luoser.diff.kho_test import test_changes
from luoser.diff.luo import luo_changes
from luoser.diff.memblock import memblock_changes
from luoser.diff.model import Change, Kind
from luoser.diff.pci import pci_changes
from luoser.diff.preserved import map_changes
from luoser.diff.sides import Sides, member_changes, one_sided, paired, path_part, text_of
from luoser.fdt import Fdt
from luoser.state import Handover, State

__all__ = ["handover_changes"]


def handover_changes(before: Handover, after: Handover, states: tuple[State, State]) -> Iterator[Change]:
    """All changes in one handover.

    before: first handover.
    after:  the same handover later.
    states: that they belong to, for the problems.
    """
    was, met = (
        tuple(problem for problem in state.problems if problem.root == one.address)
        for one, state in zip((before, after), states, strict=True)
    )
    sides = Sides(before, after, met, states[1].source.page_size, was)
    yield from member_changes("", before, after, ("address", "compatible"))
    yield from _tree("fdt", before.fdt, after.fdt)
    if before.direction is not after.direction:
        kind = Kind.PROGRESS if after.is_consumed else Kind.CHANGED
        yield Change(kind=kind, where="direction", before=before.direction.value, after=after.direction.value)
    if before.scratch is not None and after.scratch is not None and before.scratch != after.scratch:
        yield Change(kind=Kind.CHANGED, where="scratch", before=_areas(before), after=_areas(after))
    for changes in _SUBJECTS:
        yield from changes(sides)
    yield from _damage(sides)


def _damage(sides: Sides) -> Iterator[Change]:
    """What the reader objected to on one side only: neither pages that are not there, nor what was consumed."""
    before, after = (
        {(one.about or "root", one.code): one.message for one in problems if one.code not in _NO_DAMAGE}
        for problems in (sides.was, sides.met)
    )
    for key in dict.fromkeys((*before, *after)):
        about, code = key
        if (key in before) == (key in after) or (sides.consumed and sides.after.may_be_freed(about)):
            continue
        if about.endswith(".contents"):
            continue
        said = before.get(key) or after.get(key)
        yield Change(
            kind=Kind.CHANGED,
            where=f"damage/{path_part(about)}/{code}",
            before="damaged" if key in before else "sound",
            after="damaged" if key in after else "sound",
            note=said or "",
        )


_NO_DAMAGE = UNCOMPARED | {"zero-memfd", "zero-flb", "map-width", "direction-by-map", "kho-version", "map-stale"}
"""Codes of problems: what is listed as not compared, and what need not be damage."""


def _areas(handover: Handover) -> str:
    return ", ".join(f"{area.address:#x} {area.size:#x}" for area in handover.scratch or ())


def _subtrees(sides: Sides) -> Iterator[Change]:
    for name, old, new in paired(sides.before.subtrees, sides.after.subtrees, lambda subtree: subtree.name):
        where = f"subtrees/{path_part(name)}"
        if new is None or old is None:
            yield one_sided(where, old, new, lambda subtree: text_of(subtree.address))
        else:
            yield from member_changes(where, old, new, ("address", "size"))
            if not (sides.consumed and sides.after.may_be_freed(f"subtrees[{sides.after.subtrees.index(new)}]")):
                yield from _tree(f"{where}/fdt", old.fdt, new.fdt)


def _tree(where: str, old: Fdt | None, new: Fdt | None) -> Iterator[Change]:
    """Changes of a devicetree as a whole (the nodes of the root are compared elsewhere), and of its header."""
    if old is None or new is None:
        return
    if old.root != new.root and where != "fdt":
        yield Change(kind=Kind.CHANGED, where=where, note="its nodes or values differ")
    names = old.header.__slots__ if old.root == new.root else _FIXED
    yield from member_changes(where, old.header, new.header, names)


_FIXED = ("magic", "version", "last_comp_version", "boot_cpuid_phys")
"""Members of a header that do not depend on the tree."""
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
