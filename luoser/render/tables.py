# SPDX-License-Identifier: MIT
"""Preserved devices as tables."""

from __future__ import annotations

from luoser.render.out import console, text
from luoser.render.tree import device_columns
from luoser.state import PciList, PreservedMap, State
from luoser.text import safe_text

__all__ = ["print_devices"]


def print_devices(state: State) -> None:
    """One table for each list of each handover, then how the layout was decided."""
    out = console()
    for handover in state.handovers:
        out.print(text(("KHO root ", "bold"), f"{handover.address:#x}  {safe_text(handover.compatible)}  {handover.direction.value}"))
        if not handover.pci:
            out.print(text("  no list of preserved PCI devices"))
        for devices in handover.pci:
            out.print(text(f"  {devices.layout} at {devices.address:#x}  via {', '.join(safe_text(via) for via in devices.via)}  ({safe_text(devices.confidence)})"))
            out.print(_table(devices, handover.preserved.map))


def _table(devices: PciList, found: PreservedMap | None) -> object:
    from rich import box
    from rich.table import Table

    rows = [dict(device_columns(device, found)) for device in devices.devices]
    names = list(rows[0]) if rows else []
    table = Table(box=box.SIMPLE, header_style="bold")
    for name in ("index", "bdf", *names):
        table.add_column(name, no_wrap=True, justify="right" if name == "index" else "left")
    for device, row in zip(devices.devices, rows, strict=True):
        table.add_row(str(device.index), device.name, *(text(row[name]) for name in names))
    return table
