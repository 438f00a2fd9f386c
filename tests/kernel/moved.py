# SPDX-License-Identifier: MIT
"""Types of a kernel in which members of structs stand elsewhere, or structs have more members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from luoser.kernel.types import Kind, Member, Type, Types

__all__ = ["Moved"]

_ARRAY, _CHAR = 1 << 30, (1 << 30) + 1
"""Numbers of the types of a new member."""


class Moved(Types):
    """The types of a kernel, in which the members of some structs are in another order, packed."""

    def __init__(self, below: Types, orders: Mapping[str, tuple[str, ...]], *, grown: int = 0) -> None:
        """orders: names of all members by name of the struct. grown: bytes of a new first member."""
        super().__init__(below.where)
        self.below, self.grown = below, grown
        self.orders = {number: order for name, order in orders.items() for number in below.named(name)}

    def type(self, number: int) -> Type:
        if number in (_ARRAY, _CHAR):
            is_array = number == _ARRAY
            return Type(Kind.ARRAY, "", target=_CHAR, count=self.grown) if is_array else Type(Kind.INTEGER, "char", 1)
        found = self.below.type(number)
        if number not in self.orders:
            return found
        by_name, made, bit = {one.name: one for one in found.members}, list[Member](), 8 * self.grown
        if self.grown:
            made.append(Member("grown", _ARRAY, 0))
        for name in self.orders[number]:
            made.append(replace(by_name[name], bit=bit))
            bit += 8 * self.below.size(by_name[name].type)
        return replace(found, size=found.size + self.grown, members=tuple(made))

    def named(self, name: str) -> list[int]:
        return self.below.named(name)

    def structs(self) -> Iterator[tuple[int, str]]:
        return self.below.structs()
