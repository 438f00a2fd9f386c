# SPDX-License-Identifier: MIT
"""The values of a struct that only the kernel's own types describe."""

from __future__ import annotations

from typing import Any

from luoser.kernel.types import Kind, Place, Types, TypesError
from luoser.text import decode_name

__all__ = ["values_of"]

_DEEPEST = 8
_ELEMENTS = 256
"""Elements of an array that are read."""


def values_of(types: Types, number: int, data: bytes) -> dict[str, Any]:
    """The members of a struct by name: numbers, texts, dicts of inner structs, lists of arrays.

    types:  of the kernel.
    number: of the struct.
    data:   its bytes.

    Raises TypesError if the struct is larger than the bytes, or its types cannot be read.
    """
    if types.size(number) > len(data):
        raise TypesError(f"{types.where}: a struct of {types.size(number)} bytes, expected at most {len(data)}")
    return _struct(types, number, data, 0, _DEEPEST)


def _struct(types: Types, number: int, data: bytes, base: int, deep: int) -> dict[str, Any]:
    """Of members that share their bytes, as in a union, the first one is taken."""
    found: dict[str, Any] = {}
    seen = set[int]()
    for name, place in types.members(number):
        if place.bit in seen:
            continue
        seen.add(place.bit)
        found[name] = _member(types, place, data, base, deep)
    return found


def _member(types: Types, place: Place, data: bytes, base: int, deep: int) -> Any:
    if place.bits:
        first = base + place.offset
        word = int.from_bytes(data[first : first + (place.bit % 8 + place.bits + 7) // 8], "little")
        return word >> place.bit % 8 & (1 << place.bits) - 1
    return _value(types, place.type, data, base + place.offset, deep)


def _value(types: Types, number: int, data: bytes, start: int, deep: int) -> Any:
    number = types.plain(number) if number else 0
    kind = types.type(number)
    if deep and kind.kind in (Kind.STRUCT, Kind.UNION):
        inner = _struct(types, number, data, start, deep - 1)
        return next(iter(inner.values()), None) if kind.kind is Kind.UNION else inner
    if deep and kind.kind is Kind.ARRAY:
        size = types.size(kind.target) if kind.target else 0
        if size == 1:
            return decode_name(data[start : start + kind.count])
        count = min(kind.count, _ELEMENTS) if size else 0
        return [_value(types, kind.target, data, start + index * size, deep - 1) for index in range(count)]
    size = types.size(number) if number else 0
    return int.from_bytes(data[start : start + size], "little", signed=kind.signed)
