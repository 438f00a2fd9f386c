# SPDX-License-Identifier: MIT
"""The columns of a record, and records from plain values."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from luoser.abi.pci import pci_resource_ser
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import text_bytes
from luoser.errors import UsageError
from luoser.state.packed import Column

__all__ = ["columns", "record_bytes", "row_of"]


@cache
def columns(schema: Schema) -> tuple[Column, ...]:
    """The columns of a record, in the order of `schema.record`."""
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
            inner = columns(pci_resource_ser)
            made.append(Column(name, "records", record=pci_resource_ser.record, columns=inner, size=member.size))
        elif member.kind == "text":
            made.append(Column(name, "text", size=member.size))
        else:
            assert member.kind not in ("struct", "bytes"), f"{schema.name}.{name}"
            made.append(Column(name, member.kind, bit_names=member.bit_names))
    return tuple(made)


def row_of(wanted: tuple[Column, ...], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """One row for `schema.record.pack`.

    wanted: columns of the record.
    values: by member name; members that are left out are zero.

    Raises UsageError for a text, list or bit-field that does not fit. `pack` checks other numbers.
    """
    row: list[Any] = []
    for column in wanted:
        if column.kind == "text":
            row.append(text_bytes(values.get(column.name, ""), column.size, column.name))
        elif column.kind == "bits":
            row.append(_container(column, values))
        elif column.kind != "records":
            row.append(values.get(column.name, 0))
        else:
            assert column.record is not None
            items = values.get(column.name, ())
            if len(items) * column.record.size > column.size:
                most = column.size // column.record.size
                raise UsageError(f"{column.name}: too many items: expected at most {most}, found {len(items)}")
            row.append(b"".join(record_bytes(pci_resource_ser, column.columns, item) for item in items))
    return tuple(row)


def record_bytes(schema: Schema, wanted: tuple[Column, ...], values: Mapping[str, Any]) -> bytes:
    """One record.

    schema: struct of the record.
    wanted: its columns.
    values: by member name; members that are left out are zero.

    Raises UsageError with the name of a member that does not fit.
    """
    row = row_of(wanted, values)
    try:
        return schema.record.pack(*row)
    except struct.error:
        sizes = {field.name: field.size for field in schema.fields}
        for name, value in zip(schema.record_fields, row, strict=True):
            if isinstance(value, int) and value >> 8 * sizes[name]:
                raise UsageError(
                    f"{name}: {value} does not fit {sizes[name]} byte{'s' if sizes[name] > 1 else ''}"
                ) from None
        raise


def _container(column: Column, values: Mapping[str, Any]) -> int:
    made = 0
    for name, first, width in column.bits:
        value = values.get(name, 0)
        if value >> width:
            raise UsageError(f"{name}: {value} does not fit {width} bit{'s' if width > 1 else ''}")
        made |= value << first
    return made
