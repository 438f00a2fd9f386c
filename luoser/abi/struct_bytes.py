# SPDX-License-Identifier: MIT
"""Bytes of structs from members as in the state: names are text, bit-fields are members like others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luoser.abi.schema import Array, Bits, CStruct, Flex, Raw, Scalar, Schema, Type
from luoser.errors import UsageError
from luoser.text import encode_name, parse_size, safe_text

__all__ = ["struct_bytes", "text_bytes"]


def struct_bytes(schema: Schema, fields: Mapping[str, Any], what: str) -> bytes:
    """The bytes of a struct.

    schema: the struct.
    fields: values by member name; members that are left out are zero.
    what:   name of the struct in errors.

    Raises UsageError for a member that the struct does not have, a text that is too long, or a number that is too
    large.
    """
    from construct import ConstructError  # late, as everything of construct

    try:
        return schema.build(_values(schema.struct, fields, what))
    except ConstructError as error:
        raise UsageError(f"{what}: struct {schema.name}: {str(error).splitlines()[0]}") from None


def _values(struct: CStruct, fields: Mapping[str, Any], what: str) -> dict[str, Any]:
    left, made = dict(fields), dict[str, Any]()
    for member in struct.members:
        own, name = member.type, member.name
        if member.is_padding:
            continue
        if isinstance(own, Bits):
            made[name] = {bit: _bit(left.pop(bit, 0), width, f"{what}, {bit}") for bit, width in own.members}
        elif isinstance(own, Flex):
            left.pop(name, None)
        else:
            made[name] = _value(own, left.pop(name, None), f"{what}, {name}")
    if left:
        raise UsageError(f"{what}: unknown member {safe_text(next(iter(left)))}")
    return made


def _value(own: Type, value: Any, what: str) -> Any:
    if isinstance(own, CStruct):
        if not isinstance(value or {}, Mapping):
            raise UsageError(f"{what}: expected an object")
        return _values(own, value or {}, what)
    if isinstance(own, Array):
        if not isinstance(value or [], list | tuple):
            raise UsageError(f"{what}: expected a list")
        items = list(value or ())
        if len(items) > own.count:
            raise UsageError(f"{what}: too many items: expected at most {own.count}, found {len(items)}")
        return [_value(own.of, item, what) for item in items + [None] * (own.count - len(items))]
    if isinstance(own, Raw):
        return _bytes(own, value, what)
    number, size = _integer(0 if value is None else value, what), own.size
    is_signed = isinstance(own, Scalar) and own.code.islower()
    least, end = (-1 << 8 * size - 1, 1 << 8 * size - 1) if is_signed else (0, 1 << 8 * size)
    if not least <= number < end:
        raise UsageError(f"{what}: {_cut(number)} does not fit {size} byte{'s' if size > 1 else ''}")
    return number


def _bit(value: Any, width: int, what: str) -> int:
    number = _integer(value, what)
    if number >> width:
        raise UsageError(f"{what}: {_cut(number)} does not fit {width} bit{'s' if width > 1 else ''}")
    return number


def _cut(number: int) -> str:
    return str(number) if number.bit_length() <= 256 else "a number of more than 256 bits"


def _kind(value: Any) -> str:
    if isinstance(value, list | Mapping):
        return "a list" if isinstance(value, list) else "an object"
    return safe_text(repr(value)[:80])


def _integer(value: Any, what: str) -> int:
    """A number, given as a number or as text: 0x617000, 64M."""
    number = value
    if isinstance(value, str):
        try:
            number = parse_size(value)
        except ValueError:
            number = None
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{what}: expected a number, found {_kind(value)}")
    return number


def _bytes(own: Raw, value: Any, what: str) -> bytes:
    """A NUL-padded text, or bytes without inner structure, which are in hex in a document."""
    size = own.size
    if value is None:
        return bytes(size)
    if own.kind == "text":
        return text_bytes(f"{value:#x}" if isinstance(value, int) else value, size, what)
    try:
        data = value if isinstance(value, bytes) else bytes.fromhex(value)
    except (ValueError, TypeError):
        raise UsageError(f"{what}: expected bytes in hex") from None
    if len(data) > size:
        raise UsageError(f"{what}: too long: expected at most {size} bytes, found {len(data)}")
    return bytes(data).ljust(size, b"\0")


def text_bytes(value: Any, size: int, what: str) -> bytes:
    """A text in a fixed-size field, padded with NULs.

    value: text or bytes, without a NUL.
    size:  bytes of the field, at least one more than those of the text.
    what:  name of the field in errors.

    Raises UsageError if the text is too long or has a NUL.
    """
    try:
        data = value if isinstance(value, bytes) else encode_name(value)
    except (ValueError, AttributeError):
        raise UsageError(f"{what}: expected a text") from None
    if len(data) >= size:
        raise UsageError(f"{what}: too long: expected at most {size - 1} bytes and a NUL, found {len(data)}")
    if b"\0" in data:
        raise UsageError(f"{what}: NUL inside the name")
    return data.ljust(size, b"\0")
