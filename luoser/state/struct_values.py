# SPDX-License-Identifier: MIT
"""The members of a struct as plain values, by their kinds in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luoser.abi.c_struct import Member, Struct, structure
from luoser.abi.schema import Schema
from luoser.state.packed import HEX_KINDS, Hex
from luoser.text import decode_name

__all__ = ["marked", "struct_values"]


def struct_values(schema: Schema, data: bytes) -> dict[str, Any]:
    """The values of a struct by member name.

    schema: the struct.
    data:   starts with the struct; at least its size in bytes.

    A text is a str up to its NUL. An address, handle, token or size is a Hex. An array is a list, a nested struct a
    dict. Bit-fields are members like others. Padding and flexible arrays are left out.
    """
    struct = structure(schema)
    return _struct(struct, struct.read(data))


def marked(schema: Schema, values: Mapping[str, int]) -> dict[str, int]:
    """The same numbers, with addresses, handles, tokens and sizes as Hex.

    schema: struct of the members.
    values: by member name.
    """
    hexes = {member.name for member in structure(schema).members if member.kind in HEX_KINDS}
    return {name: Hex(value) if name in hexes else value for name, value in values.items()}


def _struct(struct: Struct, values: Mapping[str, Any]) -> dict[str, Any]:
    return {member.name: _value(member, values[member.name]) for member in struct.members if member.count != 0}


def _value(member: Member, value: Any) -> Any:
    if member.is_bytes:
        return decode_name(value) if member.kind == "text" else value
    if member.count is not None:
        return [_element(member, item) for item in value]
    return _element(member, value)


def _element(member: Member, value: Any) -> Any:
    if member.struct is not None:
        return _struct(member.struct, value)
    return Hex(value) if member.kind in HEX_KINDS else value
