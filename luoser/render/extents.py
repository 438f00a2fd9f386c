# SPDX-License-Identifier: MIT
"""The preserved map as lines of text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator
from heapq import merge
from typing import NamedTuple

from luoser.abi.luo import is_test_flb
from luoser.checks.preserved import named_memory, self_test_chunk
from luoser.checks.view import View
from luoser.ranges import merged
from luoser.render.out import line
from luoser.render.unread import unread_lines
from luoser.render.values import place_text
from luoser.state import Direction, Handover, Luo, MapStatus, Memfd, Pending, Preserved, PreservedMap, State
from luoser.text import counted, human_size, rounded_size, safe_text

__all__ = ["Owner", "owned_blocks", "owners", "print_extents"]

_NAMES = 6
"""Most owners listed after an extent. The others are counted."""


def print_extents(state: State, *, folded: bool = True) -> None:
    """Print scratch and the ranges of preserved memory by address, each with its known owners, then the totals.

    What nobody is known to own is named in its range.

    folded: of many owners of a range only the first ones, and their number. Else also the part of each owner.
    """
    for handover in state.handovers:
        preserved = handover.preserved
        head = f"  {safe_text(handover.compatible)}  {handover.direction.value}"
        is_part = preserved.map is not None and not preserved.map.complete
        status = f"  map {preserved.status.value}{', incomplete' if is_part else ''}"
        line(("KHO root ", "name"), (place_text(handover.address), "address"), f"{head}{status}")
        for word in unread_lines(state, handover, "preserved"):
            line((word, "note"), first="  ", rest="    ")
        areas = sorted((area.address, area.size) for area in handover.scratch or () if area.size)
        scratch = (_Row(start, start + size, f"scratch, {human_size(size)}") for start, size in areas)
        if preserved.status is MapStatus.INTACT and preserved.map is not None:
            _Listing(state, handover, preserved.map, folded=folded).print(scratch)
        else:
            for row in scratch:
                _print_range(*row)


class _Row(NamedTuple):
    """[start, end) of memory, and what it is. below: its parts."""

    start: int
    end: int
    text: str
    below: tuple[_Row, ...] = ()


def _print_range(start: int, end: int, text: str, below: tuple[_Row, ...] = (), first: str = "  ") -> None:
    line((f"{start:012x}-{end - 1:012x}", "address"), f" : {text}", first=first, rest=f"{first}  ")
    for row in below:
        _print_range(*row, first=f"{first}  ")


class _Listing:
    """The ranges of one map. unowned: bytes of those that were listed without a known owner."""

    def __init__(self, state: State, handover: Handover, found: PreservedMap, *, folded: bool) -> None:
        self.found, self.known, self.folded = found, sorted(owners(handover)), folded
        self.page = state.source.page_size
        self.named = merged([*named_memory(View(state=state, handover=handover)), *_page_tree_memory(handover)])
        self.ends = [end for _, end in self.named]
        self.unowned = 0
        self.parts: list[tuple[int, int]] = []
        """Those of blocks that have an owner, too."""

    def print(self, scratch: Iterable[_Row]) -> None:
        for row in merge(self._rows(), scratch, key=lambda row: row.start):
            _print_range(*row)
        self._print_totals()

    def _rows(self) -> Iterator[_Row]:
        for address, end, order, count, here in _owned_ranges(self.found, self.known, self.page):
            blocks = f"{count} x order {order}" if count > 1 else f"order {order}"
            names = list(dict.fromkeys(owner.name for owner in here))
            more = [f"and {len(names) - _NAMES} more"] if self.folded and len(names) > _NAMES else []
            shown = ", ".join([*(names[:_NAMES] if more else names), *more]) or "no known owner"
            below = [_Row(*part, "no known owner") for part in self._unnamed(address, end)] if here else []
            self.unowned += sum(row.end - row.start for row in below) if here else end - address
            self.parts += [(row.start, row.end) for row in below]
            if not self.folded and len(names) > 1:
                below += self._owned(address, end, here)
            yield _Row(address, end, f"{blocks}, {human_size(end - address)}  {shown}", tuple(sorted(below)))

    def _unnamed(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that no structure of the handover has."""
        place = bisect_right(self.ends, start)
        while place < len(self.named) and self.named[place][0] < end:
            first, last = self.named[place]
            if start < first:
                yield start, first
            start, place = max(start, last), place + 1
        if start < end:
            yield start, end

    def _owned(self, start: int, end: int, here: Iterable[Owner]) -> Iterator[_Row]:
        """The parts of a range by owner: the blocks from where it begins, those of one name in a row together."""
        last: _Row | None = None
        for owner in here:
            first = max(start, owner.address)
            block = self.found.find(first)
            size = self.page << block.order if block is not None else self.page
            row = _Row(first, min(end, max(owner.end, first // size * size + size)), owner.name)
            if last is not None and (last.text, last.end) == (row.text, row.start):
                row = last._replace(end=row.end)
            elif last is not None:
                yield last
            last = row
        if last is not None:
            yield last

    def _print_totals(self) -> None:
        """Print the preserved memory of each kind of owner, largest first, and what nobody is known to own."""
        sizes: dict[str, int] = {}
        owned = owned_blocks(self.found, self.known, self.page)
        for kind, size in owned.values():
            sizes[kind] = sizes.get(kind, 0) + size
        for address in {place for part in self.parts for place in self._edges(*part, owned)}:
            kind, size = owned[address]
            sizes[kind] -= sum(end - start for start, end in self._unnamed(address, address + size))
        found, whole = self.found, self.found.pages * self.page
        line(("total", "name"), f"  {rounded_size(whole)} in {counted(found.entries, 'block')}", first="  ")
        for kind, size in sorted(sizes.items(), key=lambda item: -item[1]):
            line(f"{rounded_size(size):>9}  {kind}", first="    ", rest="      ")
        if self.unowned:
            blocks = found.entries - len(owned)
            more = f", {counted(blocks, 'block')}" if blocks else ""
            line((f"{rounded_size(self.unowned):>9}  no known owner{more}", "note"), first="    ", rest="      ")

    def _edges(self, start: int, end: int, owned: Container[int]) -> Iterator[int]:
        """Addresses of the blocks at the ends of a range that have an owner: all others between are whole."""
        for place in (start, end - 1):
            block = self.found.find(place)
            if block is not None and block.address in owned:
                yield block.address


def _owned_ranges(
    found: PreservedMap, known: list[Owner], page: int
) -> Iterator[tuple[int, int, int, int, list[Owner]]]:
    """(start, end, order, number of blocks, owners) of each range. An owner may have several, or be inside of one."""
    starts = [owner.address for owner in known]
    longer: list[Owner] = []  # of before, which reach into the range
    passed = 0
    for address, order, count in found.by_address():
        end = address + count * (page << order)
        first = bisect_left(starts, address)
        longer = [owner for owner in (*longer, *known[passed:first]) if owner.end > address]
        passed = first
        yield address, end, order, count, [*longer, *known[first : bisect_left(starts, end)]]


def owned_blocks(found: PreservedMap, known: Iterable[Owner], page: int) -> dict[int, tuple[str, int]]:
    """(kind of the first known owner, size in bytes) of each preserved block that has one, by its address.

    page: size of a page in bytes.
    """
    owned: dict[int, tuple[str, int]] = {}
    for owner in known:
        place = owner.address
        while place < max(owner.end, owner.address + 1):
            block = found.find(place)
            if block is None:
                break
            owned.setdefault(block.address, (owner.kind, page << block.order))
            place = block.address + (page << block.order)
    return owned


class Owner(NamedTuple):
    """Something that a handover refers to, at a physical address.

    end:  address after it. 0: unknown.
    name: of the thing. kind: under which its size is counted.
    """

    address: int
    end: int
    name: str
    kind: str


def owners(handover: Handover) -> Iterator[Owner]:
    """Everything that a handover refers to."""
    if handover.address is not None:
        yield Owner(handover.address, 0, "KHO root", "KHO")
    for subtree in handover.subtrees:
        if subtree.address is not None:
            name = f"sub-tree {safe_text(subtree.name)}"
            yield Owner(subtree.address, subtree.address + (subtree.size or 0), name, name)
        if subtree.page_tree is not None:
            yield from _page_tree_owners(f"sub-tree {safe_text(subtree.name)}", subtree.page_tree)
    for entry in handover.memblock.reservations if handover.memblock else ():
        name = f"reserve_mem {safe_text(entry.name)}"
        yield Owner(entry.start, entry.start + entry.size, name, name)
    yield from _self_test_owners(handover)
    early = handover.pending if handover.direction is Direction.OUTGOING else None
    lists = {entry.address: entry for entry in (*handover.pci, *(early.lists if early is not None else ()))}
    for devices in lists.values():
        name = f"PCI devices ({devices.layout})"
        yield Owner(devices.address, 0, name, name)
        for block in devices.blocks:
            yield Owner(block, 0, f"PCI device block ({devices.layout})", name)
        for device in devices.devices:
            if data := device.number("driver_data"):
                yield Owner(data, 0, f"driver_data of {device.name}", "driver_data of PCI devices")
    if handover.luo is not None:
        yield from _luo_owners(handover.luo)
    if early is not None:
        yield from _pending_owners(early, lists)


def _page_tree_memory(handover: Handover) -> Iterator[tuple[int, int]]:
    """(start, end) of the pages in trees of sub-trees."""
    owned = (_page_tree_owners("", one.page_tree) for one in handover.subtrees if one.page_tree is not None)
    return ((one.address, one.end) for tree in owned for one in tree if one.end)


def _page_tree_owners(name: str, tree: Preserved) -> Iterator[Owner]:
    for node in tree.nodes:
        yield Owner(node, 0, f"{name}, node", name)
    if tree.map is not None:
        for address, order, count in tree.map.extents():
            yield Owner(address, address + (tree.map.page_size * count << order), f"{name}, pages", name)


def _self_test_owners(handover: Handover) -> Iterator[Owner]:
    if handover.kho_test is None:
        return
    for address, _ in handover.kho_test.folios:
        yield Owner(address, 0, "kho_test folio", "sub-tree kho_test")
    for address in (*self_test_chunk(handover), *handover.kho_test.pages):
        yield Owner(address, 0, "kho_test folio list", "sub-tree kho_test")


def _pending_owners(pending: Pending, lists: Container[int]) -> Iterator[Owner]:
    """Who asked the running kernel to preserve memory. What is serialised already has these owners, too.

    lists: addresses of device lists, which have their own names.
    """
    yield from _session_list_owners(pending.blocks)
    for session in pending.sessions:
        name = safe_text(session.name)
        yield from _session_owners(name, session.blocks)
        for file in session.files:
            if file.data:
                yield from _file_owners(name, file.token, file.data, file.memfd)
    for flb in pending.flbs:
        if flb.data and flb.data not in lists and not is_test_flb(flb.data):
            name = f"FLB {safe_text(flb.name)}"
            yield Owner(flb.data, 0, name, name)


def _luo_owners(luo: Luo) -> Iterator[Owner]:
    if luo.session_area:
        yield from _session_list_owners((luo.session_area,))
    if luo.flb_area:
        yield Owner(luo.flb_area, 0, "LUO FLBs", "LUO FLBs")
    yield from _session_list_owners(luo.session_blocks)
    for session in luo.sessions:
        name = safe_text(session.name)
        yield from _session_owners(name, session.blocks)
        for file in session.files:
            if file.memfd is not None:
                yield from _file_owners(name, file.token, file.memfd.address, file.memfd)


def _session_list_owners(blocks: Iterable[int]) -> Iterator[Owner]:
    for block in blocks:
        yield Owner(block, 0, "LUO sessions", "LUO sessions")


def _session_owners(name: str, blocks: Iterable[int]) -> Iterator[Owner]:
    for block in blocks:
        yield Owner(block, 0, f"files of session {name}", f"session {name}")


def _file_owners(name: str, token: int, data: int, memfd: Memfd | None) -> Iterator[Owner]:
    """The memory of one file. name: of its session, safe to print. data: its handle."""
    label, kind = f"{name}/{token:#x}", f"session {name}"
    yield Owner(data, 0, f"memfd {label}" if memfd is not None else f"data of {label}", kind)
    if memfd is None:
        return
    for place in (*memfd.folios.chunks, *memfd.folios.pages):
        yield Owner(place, 0, f"folio array of {label}", kind)
    for folio in memfd.folios.list:
        if folio.address:
            yield Owner(folio.address, 0, f"folios of {label}", kind)
