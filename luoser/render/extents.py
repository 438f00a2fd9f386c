# SPDX-License-Identifier: MIT
"""The preserved map as lines of text."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator

from luoser.render.unread import unread_lines
from luoser.render.values import place_text
from luoser.state import Area, Handover, Luo, MapStatus, PreservedMap, State
from luoser.text import human_size, safe_text

__all__ = ["print_extents"]

_NAMES = 6
"""Most owners listed after an extent. The others are counted."""


def print_extents(state: State) -> None:
    """Print the ranges of preserved memory by order and address, each with its known owners."""
    write = sys.stdout.write
    for handover in state.handovers:
        preserved = handover.preserved
        head = f"KHO root {place_text(handover.address)}  {safe_text(handover.compatible)}  {handover.direction.value}"
        is_part = preserved.map is not None and not preserved.map.complete
        write(f"{head}  map {preserved.status.value}{', incomplete' if is_part else ''}\n")
        for line in unread_lines(state, handover, "preserved"):
            write(f"  {line}\n")
        for area in handover.scratch or ():
            if area.size:
                write(_scratch(area))
        if preserved.status is MapStatus.INTACT and preserved.map is not None:
            for line in _lines(handover, preserved.map, state.source.page_size):
                write(line)


def _scratch(area: Area) -> str:
    return f"  {area.address:012x}-{area.address + area.size - 1:012x} : scratch, {human_size(area.size)}\n"


def _lines(handover: Handover, found: PreservedMap, page: int) -> Iterator[str]:
    known = sorted(_owners(handover, page))
    starts = [address for address, _ in known]
    for address, order, count in found.extents():
        end = address + count * (page << order)
        names = list(dict.fromkeys(name for _, name in known[bisect_left(starts, address) : bisect_left(starts, end)]))
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        what = f"  {', '.join(names[:_NAMES])}{more}" if names else ""
        blocks = f"{count} x order {order}" if count > 1 else f"order {order}"
        yield f"  {address:012x}-{end - 1:012x} : {blocks}, {human_size(end - address)}{what}\n"


def _owners(handover: Handover, page: int) -> Iterator[tuple[int, str]]:
    """(address, description) of everything that the handover refers to."""
    if handover.address is not None:
        yield handover.address, "KHO root"
    for subtree in handover.subtrees:
        if subtree.address is not None:
            yield subtree.address, f"sub-tree {safe_text(subtree.name)}"
    for entry in handover.memblock.reservations if handover.memblock else ():
        yield entry.start, f"reserve_mem {safe_text(entry.name)}"
    for address, _ in handover.kho_test.folios if handover.kho_test else ():
        yield address, "kho_test folio"
    for devices in handover.pci:
        yield devices.address, f"PCI devices ({devices.layout})"
        for block in devices.blocks:
            yield block, f"PCI device block ({devices.layout})"
        for device in devices.devices:
            if data := device.number("driver_data"):
                yield data, f"driver_data of {device.name}"
    if handover.luo is not None:
        yield from _luo_owners(handover.luo)


def _luo_owners(luo: Luo) -> Iterator[tuple[int, str]]:
    if luo.session_area:
        yield luo.session_area, "LUO sessions"
    if luo.flb_area:
        yield luo.flb_area, "LUO FLBs"
    for block in luo.session_blocks:
        yield block, "LUO sessions"
    for session in luo.sessions:
        name = safe_text(session.name)
        for block in session.blocks:
            yield block, f"files of session {name}"
        for file in session.files:
            if file.memfd is not None:
                label = f"{name}/{file.token:#x}"
                yield file.memfd.address, f"memfd {label}"
                for place in (*file.memfd.folios.chunks, *file.memfd.folios.pages):
                    yield place, f"folio array of {label}"
                for folio in file.memfd.folios.list:
                    if folio.address:
                        yield folio.address, f"folios of {label}"
