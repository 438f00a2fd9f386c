# SPDX-License-Identifier: MIT
"""Layouts as text: a list of all, or the structs of one, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from luoser.abi.registry import Layout
from luoser.abi.schema import Field, Schema
from luoser.render.out import line

__all__ = ["layout_document", "print_layout", "print_layouts"]


def print_layouts(entries: Iterable[Layout]) -> None:
    """Print a line for each layout: name, subject, size of the head in bytes, status, where it was seen."""
    for entry in entries:
        size = f"{entry.schemas[0].size:>5}" if entry.schemas else "  fdt"
        line((f"{entry.name:<28}", "name"), f" {entry.subject:<9} {size}  {entry.status:<19}  {entry.seen_in}")


def print_layout(entry: Layout) -> None:
    """Print the description of a layout and its structs, like pahole."""
    line((entry.name, "name"), f": {entry.summary}")
    line(f"subject {entry.subject}; {entry.status}; seen in {entry.seen_in}", first="  ", rest="    ")
    if entry.handler:
        line(f"found under {entry.handler}", first="  ", rest="    ")
    if not entry.schemas:
        line("a flattened devicetree: `luoser decode --as` shows its nodes", first="  ", rest="    ")
    for schema in entry.schemas:
        line()
        for row in _struct(schema):
            line(row, rest="        ")


def _struct(schema: Schema) -> Iterator[str]:
    yield f"/* {schema.meaning} Catalogue label: {schema.label} */"
    yield f"struct {schema.name} {{"
    for field in schema.fields:
        yield _field(field)
    yield f"}}; /* size {schema.size}, {schema.layout} */"


def _field(field: Field) -> str:
    kind, _, array = field.c_type.partition("[")
    name = field.name.rsplit(".", 1)[-1]
    if field.bit_width is not None:
        kind, array = kind.split(":")[0], ""
        name = f"{name}:{field.bit_width}"
    declaration = f"{'    ' * (field.depth + 1)}{kind} {name}{'[' + array if array else ''};"
    where = f"{field.offset:>5} {field.size:>5}"
    bits = f" bit {field.bit_offset}" if field.bit_width is not None else ""
    return f"{declaration:<44} /* {where}{bits} */  {field.meaning}".rstrip()


def layout_document(entry: Layout) -> dict[str, Any]:
    """A layout in JSON, with the offsets and sizes of all fields in bytes."""
    return {
        "name": entry.name,
        "subject": entry.subject,
        "kind": entry.kind,
        "summary": entry.summary,
        "status": entry.status,
        "seen_in": entry.seen_in,
        "label": entry.label,
        "found_under": entry.handler or None,
        "structs": [_schema_document(schema) for schema in entry.schemas],
    }


def _schema_document(schema: Schema) -> dict[str, Any]:
    return {
        "name": schema.name,
        "label": schema.label,
        "size": schema.size,
        "align": schema.align,
        "packed": schema.packed,
        "fields": [
            {
                "name": field.name,
                "offset": field.offset,
                "size": field.size,
                "type": field.c_type,
                "bit_offset": field.bit_offset,
                "bit_width": field.bit_width,
                "padding": field.padding,
                "meaning": field.meaning,
            }
            for field in schema.fields
        ],
    }
