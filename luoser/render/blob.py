# SPDX-License-Identifier: MIT
"""A decoded blob as text: devices, members, or a devicetree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luoser.abi.schema import set_bits
from luoser.fdt import Node
from luoser.render.out import console, text
from luoser.render.values import members, property_text, value_text
from luoser.state import Blob, Device, DeviceList
from luoser.text import bdf_text, safe_text

__all__ = ["print_blob"]


def print_blob(blob: Blob) -> None:
    """Print layout and confidence, the members of the head, then records, devices or nodes."""
    out = console()
    out.print(
        text((blob.layout, "bold"), f"  {blob.size} bytes  ", (f"({safe_text(blob.confidence, again=True)})", "dim"))
    )
    for name, value in blob.fields.items():
        out.print(text(f"  {name} {value_text(value)}"))
    for device in blob.devices or ():
        out.print(_device(blob.devices, device))
    for bus in blob.buses:
        described = members({name: value for name, value in bus.items() if name not in ("domain", "number")})
        out.print(text("  bus ", (bdf_text(bus["domain"], bus["number"] << 8)[:7], "bold"), f"  {described}"))
    for index, record in enumerate(blob.records):
        out.print(text((f"  [{index}]", "bold"), f" {members(record)}"))
    if blob.fdt is not None:
        for line in _nodes(blob.fdt.root, 1):
            out.print(text(line))
    for note in blob.notes:
        out.print(text(("  note: ", "yellow"), safe_text(note, again=True)))


def _device(devices: DeviceList | None, device: Device) -> Any:
    parts: list[str | tuple[str, str]] = ["  ", (device.name, "bold")]
    for name, value in device.fields.items():
        column = devices.column(name) if devices is not None else None
        if column is not None and column.kind == "flags" and isinstance(value, int):
            parts.append(f"  {' | '.join(set_bits(value, column.bit_names)) or 0}")
        elif column is not None and column.is_hex and isinstance(value, int):
            parts.append(f"  {name} {value:#x}")
        elif name != "path":
            parts.append(f"  {name} {value_text(value)}")
    return text(*parts)


def _nodes(node: Node, depth: int) -> Iterator[str]:
    indent = "    " * depth
    yield f"{'    ' * (depth - 1)}{safe_text(node.name) or '/'} {{"
    for name, value in node.properties:
        yield f"{indent}{safe_text(name)} = {property_text(value)};"
    for child in node.nodes:
        yield from _nodes(child, depth + 1)
    yield f"{'    ' * (depth - 1)}}};"
