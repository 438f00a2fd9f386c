# SPDX-License-Identifier: MIT
"""Preserved devices as tables."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.render.out import line, table
from luoser.render.unread import unread_lines
from luoser.render.values import device_columns, place_text
from luoser.state import Handover, PciList, PreservedMap, State
from luoser.text import counted, safe_text

__all__ = ["print_devices", "print_devices_line"]

_TABLE_ROWS = 1000


def print_devices(state: State) -> None:
    """Print a table for each list of each handover, with its address and how its layout was determined."""
    for handover in state.handovers:
        head = f"  {safe_text(handover.compatible)}  {handover.direction.value}"
        line(("KHO root ", "name"), (place_text(handover.address), "address"), head)
        unread = list(unread_lines(state, handover, "pci", *_ways(handover)))
        if not handover.pci:
            line(f"no list of preserved PCI devices{' can be read' if unread else ''}", first="  ", rest="    ")
        for devices in handover.pci:
            via = ", ".join(safe_text(way) for way in devices.via)
            confidence = safe_text(devices.confidence, again=True)
            place = (f"{devices.address:#x}", "address")
            line(f"{devices.layout} at ", place, f"  via {via}  ({confidence})", first="  ", rest="    ")
            if len(devices.devices) > _TABLE_ROWS:
                _print_lines(devices, handover.preserved.map)
            else:
                _print_table(devices, handover.preserved.map)
        for word in unread:
            line((word, "note"), first="  ", rest="    ")


def print_devices_line(state: State) -> None:
    """Print in a line how many devices each list of each handover has."""
    lists = [
        f"{handover.direction.value} {counted(len(devices.devices), 'device')}, {devices.layout}"
        for handover in state.handovers
        for devices in handover.pci
    ]
    line((safe_text(state.source.name), "name"), f": {'; '.join(lists) or 'no list of preserved PCI devices'}")


def _ways(handover: Handover) -> Iterator[str]:
    """Paths of what leads to device lists."""
    yield from ("luo.flbs", "luo.subsystems")
    if handover.luo is None:
        yield "luo"
    for index, subtree in enumerate(handover.subtrees):
        if subtree.name == "LUO" or "pci" in subtree.name:
            yield f"subtrees[{index}]"


def _print_lines(devices: PciList, found: PreservedMap | None) -> None:
    """Print a line for each device of a long list, without a table: a table needs all rows to size its columns.

    found: the preserved map. None if it cannot be read.
    """
    for device in devices.devices:
        members = "  ".join(f"{name} {value}" for name, value in device_columns(devices.devices, device, found))
        line(f"{device.index:>7}  {device.name}  {members}", first="  ", rest="    ")


def _print_table(devices: PciList, found: PreservedMap | None) -> None:
    """Print a table of the devices of one list, with a column for each member of the layout.

    found: the preserved map. None if it cannot be read.
    """
    members = [dict(device_columns(devices.devices, device, found)) for device in devices.devices]
    names = list(members[0]) if members else []
    rows = [
        (str(device.index), device.name, *(row[name] for name in names))
        for device, row in zip(devices.devices, members, strict=True)
    ]
    table(("index", "bdf", *names), rows, right=("index",))
