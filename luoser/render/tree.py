# SPDX-License-Identifier: MIT
"""A state as a tree. Everything has its physical address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from luoser.abi.luo import is_test_flb
from luoser.abi.memfd import SEALS
from luoser.abi.release import SUBTREES
from luoser.abi.schema import set_bits
from luoser.errors import FormatError
from luoser.fdt import MAGIC, Node, parse
from luoser.render.out import Part, Tree, line, tree
from luoser.render.pending import draw_pending
from luoser.render.runs import file_runs, ranges_text, session_runs
from luoser.render.values import members, place_text, property_text
from luoser.state import (
    Contents,
    Device,
    DeviceList,
    Direction,
    File,
    Flb,
    Handover,
    Luo,
    MapStatus,
    Memfd,
    PciList,
    Preserved,
    PreservedMap,
    Problem,
    Record,
    Session,
    State,
)
from luoser.text import counted, human_size, rounded_size, safe_text

__all__ = [
    "device_columns",
    "handover_tree",
    "is_expected",
    "memfd_text",
    "preserved_note",
    "print_state",
    "print_summary",
    "record_text",
    "state_tree",
    "summary_trees",
]

_WORDS = 16
"""Most words of an array in a line. --full and JSON have all."""
_SHOWN = 200
"""Most items of one list in the tree. --full and JSON have all."""
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


def print_state(state: State, *, full: bool = False, folded: bool = True, depth: int | None = None) -> None:
    """Print every handover as a tree, then the problems, then what is to be expected.

    full:   show all items of long lists.
    folded: show like files and sessions in a row as one line.
    depth:  levels of the tree to show. None: all.
    """
    for handover in state.handovers:
        tree(handover_tree(handover, state, full=full, folded=folded), depth=depth)
    notes = [problem for problem in state.problems if is_expected(problem, state)]
    for title, style, found in (
        ("Problems", "problem", [problem for problem in state.problems if problem not in notes]),
        ("Notes", "note", notes),
    ):
        if found:
            line((f"{title}: {len(found)}", style))
            _print_problems(found, style, folded=folded and not full)


def handover_tree(handover: Handover, state: State, *, full: bool = False, folded: bool = True) -> Tree:
    """A handover as a tree. The parameters are those of `print_state`."""
    return _Drawing(handover, state, full, folded).tree()


def state_tree(state: State, *head: str, full: bool = False, folded: bool = True) -> Tree:
    """A state as one tree: the source, then each handover, then the problems and notes.

    head: further lines about the source, safe to print.

    The other parameters are those of `print_state`.
    """
    root = Tree(((safe_text(state.source.path), "name"),))
    for text in head:
        root.add(text)
    root.children += [handover_tree(handover, state, full=full, folded=folded) for handover in state.handovers]
    notes = [problem for problem in state.problems if is_expected(problem, state)]
    problems = [problem for problem in state.problems if not is_expected(problem, state)]
    for title, found in (("problems", problems), ("notes", notes)):
        if not found:
            continue
        branch = root.add((title, "note"), f"  {len(found)}")
        shown = found if full else found[:_SHOWN]
        for problem in shown:
            where = f"{problem.address:#x}  " if problem.address is not None else ""
            branch.add((problem.code, "note"), "  ", (where, "address"), safe_text(problem.message, again=True))
        if len(shown) < len(found):
            branch.add(f"the first {_SHOWN} are shown; --full shows all")
    return root


def _print_problems(problems: Sequence[Problem], style: str, *, folded: bool) -> None:
    """Print a line for each problem. folded: of many with one code, only the first ones, and the number of all."""
    counts = Counter(problem.code for problem in problems)
    shown = Counter[str]()
    for problem in problems:
        shown[problem.code] += 1
        if folded and counts[problem.code] > _MANY and shown[problem.code] > _FIRST:
            continue
        where = f"{problem.address:#x}" if problem.address is not None else "-"
        message = safe_text(problem.message, again=True)
        line((problem.code, style), "  ", (where, "address"), f"  {message}", first="  ", rest="    ")
        if folded and counts[problem.code] > _MANY and shown[problem.code] == _FIRST:
            more = f"  … {counts[problem.code] - _FIRST} more of {counts[problem.code]}; --all lists them"
            line((problem.code, style), more, first="  ", rest="    ")


def print_summary(state: State) -> None:
    """Print some lines for each handover: root, devices, sessions, FLBs, map; then the number of problems."""
    for root in summary_trees(state):
        line(*root.parts)
        for child in root.children:
            line(*child.parts, first="  ", rest="    ")
    notes = sum(is_expected(problem, state) for problem in state.problems)
    line(f"{len(state.problems) - notes} problems, {notes} notes")


def summary_trees(state: State) -> Iterator[Tree]:
    """A tree of two levels for each handover: the root, and what matters most below it."""
    for handover in state.handovers:
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


def preserved_note(found: PreservedMap | None, address: int) -> str:
    """Whether an address is preserved, in words.

    found: the preserved map. None if it cannot be read.
    """
    if found is None:
        return "map not readable"
    block = found.find(address)
    if block is None:
        return "not preserved" if found.complete else "not in the part of the map that can be read"
    offset = address - block.address
    return f"preserved, order {block.order}" + (f", {offset:#x} into its block" if offset else "")


def device_columns(devices: DeviceList, device: Device, found: PreservedMap | None) -> Iterator[tuple[str, str]]:
    """(member, text) for each member of a device except `path`, in the order of the layout.

    devices: the list that it is in. found: the preserved map. None if it cannot be read.
    """
    for name, value in device.fields.items():
        if name == "path":
            continue
        column = devices.column(name)
        if column is not None and column.kind == "flags" and isinstance(value, int):
            yield name, " | ".join(set_bits(value, column.bit_names)) or "0"
        elif column is not None and column.kind in ("address", "handle") and isinstance(value, int):
            yield name, f"{value:#x} ({preserved_note(found, value)})" if value else "0x0"
        elif column is not None and column.is_hex and isinstance(value, int):
            yield name, f"{value:#x}"
        elif isinstance(value, tuple):
            used = sum(1 for item in value if item.get("end"))
            yield name, f"{used} of {len(value)} in use"
        else:
            yield name, safe_text(value) if isinstance(value, str) else str(value)


def record_text(record: Record, *, full: bool = False) -> str:
    """A struct in a line: each layout that fits, arrays, and why these layouts. full: show all words of arrays."""
    readings = [f"{layout}: {members(fields)}" for layout, fields in record.readings]
    arrays = [f"  {safe_text(array.member)}: {_words(array.words, full)}" for array in record.arrays]
    return f"{' or '.join(readings)}{''.join(arrays)}  ({safe_text(record.confidence, again=True)})"


def _words(words: tuple[int, ...], full: bool) -> str:
    shown = words if full else words[:_WORDS]
    more = f" and {len(words) - len(shown)} more" if len(words) > len(shown) else ""
    return f"[{', '.join(f'{word:#x}' for word in shown)}]{more}"


class _Drawing:
    """Draws one handover."""

    def __init__(self, handover: Handover, state: State, full: bool, folded: bool) -> None:
        self.handover, self.page_size = handover, state.source.page_size
        self.full, self.folded = full, folded and not full
        self.problems = [problem for problem in state.problems if problem.root == handover.address]
        self.map = handover.preserved.map

    def tree(self) -> Tree:
        """What matters most first."""
        handover = self.handover
        root = Tree(
            (
                ("KHO root ", "name"),
                (place_text(handover.address), "address"),
                f"  {safe_text(handover.compatible)}  ",
                (handover.direction.value, _DIRECTION_STYLE[handover.direction]),
            )
        )
        for word in handover.evidence:
            root.add((f"evidence: {safe_text(word, again=True)}", "quiet"))
        for devices in handover.pci:
            self._pci(root, devices)
        if handover.luo is not None:
            self._luo(root, handover.luo)
        elif any(subtree.name == "LUO" for subtree in handover.subtrees):
            root.add(("LUO  ", "name"), ("cannot be read", "note"), ", see below")
        draw_pending(root, handover, folded=self.folded)
        self._subtrees(root)
        self._small_users(root)
        root.add(*self._preserved(handover.preserved))
        self._scratch(root)
        return root

    def _preserved(self, preserved: Preserved) -> tuple[Part, ...]:
        status = (preserved.status.value, _STATUS_STYLE[preserved.status])
        what = {"radix": "radix tree", "chunks": "chunks of bitmaps"}[preserved.form]
        name = ("preserved memory", "name")
        if preserved.status is MapStatus.ABSENT:
            return name, "  ", status, ": the root has no map yet"
        place = (f"{preserved.address:#x}", "address")
        if preserved.map is None:
            why = {
                MapStatus.STALE: "its pages hold something else, as after a kexec; not decoded",
                MapStatus.MISSING: self._lost(),
                MapStatus.UNREAD: "luoser does not decode this form",
            }
            return name, f"  {what} at ", place, "  ", status, f": {why[preserved.status]}"
        size = human_size(preserved.map.pages * self.page_size)
        least = "" if preserved.map.complete else "at least "
        count = f": {least}{preserved.map.entries} entries, {preserved.map.pages} pages ({size})"
        return name, f"  {what} at ", place, "  ", status, count

    def _lost(self) -> str:
        """Why the first page of the map cannot be read."""
        codes = {problem.code for problem in self.problems if problem.about == "preserved"}
        if "page-damaged" in codes:
            return "its page is damaged in this source"
        return "the dump tool left its page out" if "excluded" in codes else "not in this source"

    def _scratch(self, tree: Tree) -> None:
        if self.handover.scratch:
            branch = tree.add(("scratch", "name"), f"  {len(self.handover.scratch)} areas")
            for area in self.handover.scratch:
                branch.add(
                    f"{area.address:#x}-{area.address + area.size - 1:#x}  {human_size(area.size)}"
                    if area.size
                    else f"{area.address:#x}  empty"
                )

    def _subtrees(self, tree: Tree) -> None:
        branch = tree.add(("sub-trees", "name"), f"  {len(self.handover.subtrees)}")
        for subtree in self.handover.subtrees:
            size = human_size(subtree.size) if subtree.size is not None else "size unknown"
            where = (
                f"{subtree.address:#x}  {size}  ({preserved_note(self.map, subtree.address)})"
                if subtree.address is not None
                else "no address"
            )
            entry = branch.add((safe_text(subtree.name), "name"), f"  {where}")
            if subtree.detail is not None:
                entry.add(record_text(subtree.detail, full=self.full))
            elif subtree.fdt is not None and subtree.name not in SUBTREES:
                self._devicetree(entry, subtree.fdt.root)

    def _devicetree(self, branch: Tree, root: Node) -> None:
        """The properties and nodes of a devicetree of unknown kind. Numbers that are preserved addresses say so."""
        size = sum(1 + len(node.properties) for node in root.walk()) - 1
        if not self.full and size > _SHOWN:
            branch.add((f"the first {_SHOWN} of {size} lines follow; --full shows all", "note"))
            size = _SHOWN
        self._lines(branch, root, size)

    def _lines(self, branch: Tree, node: Node, left: int) -> int:
        """Draw the lines of a node, at most so many. Returns how many are left."""
        for name, value in node.properties[:left]:
            number = int.from_bytes(value, "little") if len(value) == 8 else 0
            block = self.map.find(number) if self.map is not None and number else None
            note = f"  ({preserved_note(self.map, number)})" if block is not None else ""
            branch.add(f"{safe_text(name)} = {property_text(value)}{note}")
        left -= len(node.properties[:left])
        for child in node.nodes:
            if left <= 0:
                break
            left = self._lines(branch.add((safe_text(child.name), "name")), child, left - 1)
        return left

    def _foreign(self, branch: Tree, contents: tuple[Contents, ...]) -> None:
        """The devicetree in the bytes of an unknown handler or FLB, if they are one."""
        if contents and contents[0].data.startswith(MAGIC):
            with suppress(FormatError):
                self._devicetree(branch, parse(contents[0].data.ljust(contents[0].size, b"\0"), partial=True).root)

    def _small_users(self, tree: Tree) -> None:
        handover = self.handover
        if handover.kexec_metadata is not None:
            release, count = handover.kexec_metadata.previous_release, handover.kexec_metadata.kexec_count
            tree.add(("kexec-metadata", "name"), f"  written by {safe_text(release)}, kexec count {count}")
        if handover.memblock is not None:
            size = sum(entry.size for entry in handover.memblock.reservations)
            count = len(handover.memblock.reservations)
            branch = tree.add(("memblock", "name"), f"  {counted(count, 'region')}, {human_size(size)}")
            for entry in handover.memblock.reservations:
                branch.add((safe_text(entry.name), "name"), f"  {entry.start:#x}  {human_size(entry.size)}")
        if handover.kho_test is not None:
            test = handover.kho_test
            found = f"{test.count} folios, {len(test.folios)} found, checksum {test.checksum:#x}"
            tree.add(("kho_test", "name"), f"  {found}")

    def _luo(self, tree: Tree, luo: Luo) -> None:
        number = f"live update {luo.number}" if luo.number is not None else "no number"
        if luo.serialized:
            state = ("serialised", "good")
        elif self.handover.direction is Direction.INCOMING:
            state = ("empty: consumed, or nothing was handed over", "note")
        elif self.handover.direction is Direction.OUTGOING:
            state = ("not serialised yet", "note")
        else:
            state = ("empty: not serialised yet, or consumed", "note")
        files = [file for session in luo.sessions for file in session.files]
        total = f": {counted(len(luo.sessions), 'session')}, {self._files_text(files)}" if luo.serialized else ""
        place = f"{safe_text(luo.compatible or luo.layout)} at "
        branch = tree.add(
            ("LUO", "name"), f"  {place}", (f"{luo.address:#x}", "address"), f"  {number}  ", state, total
        )
        if not luo.serialized:
            return
        if self.handover.direction is Direction.INCOMING:
            branch.add(("as handed over; retrieved or finished parts are shown until their pages are reused", "quiet"))
        for entry in luo.subsystems:
            branch.add("subsystem ", (safe_text(entry.name), "name"), f"  data {entry.data:#x}")
        for run in session_runs(luo.sessions) if self.folded else [(session,) for session in luo.sessions]:
            self._sessions(branch, run)
        for flb in luo.flbs:
            self._foreign(branch.add(*self._flb(flb)), flb.contents)

    def _some(self, items: Any, branch: Tree) -> Any:
        """All items with --full. Otherwise the first ones, after a line with the number of items."""
        if self.full or len(items) <= _SHOWN:
            return items
        branch.add((f"the first {_SHOWN} of {len(items)} follow; --full shows all", "note"))
        return items[:_SHOWN]

    def _files_text(self, files: Sequence[File]) -> str:
        """The number of files, and the size of the memfds among them."""
        size = sum(file.memfd.size for file in files if file.memfd is not None)
        return counted(len(files), "file") + (f", {rounded_size(size)}" if size else "")

    def _sessions(self, branch: Tree, run: Sequence[Session]) -> None:
        """One session, or several in a row whose files are alike."""
        first, last = run[0], run[-1]
        names = [("session ", ""), (safe_text(first.name) or "(no session)", "name")]
        if len(run) > 1:
            names = [(f"{len(run)} sessions ", ""), (safe_text(first.name), "name"), (" … ", "")]
            names.append((safe_text(last.name), "name"))
        places = [f"{one.address:#x}" for one in (first, last)[: len(run)] if one.address is not None]
        where: list[Part] = ["  ", ("-".join(places), "address")] if places else []
        each = " each" if len(run) > 1 else ""
        leaf = branch.add(*names, *where, f"  {self._files_text(first.files)}{each}")
        if not self.folded:
            for file in self._some(first.files, leaf):
                self._file(leaf, file)
            return
        for files in file_runs(first.files):
            if len(files) > 1:
                self._files(leaf, files)
            else:
                self._file(leaf, files[0])

    def _file(self, leaf: Tree, file: File) -> None:
        head = (f"file {file.token:#x}  ", (safe_text(file.compatible), "name"), f"  data {file.data:#x}")
        note = f" ({preserved_note(self.map, file.data)})" if file.memfd is None else f"  {memfd_text(file.memfd)}"
        entry = leaf.add(*head, note)
        if file.detail is not None:
            entry.add(record_text(file.detail, full=self.full))
        self._foreign(entry, file.contents)

    def _files(self, leaf: Tree, files: Sequence[File]) -> None:
        """A line for files that are alike but for token and address."""
        first, last = files[0], files[-1]
        tokens = ranges_text([file.token for file in files])
        memfd = first.memfd
        assert memfd is not None
        what = "memfds" if first.compatible.startswith("memfd") else "files"
        size = human_size(memfd.size * len(files))
        leaf.add(
            f"{len(files)} {what} of {human_size(memfd.size)}, tokens {tokens}  ",
            (safe_text(first.compatible), "name"),
            f"  data {first.data:#x} … {last.data:#x}  {memfd_text(memfd)} each, {size} in all",
        )

    def _flb(self, flb: Flb) -> tuple[Part, ...]:
        note = "magic of a test FLB" if is_test_flb(flb.data) else preserved_note(self.map, flb.data)
        detail = f"  {record_text(flb.detail, full=self.full)}" if flb.detail is not None else ""
        count = counted(flb.count, "file")
        return "FLB ", (safe_text(flb.name), "name"), f"  data {flb.data:#x} ({note})  {count}{detail}"

    def _pci(self, tree: Tree, devices: PciList) -> None:
        via = ", ".join(safe_text(way) for way in devices.via)
        branch = tree.add(
            ("PCI", "name"),
            f"  {counted(len(devices.devices), 'device')}  {devices.layout} at ",
            (f"{devices.address:#x}", "address"),
            f" ({preserved_note(self.map, devices.address)})  via {via}",
        )
        branch.add((f"layout: {safe_text(devices.confidence, again=True)}", "quiet"))
        for device in self._some(devices.devices, branch):
            branch.add(*self._device(devices.devices, device))
        for bus in devices.buses:
            branch.add(f"bus {bus['domain']:04x}:{bus['number']:02x}")

    def _device(self, devices: DeviceList, device: Device) -> tuple[Part, ...]:
        columns = device_columns(devices, device, self.map)
        members = (f"  {value}" if name == "flags" else f"  {name} {value}" for name, value in columns)
        return (device.name, "name"), *members


def memfd_text(memfd: Memfd) -> str:
    """Size, folios, position and seals of a memfd in a line."""
    names = [name for bit, name in SEALS.items() if (memfd.seals or 0) & bit]
    unknown = (memfd.seals or 0) & ~sum(SEALS)
    seals = " | ".join([*names, *([f"{unknown:#x}"] if unknown else [])])
    readable, count = len(memfd.folios.list), memfd.folios.count
    return "".join(
        (
            f"{human_size(memfd.size)}, {counted(count, 'folio')}",
            f", position {memfd.position:#x}" if memfd.position else "",
            f"  seals {seals}" if seals else "",
            "" if readable == count else f" ({readable} of the folios readable)",
        )
    )
