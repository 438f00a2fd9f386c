# SPDX-License-Identifier: MIT
"""A state as a tree, the most important things first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from luoser.abi.release import SUBTREES
from luoser.checks import Report
from luoser.render.drawing import SHOWN, Drawing
from luoser.render.findings import VERDICT_STYLE, source_text
from luoser.render.luo import LuoDrawing
from luoser.render.out import Part, Tree, height, line, tree
from luoser.render.pending import draw_pending
from luoser.render.salvaged import salvaged_tree
from luoser.render.values import device_columns, place_text, record_text
from luoser.state import (
    Device,
    DeviceList,
    Direction,
    Handover,
    MapStatus,
    PciList,
    Preserved,
    Problem,
    State,
    Subtree,
)
from luoser.text import counted, human_size, rounded_size, safe_text

__all__ = [
    "handover_tree",
    "is_expected",
    "print_state",
    "print_state_line",
    "print_summary",
    "state_tree",
    "summary_trees",
]

_DIRECTION_STYLE = {Direction.OUTGOING: "good", Direction.INCOMING: "good", Direction.UNKNOWN: "note"}
_STATUS_STYLE = {
    MapStatus.INTACT: "good",
    MapStatus.DAMAGED: "problem",
    MapStatus.STALE: "note",
    MapStatus.UNREAD: "note",
    MapStatus.MISSING: "note",
    MapStatus.ABSENT: "quiet",
}
_MANY, _FIRST = 8, 3
"""Of more than so many problems with one code, only the first ones are shown."""
_EXPECTED = frozenset(("map-stale", "luo-reused"))
"""Codes of problems that say that the next kernel has consumed a thing."""
_LEFT_OUT = frozenset(("missing", "excluded"))
"""Codes of problems that say that bytes are not in the source."""
_SUMMARY = ("PCI", "LUO", "preserved memory")
"""Branches of a root that a summary has."""
_FORMS = {
    "radix": "radix tree",
    "chunks": "chunks of bitmaps",
    "orders": "radix tree of keys with an order",
    "frames": "radix tree of page frame numbers",
    "open": "radix tree of keys of an open form",
}
"""Forms of a map, and of other trees of pages, in words."""
_SCREEN = 56
"""Most lines of trees of 80 columns beside which source, verdict and notes fit a screen of 60."""
_AREAS = 8
"""Up to so many areas are in one line."""


def print_state(state: State, *, full: bool = False, folded: bool = True, depth: int | None = None) -> None:
    """Print every handover as a tree, then the problems, then what is to be expected.

    full:   show all items of long lists.
    folded: show like things in a row as one line, and neither facts that are as usual nor the words of notes.
    depth:  levels of the tree to show. None: all.
    """
    handovers = _by_weight(state.handovers)
    drawn = [handover_tree(handover, state, full=full, folded=folded) for handover in handovers]
    depths = [depth] * len(drawn)
    if folded and not full and depth is None:
        depths = _depths(drawn, [handover.is_consumed for handover in handovers])
    for root, levels in zip(drawn, depths, strict=True):
        if levels != depth:
            root.parts = *root.parts, ("  consumed: --all shows what is below", "quiet")
        tree(root, depth=levels)
    if state.salvaged is not None:
        tree(salvaged_tree(state.salvaged, folded=folded and not full), depth=depth)
    notes = [problem for problem in state.problems if is_expected(problem, state)]
    problems = [problem for problem in state.problems if problem not in notes]
    if problems:
        line((f"Problems: {len(problems)}", "problem"))
        _print_problems(problems, "problem", folded=folded and not full)
    if notes and folded and not full:
        _print_notes(notes)
    elif notes:
        line((f"Notes: {len(notes)}", "note"))
        _print_problems(notes, "note", folded=False)


def _by_weight(handovers: Sequence[Handover]) -> list[Handover]:
    """The handovers, those first that hand over something, and of these the ones that no kernel has consumed."""

    def key(handover: Handover) -> tuple[bool, bool]:
        is_written = handover.luo is not None and handover.luo.serialized
        return not (handover.pci or is_written or handover.pending), handover.is_consumed

    return sorted(handovers, key=key)


def _depths(drawn: Sequence[Tree], consumed: Sequence[bool]) -> list[int | None]:
    """Levels of each root. If the trees do not fit a screen, those that are consumed have less, except the first.

    The width of the terminal does not matter: a pipe has the same.
    """
    heights, depths = list(map(height, drawn)), list[int | None]([None] * len(drawn))
    for level in (2, 1):
        for number in reversed(range(1, len(drawn))):
            if consumed[number] and sum(heights) > _SCREEN:
                heights[number], depths[number] = height(drawn[number], depth=level), level
    return depths


def handover_tree(handover: Handover, state: State, *, full: bool = False, folded: bool = True) -> Tree:
    """A handover as a tree. The parameters are those of `print_state`."""
    return _Drawing(handover, state, full, folded).tree()


def state_tree(state: State, *head: str, full: bool = False, folded: bool = True) -> Tree:
    """A state as one tree: the source, then each handover, then the problems and notes.

    head: further lines about the source, safe to print.

    The other parameters are those of `print_state`.
    """
    root = Tree(((safe_text(state.source.name), "name"),))
    for text in head:
        root.add(text)
    for handover in _by_weight(state.handovers):
        root.children.append(handover_tree(handover, state, full=full, folded=folded))
    if state.salvaged is not None:
        root.children.append(salvaged_tree(state.salvaged, folded=folded and not full))
    notes = [problem for problem in state.problems if is_expected(problem, state)]
    problems = [problem for problem in state.problems if not is_expected(problem, state)]
    for title, found in (("problems", problems), ("notes", notes)):
        if not found:
            continue
        branch = root.add((title, "note"), f"  {len(found)}")
        shown = found if full else found[:SHOWN]
        for problem in shown:
            where = f"{problem.address:#x}  " if problem.address is not None else ""
            branch.add((problem.code, "note"), "  ", (where, "address"), safe_text(problem.message, again=True))
        if len(shown) < len(found):
            branch.add(f"the first {SHOWN} are shown; --full shows all")
    return root


def _print_problems(problems: Sequence[Problem], style: str, *, folded: bool) -> None:
    """Print a line for each problem. folded: of many with one code or at one address, only the first ones."""
    for shown, count, where in _folds(problems) if folded else [(problems, len(problems), "")]:
        for problem in shown:
            place = f"{problem.address:#x}" if problem.address is not None else "-"
            message = safe_text(problem.message, again=True)
            line((problem.code, style), "  ", (place, "address"), f"  {message}", first="  ", rest="    ")
        if count > len(shown):
            more = f"  … {count - len(shown)} more of {count}{where}; --all lists them"
            line((shown[0].code, style), more, first="  ", rest="    ")


def _folds(problems: Sequence[Problem]) -> Iterator[tuple[list[Problem], int, str]]:
    """(problems to show, number of those like them, of what) by the first of each."""
    codes = Counter(problem.code for problem in problems)
    groups = dict[tuple[str, int | None], list[Problem]]()
    for problem in problems:
        is_many = codes[problem.code] > _MANY
        groups.setdefault((problem.code, None if is_many else problem.address), []).append(problem)
    for (code, address), group in groups.items():
        if codes[code] > _MANY:
            yield group[:_FIRST], len(group), ""
        elif address is None or len(group) < _FIRST:
            yield group, len(group), ""
        else:
            yield group[:1], len(group), f" at {address:#x}"


def _print_notes(notes: Sequence[Problem]) -> None:
    """Print in a line what is nobody's fault: codes and addresses."""
    found = dict[str, list[int | None]]()
    for note in notes:
        found.setdefault(note.code, []).append(note.address)
    parts = list[Part]()
    for code, places in found.items():
        count = f" {len(places)} times" if len(places) > 1 else ""
        first = f" {places[0]:#x}" if len(places) == 1 and places[0] is not None else ""
        parts += [", ", (code, "note"), count, (first, "address")]
    line(
        (f"Notes: {len(notes)}", "note"),
        "  ",
        *parts[1:],
        " (consumed, or left out of a cut; --all explains)",
        rest="    ",
    )


def print_summary(state: State) -> None:
    """Print some lines for each handover: root, devices, sessions, FLBs, map; then the number of problems."""
    for root in summary_trees(state):
        line(*root.parts)
        for child in root.children:
            line(*child.parts, first="  ", rest="    ")
    if state.salvaged is not None:
        line(*salvaged_tree(state.salvaged).parts)
    notes = sum(is_expected(problem, state) for problem in state.problems)
    line(f"{len(state.problems) - notes} problems, {notes} notes")


def print_state_line(state: State, report: Report, *, machine: str) -> None:
    """Print source, verdict and what is handed over in a line.

    The other parameters are those of `luoser.render.findings.print_head`.
    """
    roots = "; ".join(map(_counts, _by_weight(state.handovers)))
    name, verdict = (safe_text(state.source.name), "name"), report.verdict.value
    line(name, ": ", (verdict, VERDICT_STYLE[verdict]), f"; {source_text(state.source, machine=machine)}; {roots}")


def _counts(handover: Handover) -> str:
    """Direction of a handover, and how many sessions, files and devices there are."""
    sessions = handover.luo.sessions if handover.luo is not None else ()
    numbers = (
        (len(sessions), "session"),
        (sum(len(session.files) for session in sessions), "file"),
        (sum(len(devices.devices) for devices in handover.pci), "PCI device"),
    )
    return ", ".join([handover.direction.value, *(counted(count, noun) for count, noun in numbers if count)])


def summary_trees(state: State) -> Iterator[Tree]:
    """A tree of two levels for each handover: the root, and what matters most below it."""
    for handover in _by_weight(state.handovers):
        root = handover_tree(handover, state)
        kept = Tree(root.parts)
        for child in root.children:
            if isinstance(child.parts[0], tuple) and child.parts[0][0].strip() in _SUMMARY:
                kept.add(*child.parts)
        yield kept


def is_expected(problem: Problem, state: State) -> bool:
    """Whether a problem is nobody's fault.

    It says what the next kernel does to a handover that it has taken over, or that a cut has no bytes of a file or a
    driver.
    """
    if problem.code in _LEFT_OUT and problem.about.endswith(".contents"):
        return True
    handover = next((one for one in state.handovers if one.address == problem.root), None)
    if handover is None or not handover.is_consumed:
        return False
    return problem.code in _EXPECTED or handover.may_be_freed(problem.about)


class _Drawing(Drawing):
    """Draws a whole handover. problems: with it."""

    problems: Sequence[Problem]

    def __init__(self, handover: Handover, state: State, full: bool, folded: bool) -> None:
        super().__init__(handover, state.source.page_size, full, folded and not full)
        problems = [problem for problem in state.problems if problem.root == handover.address]
        object.__setattr__(self, "problems", problems)

    def tree(self) -> Tree:
        """What matters most first."""
        handover, luo = self.handover, self.handover.luo
        number = f"  live update {luo.number}" if luo is not None and luo.number is not None else ""
        root = Tree(
            (
                ("KHO root ", "name"),
                (place_text(handover.address), "address"),
                f"  {safe_text(handover.compatible)}  ",
                (handover.direction.value, _DIRECTION_STYLE[handover.direction]),
                ", at the jump" if handover.at_jump else "",
                number,
            )
        )
        self._evidence(root)
        for devices in handover.pci:
            self._pci(root, devices)
        if luo is not None:
            LuoDrawing(handover, self.page_size, self.full, self.folded).draw(root, luo)
        elif any(problem.code == "luo-reused" for problem in self.problems):
            root.add(("LUO  ", "name"), ("reused", "note"), ": its page holds something else, as after a kexec")
        elif any(subtree.name == "LUO" for subtree in handover.subtrees):
            root.add(("LUO  ", "name"), ("cannot be read", "note"), ", see below")
        draw_pending(root, handover, folded=self.folded)
        self._subtrees(root)
        self._small_users(root)
        root.add(*self._preserved(handover.preserved))
        self._scratch(root)
        return root

    def _evidence(self, tree: Tree) -> None:
        """All of it where the direction is open; else the first one, which is the strongest."""
        words = self.handover.evidence
        if self.folded and self.handover.own and self.handover.direction is not Direction.UNKNOWN:
            words = words[:1]
        for word in words:
            tree.add((f"evidence: {safe_text(word, again=True)}", "quiet"))

    def _preserved(self, preserved: Preserved, label: str = "preserved memory") -> tuple[Part, ...]:
        status = (preserved.status.value, _STATUS_STYLE[preserved.status])
        what, name = _FORMS[preserved.form], (label, "name")
        if preserved.status is MapStatus.ABSENT:
            return name, "  ", status, ": the root has no map yet"
        place = (f"{preserved.address:#x}", "address")
        if preserved.map is None:
            why = {
                MapStatus.STALE: "pages reused",
                MapStatus.MISSING: self._lost(preserved.address),
                MapStatus.UNREAD: "luoser does not decode this form",
            }
            return name, f"  {what} at ", place, "  ", status, f": {why[preserved.status]}"
        size = preserved.map.pages * self.page_size
        exact = rounded_size(size) if self.folded else f"{preserved.map.pages} pages ({human_size(size)})"
        least = "" if preserved.map.complete else "at least "
        return name, f"  {what} at ", place, "  ", status, f": {least}{preserved.map.entries} entries, {exact}"

    def _lost(self, address: int) -> str:
        """Why the first page of a map cannot be read. address: of the page."""
        codes = {problem.code for problem in self.problems if problem.address == address}
        if "page-damaged" in codes:
            return "its page is damaged in this source"
        return "the dump tool left its page out" if "excluded" in codes else "not in this source"

    def _listed(self, tree: Tree, name: str, what: str, items: Sequence[tuple[Part, ...]]) -> None:
        """Add a branch with short items: few of them in one line, many below it."""
        if not self.folded or len(items) > _AREAS:
            branch = tree.add((name, "name"), f"  {what}")
            for item in items:
                branch.add(*item)
            return
        parts = [part for item in items for part in (", ", *item)]
        tree.add((name, "name"), f"  {what}: ", *parts[1:])

    def _scratch(self, tree: Tree) -> None:
        areas = self.handover.scratch or ()
        if areas:
            what = f"{counted(len(areas), 'area')}, {rounded_size(sum(area.size for area in areas))}"
            rows = [
                (f"{area.address:#x}-{area.address + area.size - 1:#x} {human_size(area.size)}",)
                if area.size
                else (f"{area.address:#x} empty",)
                for area in areas
            ]
            self._listed(tree, "scratch", what, rows)

    def _subtrees(self, tree: Tree) -> None:
        plain, others = list[Subtree](), list[Subtree]()
        for subtree in self.handover.subtrees:
            is_plain = subtree.detail is None and (subtree.fdt is None or subtree.name in SUBTREES)
            (plain if is_plain else others).append(subtree)
        if self.folded and not others:
            self._listed(tree, "sub-trees", f"{len(plain)}", [self._subtree(one) for one in plain])
            return
        branch = tree.add(("sub-trees", "name"), f"  {len(self.handover.subtrees)}")
        for subtree in self.handover.subtrees:
            entry = branch.add(*self._subtree(subtree))
            if subtree.detail is not None:
                entry.add(record_text(subtree.detail, full=self.full))
            elif subtree.fdt is not None and subtree in others:
                self.devicetree(entry, subtree.fdt.root)
            if subtree.page_tree is not None:
                entry.add(*self._preserved(subtree.page_tree, "page tree"))

    def _subtree(self, subtree: Subtree) -> tuple[Part, ...]:
        size = human_size(subtree.size) if subtree.size is not None else "size unknown"
        name = (safe_text(subtree.name), "name")
        if subtree.address is None:
            return name, " no address"
        return name, f" {subtree.address:#x}{'' if self.folded else f' {size}'}{self.note(subtree.address)}"

    def _small_users(self, tree: Tree) -> None:
        handover = self.handover
        if handover.kexec_metadata is not None:
            release, count = handover.kexec_metadata.previous_release, handover.kexec_metadata.kexec_count
            tree.add(("kexec-metadata", "name"), f"  written by {safe_text(release)}, kexec count {count}")
        if handover.memblock is not None:
            entries = handover.memblock.reservations
            what = f"{counted(len(entries), 'region')}, {human_size(sum(entry.size for entry in entries))}"
            rows = [((safe_text(one.name), "name"), f" {one.start:#x} {human_size(one.size)}") for one in entries]
            self._listed(tree, "memblock", what, rows)
        if handover.kho_test is not None:
            test = handover.kho_test
            found = f"{test.count} folios, {len(test.folios)} found, checksum {test.checksum:#x}"
            tree.add(("kho_test", "name"), f"  {found}")

    def _pci(self, tree: Tree, devices: PciList) -> None:
        via = ", ".join(safe_text(way) for way in devices.via)
        branch = tree.add(
            ("PCI", "name"),
            f"  {counted(len(devices.devices), 'device')}  {devices.layout} at ",
            (f"{devices.address:#x}", "address"),
            f"{self.note(devices.address)}  via {via}",
        )
        if not (self.folded and devices.confidence.startswith("the only layout that fits, by shape")):
            branch.add((f"layout: {safe_text(devices.confidence, again=True)}", "quiet"))
        shown = self.some(devices.devices, branch)
        for members, group in groupby(shown, lambda device: self._members(devices.devices, device)):
            run = list(group)
            for some in [run] if self.folded else [[device] for device in run]:
                names = [part for device in some for part in (", ", (device.name, "name"))]
                each = " each" if len(some) > 1 and members else ""
                branch.add(*names[1:], f"{members}{each}")
        for bus in devices.buses:
            branch.add(f"bus {bus['domain']:04x}:{bus['number']:02x}")

    def _members(self, devices: DeviceList, device: Device) -> str:
        columns = device_columns(devices, device, self.map, brief=self.folded)
        return "".join(f"  {value}" if name == "flags" else f"  {name} {value}" for name, value in columns)
