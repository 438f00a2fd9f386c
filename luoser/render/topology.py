# SPDX-License-Identifier: MIT
"""A topology as a table, with devices below their bridges."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.render.out import line, table
from luoser.text import bdf_text, safe_text
from luoser.topology import Device, Topology

__all__ = ["print_topology", "summary"]

_TABLE_ROWS = 1000
_COLUMNS = ("device", "class", "id", "driver", "bus master", "buses", "")


def print_topology(topology: Topology) -> None:
    """Print a row for each device, with `?` for unknown facts, then the facts that the input has for no device."""
    source = "standard input" if topology.source == "-" else safe_text(topology.source)
    line((source, "name"), f"  {safe_text(topology.form)}  {summary(topology)}")
    if len(topology.devices) > _TABLE_ROWS:
        for row in _rows(topology):
            line("  ".join(row), first="  ", rest="    ")
    else:
        table(_COLUMNS, list(_rows(topology)))
    for why in topology.unknown.values():
        line(("not known: ", "note"), why)


def summary(topology: Topology) -> str:
    """The number of devices, bridges and virtual functions, in words."""
    devices = topology.devices.values()
    counts = [f"{len(devices)} devices" if len(devices) != 1 else "1 device"]
    bridges = sum(1 for device in devices if device.is_bridge)
    functions = sum(1 for device in devices if device.is_vf)
    if bridges:
        counts.append(f"{bridges} bridges" if bridges != 1 else "1 bridge")
    if functions:
        counts.append(f"{functions} virtual functions" if functions != 1 else "1 virtual function")
    return ", ".join(counts)


def _rows(topology: Topology) -> Iterator[tuple[str, ...]]:
    """The rows in depth-first order, so that a device is below its bridge."""
    rest = [(device, 0) for device in reversed(topology.roots)]
    while rest:
        device, depth = rest.pop()
        yield ("  " * depth + device.name, *_cells(device))
        rest += [(child, depth + 1) for child in reversed(topology.children(device))]


def _cells(device: Device) -> Iterator[str]:
    yield "?" if device.class_code is None else f"{device.class_code:06x}"
    yield "?" if device.vendor is None or device.device is None else f"{device.vendor:04x}:{device.device:04x}"
    yield "?" if device.driver is None else safe_text(device.driver) or "-"
    yield {True: "on", False: "off", None: "?"}[device.busmaster]
    yield _buses(device)
    yield "; ".join(_notes(device))


def _buses(device: Device) -> str:
    if device.secondary_bus is not None and device.subordinate_bus is not None:
        return f"{device.secondary_bus:02x}-{device.subordinate_bus:02x}"
    return "-" if device.is_bridge is False else "?"


def _notes(device: Device) -> Iterator[str]:
    if device.is_vf:
        yield "VF of " + (bdf_text(*device.physfn) if device.physfn is not None else "?")
    if device.on_root_bus is False and device.parent is None:
        yield "below an unknown bridge"
    elif device.on_root_bus is None:
        yield "parent unknown"
