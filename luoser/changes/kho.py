# SPDX-License-Identifier: MIT
"""Changes in one handover: added, removed, changed, or consumed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.gaps import BROKEN, UNCOMPARED, named_path
from luoser.changes.handler import record_changes
from luoser.changes.kexec_metadata import metadata_changes
from luoser.changes.kho_test import test_changes
from luoser.changes.luo import luo_changes
from luoser.changes.memblock import memblock_changes
from luoser.changes.model import Change, Kind, NotCompared
from luoser.changes.pci import pci_changes
from luoser.changes.pending import pending_changes
from luoser.changes.preserved import map_changes, page_tree_changes
from luoser.changes.sides import NOT_THERE, Sides, member_changes, one_sided, paired, path_part, text_of
from luoser.fdt import Fdt, Node
from luoser.state import Direction, Handover, State
from luoser.text import decode_name, safe_text

__all__ = ["damage_changes", "damaged_alike", "handover_changes"]


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
        yield _direction(before, after)
    if before.scratch is not None and after.scratch is not None and before.scratch != after.scratch:
        yield Change(kind=Kind.CHANGED, where="scratch", before=_areas(before), after=_areas(after))
    for changes in _SUBJECTS:
        yield from changes(sides)
    yield from damage_changes((before, states[0]), (after, states[1]))


def _direction(before: Handover, after: Handover) -> Change:
    """The change of the direction. One that is not known cannot be compared."""
    unknown = Direction.UNKNOWN in (before.direction, after.direction)
    kind = Kind.UNREAD if unknown else Kind.PROGRESS if after.is_consumed else Kind.CHANGED
    note = "it is not known of one of the sources, whose evidence says why" if kind is Kind.UNREAD else ""
    return Change(kind=kind, where="direction", before=before.direction.value, after=after.direction.value, note=note)


def damage_changes(before: tuple[Handover, State] | None, after: tuple[Handover, State] | None) -> Iterator[Change]:
    """What the reader objected to on one side only: neither pages that are not there, nor what was freed.

    before: first handover, and its state. None: it is not there.
    after:  the same handover later.
    """
    old, new = (_damage(*side) if side is not None else {} for side in (before, after))
    for key in dict.fromkeys((*old, *new)):
        if (key in old) != (key in new):
            yield Change(
                kind=Kind.CHANGED,
                where=f"damage/{path_part(key[0])}/{key[1]}",
                before=_condition(before, key, old),
                after=_condition(after, key, new),
                note=old.get(key) or new.get(key) or "",
            )


def damaged_alike(before: tuple[Handover, State], after: tuple[Handover, State]) -> Iterator[NotCompared]:
    """What was not understood on either side: nothing is known to be the same there.

    before: first handover, and its state.
    after:  the same handover later.
    """
    old = _damage(*before)
    for key, message in _damage(*after).items():
        if key in old and key[1] in BROKEN:
            yield NotCompared(where=named_path(after[0], key[0]), reason=f"damaged in both: {message}")


_Damage = dict[tuple[str, str], str]
"""Messages of problems, by path of the thing and code."""


def _damage(handover: Handover, state: State) -> _Damage:
    problems = [problem for problem in state.problems if problem.root == handover.address]
    cut = {(problem.about, "short-list") for problem in problems if problem.code in NOT_THERE}
    return {
        (problem.about or "root", problem.code): problem.message
        for problem in problems
        if problem.code not in _NO_DAMAGE and (problem.about, problem.code) not in cut
        if not problem.about.endswith(".contents") and not handover.may_be_freed(problem.about)
    }


def _condition(side: tuple[Handover, State] | None, key: tuple[str, str], found: _Damage) -> str:
    """The condition of a thing on one side in a word."""
    if side is None:
        return "not there"
    return "damaged" if key in found else "freed" if side[0].may_be_freed(key[0]) else "sound"


_NO_DAMAGE = UNCOMPARED | {"zero-memfd", "zero-flb", "map-width", "direction-by-map", "kho-version", "map-stale"}
"""Codes of problems: what is listed as not compared, and what need not be damage."""


def _areas(handover: Handover) -> str:
    return ", ".join(f"{area.address:#x} {area.size:#x}" for area in handover.scratch or ())


def _subtrees(sides: Sides) -> Iterator[Change]:
    trees = sides.before.subtrees, sides.after.subtrees
    places = {id(entry): f"subtrees[{index}]" for entries in trees for index, entry in enumerate(entries)}
    for name, old, new in paired(*trees, lambda subtree: subtree.name):
        where = f"subtrees/{path_part(name)}"
        if new is None or old is None:
            yield one_sided(where, old, new, lambda subtree: text_of(subtree.address))
        else:
            place_before, place = places[id(old)], places[id(new)]
            yield from member_changes(where, old, new, ("address", "size"))
            if not sides.after.may_be_freed(place):
                yield from _tree(f"{where}/fdt", old.fdt, new.fdt)
                yield from page_tree_changes(f"{where}/page_tree", old.page_tree, new.page_tree)
            yield from record_changes(sides, where, place, place_before, old.detail, new.detail)
    if sides.before.fdt is not None and sides.after.fdt is not None:
        yield from _shapes(sides.before.fdt.root, sides.after.fdt.root)


def _shapes(before: Node, after: Node) -> Iterator[Change]:
    """Changes of the names and sizes of the properties of each sub-tree's node in the root."""
    for name, old, new in paired(before.nodes, after.nodes, lambda node: node.name):
        if old is not None and new is not None and _shape(old) != _shape(new):
            where = f"subtrees/{path_part(decode_name(name))}/properties"
            yield Change(kind=Kind.CHANGED, where=where, before=_shape(old), after=_shape(new))


def _shape(node: Node) -> str:
    found = [f"{safe_text(decode_name(name))} {len(value):#x}" for name, value in node.properties]
    return ", ".join([*found, *(f"node {safe_text(decode_name(child.name))}" for child in node.nodes)])


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
    pending_changes,
    pci_changes,
    memblock_changes,
    metadata_changes,
    test_changes,
)
"""In the order of their changes."""
