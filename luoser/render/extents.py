# SPDX-License-Identifier: MIT
"""The preserved map as lines of text."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator

from luoser.state import Handover, MapStatus, State
from luoser.text import human_size, safe_text

__all__ = ["print_extents"]


def print_extents(state: State) -> None:
    """Ranges of preserved memory, by order and address, each with what the handover is known to keep there."""
    write = sys.stdout.write
    page = state.source.page_size
    for handover in state.handovers:
        preserved = handover.preserved
        write(f"KHO root {handover.address:#x}  {safe_text(handover.compatible)}  {handover.direction.value}  map {preserved.status.value}\n")
        for area in handover.scratch or ():
            write(f"  {area.address:012x}-{area.address + area.size - 1:012x} : scratch, {human_size(area.size)}\n" if area.size else "")
        if preserved.status is not MapStatus.INTACT or preserved.map is None:
            continue
        known = sorted(_owners(handover, page))
        starts = [address for address, _, _ in known]
        for address, order, count in preserved.map.extents():
            end = address + count * (page << order)
            names = [name for _, _, name in known[bisect_left(starts, address) : bisect_left(starts, end)]]
            what = f"  {', '.join(dict.fromkeys(names))}" if names else ""
            blocks = f"{count} x order {order}" if count > 1 else f"order {order}"
            write(f"  {address:012x}-{end - 1:012x} : {blocks}, {human_size(end - address)}{what}\n")


def _owners(handover: Handover, page: int) -> Iterator[tuple[int, int, str]]:
    """(address, size, what) of everything that the handover names."""
    yield handover.address, page, "KHO root"
    for subtree in handover.subtrees:
        if subtree.address is not None:
            yield subtree.address, subtree.size or page, f"sub-tree {safe_text(subtree.name)}"
    for entry in handover.memblock.reservations if handover.memblock else ():
        yield entry.start, entry.size, f"reserve_mem {safe_text(entry.name)}"
    for address, order in handover.kho_test.folios if handover.kho_test else ():
        yield address, page << order, "kho_test folio"
    for devices in handover.pci:
        yield devices.address, page, f"PCI devices ({devices.layout})"
        for block in devices.blocks:
            yield block, page, f"PCI device block ({devices.layout})"
        for device in devices.devices:
            data = device.number("driver_data")
            if data:
                yield data, page, f"driver_data of {device.name}"
    yield from _luo_owners(handover, page)


def _luo_owners(handover: Handover, page: int) -> Iterator[tuple[int, int, str]]:
    luo = handover.luo
    if luo is None:
        return
    for area, what in ((luo.session_area, "LUO sessions"), (luo.flb_area, "LUO FLBs")):
        if area:
            yield area, page, what
    for block in luo.session_blocks:
        yield block, page, "LUO sessions"
    for session in luo.sessions:
        name = safe_text(session.name)
        for block in session.blocks:
            yield block, page, f"files of session {name}"
        for file in session.files:
            if file.memfd is None:
                continue
            memfd, label = file.memfd, f"{name}/{file.token:#x}"
            yield memfd.address, page, f"memfd {label}"
            for place in (*memfd.folios.chunks, *memfd.folios.pages):
                yield place, page, f"folio array of {label}"
            for folio in memfd.folios.list:
                if folio.address:
                    yield folio.address, page, f"folios of {label}"
