# SPDX-License-Identifier: MIT
"""Structs from their members as the state has them: names as text, bit-fields beside the other members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import construct

from luoser.abi.schema import Schema
from luoser.errors import UsageError
from luoser.text import encode_name

__all__ = ["struct_bytes"]


def struct_bytes(schema: Schema, fields: Mapping[str, Any], what: str) -> bytes:
    """The bytes of a struct; members that are not given are zero.

    Raises UsageError for a member that the struct has not, a text that is too long, or a number that does not fit.
    """
    try:
        return schema.build(_values(schema.con, fields, what))
    except construct.ConstructError as error:
        raise UsageError(f"{what}: struct {schema.name}: {str(error).splitlines()[0]}") from None


def _values(con: Any, fields: Mapping[str, Any], what: str) -> dict[str, Any]:
    left, made = dict(fields), dict[str, Any]()
    for member in con.subcons:
        inner, name = member.subcon if isinstance(member, construct.Renamed) else member, member.name
        while isinstance(inner, construct.Renamed):
            inner = inner.subcon
        if name.startswith("_pad"):
            continue
        if hasattr(inner, "members"):  # bit-fields of one container
            made[name] = {bit: _integer(left.pop(bit, 0), f"{what}, {bit}") for bit, _ in inner.members}
        elif hasattr(inner, "element"):  # a flexible array member takes no space
            left.pop(name, None)
        else:
            made[name] = _value(inner, left.pop(name, None), f"{what}, {name}")
    if left:
        raise UsageError(f"{what}: no member is named {next(iter(left))!r}")
    return made


def _value(inner: Any, value: Any, what: str) -> Any:
    if isinstance(inner, construct.Struct):
        return _values(inner, value or {}, what)
    if isinstance(inner, construct.Array):
        items = list(value or ())
        if len(items) > inner.count:
            raise UsageError(f"{what}: {len(items)} items, there is room for {inner.count}")
        return [_value(inner.subcon, item, what) for item in items + [None] * (inner.count - len(items))]
    if isinstance(inner, construct.Bytes):
        return _bytes(inner, value, what)
    return _integer(value or 0, what)


def _integer(value: Any, what: str) -> int:
    if not isinstance(value, int):
        raise UsageError(f"{what}: expected a number, found {value!r}")
    return value


def _bytes(inner: Any, value: Any, what: str) -> bytes:
    """A NUL-padded text, or bytes without inner structure, in hex where they came from a document."""
    size, text = int(inner.sizeof()), bool(getattr(inner, "c_text", False))
    if value is None:
        return bytes(size)
    try:
        data = value if isinstance(value, bytes) else encode_name(value) if text else bytes.fromhex(value)
    except (ValueError, TypeError, AttributeError):
        raise UsageError(f"{what}: expected {'a text' if text else 'bytes in hex'}") from None
    if len(data) > size - text:
        raise UsageError(f"{what}: {len(data)} bytes, there is room for {size - text}")
    return bytes(data).ljust(size, b"\0")
