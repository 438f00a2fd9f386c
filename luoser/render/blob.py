# SPDX-License-Identifier: MIT
"""A decoded blob as text: devices, members, or a devicetree."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.schema import set_bits
from luoser.fdt import Node
from luoser.render.out import Part, line
from luoser.render.values import members, property_text, value_text
from luoser.state import Blob, Device, DeviceList
from luoser.text import bdf_text, safe_text

__all__ = ["print_blob"]


def print_blob(blob: Blob) -> None:
    """Print layout and confidence, the members of the head, then records, devices or nodes."""
    line((blob.layout, "name"), f"  {blob.size} bytes  ", (f"({safe_text(blob.confidence, again=True)})", "quiet"))
    for name, value in blob.fields.items():
        line(f"{name} {value_text(value)}", first="  ", rest="    ")
    for device in blob.devices or ():
        line(*_device(blob.devices, device), first="  ", rest="    ")
    for bus in blob.buses:
        described = members({name: value for name, value in bus.items() if name not in ("domain", "number")})
        name = bdf_text(bus["domain"], bus["number"] << 8)[:7]
        line("bus ", (name, "name"), f"  {described}", first="  ", rest="    ")
    for index, record in enumerate(blob.records):
        line((f"[{index}]", "name"), f" {members(record)}", first="  ", rest="    ")
    if blob.fdt is not None:
        for indent, row in _nodes(blob.fdt.root, ""):
            line(row, first=indent, rest=f"{indent}  ")
    for note in blob.notes:
        line(("note: ", "note"), safe_text(note, again=True), first="  ", rest="    ")


def _device(devices: DeviceList | None, device: Device) -> list[Part]:
    parts: list[Part] = [(device.name, "name")]
    for name, value in device.fields.items():
        column = devices.column(name) if devices is not None else None
        if column is not None and column.kind == "flags" and isinstance(value, int):
            parts.append(f"  {' | '.join(set_bits(value, column.bit_names)) or 0}")
        elif column is not None and column.is_hex and isinstance(value, int):
            parts.append(f"  {name} {value:#x}")
        elif name != "path":
            parts.append(f"  {name} {value_text(value)}")
    return parts


def _nodes(node: Node, indent: str) -> Iterator[tuple[str, str]]:
    """(indent, text) of each line of a devicetree."""
    below = f"{indent}    "
    yield indent, f"{safe_text(node.name) or '/'} {{"
    for name, value in node.properties:
        yield below, f"{safe_text(name)} = {property_text(value)};"
    for child in node.nodes:
        yield from _nodes(child, below)
    yield indent, "};"
