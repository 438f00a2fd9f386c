# SPDX-License-Identifier: MIT
"""The values of a struct that only the kernel's own types describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luoser.budget import Budget
from luoser.kernel.types import Kind, Place, Types, TypesError, need_members
from luoser.text import decode_name

__all__ = ["values_of"]

_DEEPEST = 8


def values_of(types: Types, number: int, data: bytes, budget: Budget) -> dict[str, Any]:
    """The members of a struct by name: numbers, texts, dicts of inner structs, lists of arrays.

    types:  of the kernel.
    number: of the struct.
    data:   its bytes.
    budget: of members and elements to read. Types may say that thousands of them share the same bytes.

    Raises TypesError if the struct is larger than the bytes, or its types cannot be read; TooManyMembersError.
    """
    if types.size(number) > len(data):
        raise TypesError(f"{types.where}: a struct of {types.size(number)} bytes, expected at most {len(data)}")
    return _Reader(types, data, budget).struct(number, 0, _DEEPEST)


@dataclass(frozen=True, slots=True)
class _Reader:
    types: Types
    data: bytes
    budget: Budget

    def struct(self, number: int, base: int, deep: int) -> dict[str, Any]:
        """Of members that share their bytes, as in a union, the first one is taken."""
        found: dict[str, Any] = {}
        seen = set[int]()
        for name, place in self.types.members(number):
            need_members(self.budget, self.types)
            if place.bit in seen:
                continue
            seen.add(place.bit)
            found[name] = self._member(place, base, deep)
        return found

    def _member(self, place: Place, base: int, deep: int) -> Any:
        first = base + place.offset
        if place.bits:
            word = int.from_bytes(self.data[first : first + (place.bit % 8 + place.bits + 7) // 8], "little")
            return word >> place.bit % 8 & (1 << place.bits) - 1
        return self._value(place.type, first, deep)

    def _value(self, number: int, start: int, deep: int) -> Any:
        types = self.types
        number = types.plain(number) if number else 0
        kind = types.head(number)
        if deep and kind.kind in (Kind.STRUCT, Kind.UNION):
            inner = self.struct(number, start, deep - 1)
            return next(iter(inner.values()), None) if kind.kind is Kind.UNION else inner
        if deep and kind.kind is Kind.ARRAY:
            return self._array(kind.target, kind.count, start, deep)
        size = types.size(number) if number else 0
        return int.from_bytes(self.data[start : start + size], "little", signed=kind.signed)

    def _array(self, target: int, count: int, start: int, deep: int) -> Any:
        size = self.types.size(target) if target else 0
        if size == 1:
            return decode_name(self.data[start : start + count])
        count = min(count, max(0, len(self.data) - start) // size) if size else 0
        need_members(self.budget, self.types, count)
        return [self._value(target, start + index * size, deep - 1) for index in range(count)]
