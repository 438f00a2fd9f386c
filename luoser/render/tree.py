# SPDX-License-Identifier: MIT
"""A state as a tree. Everything has its physical address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from luoser.abi.luo import is_test_flb
from luoser.abi.memfd import SEALS
from luoser.abi.release import SUBTREES
from luoser.abi.schema import set_bits
from luoser.errors import FormatError
from luoser.fdt import MAGIC, Node, parse
from luoser.render.out import console, text
from luoser.render.pending import draw_pending
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
    PciList,
    Preserved,
    PreservedMap,
    Record,
    Session,
    State,
)
from luoser.text import human_size, safe_text

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["device_columns", "preserved_note", "print_state"]

_WORDS = 16
"""Most words of an array in a line. --full and JSON have all."""
_SHOWN = 200
"""Most items of one list in the tree. --full and JSON have all."""
_DIRECTION_STYLE = {Direction.OUTGOING: "green", Direction.INCOMING: "cyan", Direction.UNKNOWN: "yellow"}
_STATUS_STYLE = {
    MapStatus.INTACT: "green",
    MapStatus.DAMAGED: "bold red",
    MapStatus.STALE: "yellow",
    MapStatus.UNREAD: "yellow",
    MapStatus.MISSING: "yellow",
    MapStatus.ABSENT: "dim",
}


def print_state(state: State, *, full: bool = False) -> None:
    """Print every handover as a tree, then the problems. full: show all items of long lists."""
    out = console()
    for handover in state.handovers:
        out.print(_Drawing(handover, state, full).tree())
    if state.problems:
        out.print(text((f"Problems: {len(state.problems)}", "bold yellow")))
        for problem in state.problems:
            where = f"{problem.address:#x}" if problem.address is not None else "-"
            out.print(text("  ", (problem.code, "yellow"), f"  {where}  {safe_text(problem.message, again=True)}"))


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


class _Drawing:
    """Draws one handover."""

    def __init__(self, handover: Handover, state: State, full: bool) -> None:
        self.handover, self.page_size, self.full = handover, state.source.page_size, full
        self.problems = [problem for problem in state.problems if problem.root == handover.address]
        self.map = handover.preserved.map

    def tree(self) -> Tree:
        from rich.tree import Tree

        handover = self.handover
        style = _DIRECTION_STYLE[handover.direction]
        tree = Tree(
            text(
                ("KHO root ", "bold"),
                (f"{place_text(handover.address)}", "bold"),
                f"  {safe_text(handover.compatible)}  ",
                (handover.direction.value, style),
            )
        )
        for word in handover.evidence:
            tree.add(text(("evidence: ", "dim"), (safe_text(word, again=True), "dim")))
        tree.add(self._preserved(handover.preserved))
        self._scratch(tree)
        self._subtrees(tree)
        self._small_users(tree)
        if handover.luo is not None:
            self._luo(tree, handover.luo)
        elif any(subtree.name == "LUO" for subtree in handover.subtrees):
            tree.add(text("LUO  ", ("cannot be read", "yellow"), ", see problems"))
        draw_pending(tree, handover, self._some)
        for devices in handover.pci:
            self._pci(tree, devices)
        return tree

    def _preserved(self, preserved: Preserved) -> Any:
        status = (preserved.status.value, _STATUS_STYLE[preserved.status])
        what = {"radix": "radix tree", "chunks": "chunks of bitmaps"}[preserved.form]
        if preserved.status is MapStatus.ABSENT:
            return text("preserved memory  ", status, ": the root has no map yet")
        head = f"preserved memory  {what} at {preserved.address:#x}  "
        if preserved.map is None:
            why = {
                MapStatus.STALE: "its pages hold something else, as after a kexec; not decoded",
                MapStatus.MISSING: self._lost(),
                MapStatus.UNREAD: "luoser does not decode this form",
            }
            return text(head, status, f": {why[preserved.status]}")
        size = human_size(preserved.map.pages * self.page_size)
        least = "" if preserved.map.complete else "at least "
        return text(head, status, f": {least}{preserved.map.entries} entries, {preserved.map.pages} pages ({size})")

    def _lost(self) -> str:
        """Why the first page of the map cannot be read."""
        codes = {problem.code for problem in self.problems if problem.about == "preserved"}
        if "page-damaged" in codes:
            return "its page is damaged in this source"
        return "the dump tool left its page out" if "excluded" in codes else "not in this source"

    def _scratch(self, tree: Tree) -> None:
        if self.handover.scratch:
            branch = tree.add(text(f"scratch  {len(self.handover.scratch)} areas"))
            for area in self.handover.scratch:
                branch.add(
                    text(
                        f"{area.address:#x}-{area.address + area.size - 1:#x}  {human_size(area.size)}"
                        if area.size
                        else f"{area.address:#x}  empty"
                    )
                )

    def _subtrees(self, tree: Tree) -> None:
        branch = tree.add(text("sub-trees"))
        for subtree in self.handover.subtrees:
            size = human_size(subtree.size) if subtree.size is not None else "size unknown"
            where = (
                f"{subtree.address:#x}  {size}  ({preserved_note(self.map, subtree.address)})"
                if subtree.address is not None
                else "no address"
            )
            entry = branch.add(text((safe_text(subtree.name), "bold"), f"  {where}"))
            if subtree.detail is not None:
                entry.add(text(self._record(subtree.detail)))
            elif subtree.fdt is not None and subtree.name not in SUBTREES:
                self._devicetree(entry, subtree.fdt.root)

    def _devicetree(self, branch: Tree, root: Node) -> None:
        """The properties and nodes of a devicetree of unknown kind. Numbers that are preserved addresses say so."""
        size = sum(1 + len(node.properties) for node in root.walk()) - 1
        if not self.full and size > _SHOWN:
            branch.add(text((f"the first {_SHOWN} of {size} lines follow; --full shows all", "yellow")))
            size = _SHOWN
        self._lines(branch, root, size)

    def _lines(self, branch: Tree, node: Node, left: int) -> int:
        """Draw the lines of a node, at most so many. Returns how many are left."""
        for name, value in node.properties[:left]:
            number = int.from_bytes(value, "little") if len(value) == 8 else 0
            block = self.map.find(number) if self.map is not None and number else None
            note = f"  ({preserved_note(self.map, number)})" if block is not None else ""
            branch.add(text(f"{safe_text(name)} = {property_text(value)}{note}"))
        left -= len(node.properties[:left])
        for child in node.nodes:
            if left <= 0:
                break
            left = self._lines(branch.add(text((safe_text(child.name), "bold"))), child, left - 1)
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
            tree.add(text(f"kexec-metadata  written by {safe_text(release)}, kexec count {count}"))
        if handover.memblock is not None:
            branch = tree.add(text("memblock"))
            for entry in handover.memblock.reservations:
                branch.add(text((safe_text(entry.name), "bold"), f"  {entry.start:#x}  {human_size(entry.size)}"))
        if handover.kho_test is not None:
            test = handover.kho_test
            tree.add(text(f"kho_test  {test.count} folios, {len(test.folios)} found, checksum {test.checksum:#x}"))

    def _luo(self, tree: Tree, luo: Luo) -> None:
        number = f"live update {luo.number}" if luo.number is not None else "no number"
        if luo.serialized:
            state = ("serialised", "green")
        elif self.handover.direction is Direction.INCOMING:
            state = ("empty: consumed, or nothing was handed over", "yellow")
        else:
            state = ("not serialised yet", "yellow")
        branch = tree.add(
            text(("LUO ", "bold"), f" {safe_text(luo.compatible or luo.layout)} at {luo.address:#x}  {number}  ", state)
        )
        if not luo.serialized:
            return
        if self.handover.direction is Direction.INCOMING:
            branch.add(
                text(("as handed over; retrieved or finished parts are shown until their pages are reused", "dim"))
            )
        for entry in luo.subsystems:
            branch.add(text("subsystem ", (safe_text(entry.name), "bold"), f"  data {entry.data:#x}"))
        for session in self._some(luo.sessions, branch):
            self._session(branch, session)
        for flb in luo.flbs:
            self._foreign(branch.add(self._flb(flb)), flb.contents)

    def _some(self, items: Any, branch: Any) -> Any:
        """All items with --full. Otherwise the first ones, after a line with the number of items."""
        if self.full or len(items) <= _SHOWN:
            return items
        branch.add(text((f"the first {_SHOWN} of {len(items)} follow; --full shows all", "yellow")))
        return items[:_SHOWN]

    def _session(self, branch: Any, session: Session) -> None:
        name = safe_text(session.name) or "(no session)"
        count = f"{len(session.files)} files" if len(session.files) != 1 else "1 file"
        where = f"  {session.address:#x}" if session.address is not None else ""
        leaf = branch.add(text("session ", (name, "bold"), f"{where}  {count}"))
        for file in self._some(session.files, leaf):
            entry = leaf.add(self._file(file))
            if file.detail is not None:
                entry.add(text(self._record(file.detail)))
            self._foreign(entry, file.contents)

    def _file(self, file: File) -> Any:
        head = (f"file {file.token:#x}  ", (safe_text(file.compatible), "bold"), f"  data {file.data:#x}")
        memfd = file.memfd
        if memfd is None:
            return text(*head, f" ({preserved_note(self.map, file.data)})")
        seals = (
            "" if not memfd.seals else "  seals " + " | ".join(name for bit, name in SEALS.items() if memfd.seals & bit)
        )
        unknown = (memfd.seals or 0) & ~sum(SEALS)
        return text(
            *head,
            f"  {human_size(memfd.size)}, {memfd.folios.count} folios",
            f", position {memfd.position:#x}" if memfd.position else "",
            seals + (f" | {unknown:#x}" if unknown else ""),
            ""
            if len(memfd.folios.list) == memfd.folios.count
            else f" ({len(memfd.folios.list)} of the folios readable)",
        )

    def _flb(self, flb: Flb) -> Any:
        note = "magic of a test FLB" if is_test_flb(flb.data) else preserved_note(self.map, flb.data)
        detail = f"  {self._record(flb.detail)}" if flb.detail is not None else ""
        return text(
            "FLB ",
            (safe_text(flb.name), "bold"),
            f"  data {flb.data:#x} ({note})  {flb.count} file{'s' if flb.count != 1 else ''}{detail}",
        )

    def _record(self, record: Record) -> str:
        readings = [f"{layout}: {members(fields)}" for layout, fields in record.readings]
        arrays = [f"  {safe_text(array.member)}: {self._words(array.words)}" for array in record.arrays]
        return f"{' or '.join(readings)}{''.join(arrays)}  ({safe_text(record.confidence, again=True)})"

    def _words(self, words: tuple[int, ...]) -> str:
        shown = words if self.full else words[:_WORDS]
        more = f" and {len(words) - len(shown)} more" if len(words) > len(shown) else ""
        return f"[{', '.join(f'{word:#x}' for word in shown)}]{more}"

    def _pci(self, tree: Tree, devices: PciList) -> None:
        count = len(devices.devices)
        via = ", ".join(safe_text(way) for way in devices.via)
        where = f"{devices.layout} at {devices.address:#x} ({preserved_note(self.map, devices.address)})  via {via}"
        branch = tree.add(text(("PCI ", "bold"), f" {count} device{'s' if count != 1 else ''}  {where}"))
        branch.add(text((f"layout: {safe_text(devices.confidence, again=True)}", "dim")))
        for device in self._some(devices.devices, branch):
            branch.add(self._device(devices.devices, device))
        for bus in devices.buses:
            branch.add(text(f"bus {bus['domain']:04x}:{bus['number']:02x}"))

    def _device(self, devices: DeviceList, device: Device) -> Any:
        parts: list[str | tuple[str, str]] = [(device.name, "bold")]
        for name, value in device_columns(devices, device, self.map):
            parts.append(f"  {value}" if name == "flags" else f"  {name} {value}")
        return text(*parts)
