# SPDX-License-Identifier: MIT
"""Preserved devices as tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from luoser.render.out import console, text
from luoser.render.tree import device_columns
from luoser.render.unread import unread_lines
from luoser.render.values import place_text
from luoser.state import Handover, PciList, PreservedMap, State
from luoser.text import safe_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["device_table", "print_devices", "print_lines"]

_TABLE_ROWS = 1000


def print_devices(state: State) -> None:
    """Print a table for each list of each handover, with its address and how its layout was determined."""
    out = console()
    for handover in state.handovers:
        head = f"{place_text(handover.address)}  {safe_text(handover.compatible)}  {handover.direction.value}"
        out.print(text(("KHO root ", "bold"), head))
        unread = list(unread_lines(state, handover, "pci", *_ways(handover)))
        if not handover.pci:
            out.print(text(f"  no list of preserved PCI devices{' can be read' if unread else ''}"))
        for devices in handover.pci:
            via = ", ".join(safe_text(way) for way in devices.via)
            confidence = safe_text(devices.confidence, again=True)
            out.print(text(f"  {devices.layout} at {devices.address:#x}  via {via}  ({confidence})"))
            if len(devices.devices) > _TABLE_ROWS:
                print_lines(devices, handover.preserved.map)
            else:
                out.print(device_table(devices, handover.preserved.map))
        for line in unread:
            out.print(text(f"  {line}"))


def _ways(handover: Handover) -> Iterator[str]:
    """Paths of what leads to device lists."""
    yield from ("luo.flbs", "luo.subsystems")
    if handover.luo is None:
        yield "luo"
    for index, subtree in enumerate(handover.subtrees):
        if subtree.name == "LUO" or "pci" in subtree.name:
            yield f"subtrees[{index}]"


def print_lines(devices: PciList, found: PreservedMap | None) -> None:
    """Print a line for each device of a long list, without a table: a table needs all rows to size its columns.

    found: the preserved map. None if it cannot be read.
    """
    for device in devices.devices:
        members = "  ".join(f"{name} {value}" for name, value in device_columns(devices.devices, device, found))
        sys.stdout.write(f"  {device.index:>7}  {device.name}  {members}\n")


def device_table(devices: PciList, found: PreservedMap | None) -> Table:
    """A table of the devices of one list, with a column for each member of the layout.

    found: the preserved map. None if it cannot be read.
    """
    from rich import box
    from rich.table import Table

    rows = [dict(device_columns(devices.devices, device, found)) for device in devices.devices]
    names = list(rows[0]) if rows else []
    table = Table(box=box.SIMPLE, header_style="bold")
    for name in ("index", "bdf", *names):
        table.add_column(name, no_wrap=True, justify="right" if name == "index" else "left")
    for device, row in zip(devices.devices, rows, strict=True):
        table.add_row(str(device.index), device.name, *(text(row[name]) for name in names))
    return table
