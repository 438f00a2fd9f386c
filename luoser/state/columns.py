# SPDX-License-Identifier: MIT
"""Records of structs as columns, and plain values back into records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luoser.abi.pci import pci_resource_ser
from luoser.abi.schema import Schema
from luoser.state.packed import Column
from luoser.text import encode_name

__all__ = ["columns", "row_of"]


def columns(schema: Schema) -> tuple[Column, ...]:
    """The members of a record as the state describes them, in the order of `schema.record`."""
    made = []
    by_name = {field.name: field for field in schema.fields}
    for name in schema.record_fields:
        member = by_name[name]
        if member.bit_width is not None:
            group = tuple(
                (field.name, field.bit_offset or 0, field.bit_width or 0)
                for field in schema.fields
                if field.offset == member.offset and field.bit_width is not None
            )
            made.append(Column(name, "bits", bits=group))
        elif name == "resource":
            made.append(Column(name, "records", record=pci_resource_ser.record, columns=columns(pci_resource_ser)))
        elif member.c_type.startswith("char"):
            made.append(Column(name, "text"))
        else:
            made.append(Column(name, "hex" if member.c_type == "phys" or name == "driver_data" else "number"))
    return tuple(made)


def row_of(wanted: tuple[Column, ...], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Members by name as one row for `schema.record.pack`; what is not given is zero."""
    row: list[Any] = []
    for column in wanted:
        if column.kind == "bits":
            row.append(sum(int(values.get(name, 0)) << first for name, first, _ in column.bits))
        elif column.kind == "records":
            assert column.record is not None
            items = values.get(column.name, ())
            row.append(b"".join(column.record.pack(*row_of(column.columns, item)) for item in items))
        elif column.kind == "text":
            row.append(encode_name(str(values.get(column.name, ""))))
        else:
            row.append(int(values.get(column.name, 0)))
    return tuple(row)
