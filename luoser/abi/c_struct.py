# SPDX-License-Identifier: MIT
"""A schema as a tree of C members, for code that declares a struct or reads it member by member."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from luoser.abi.schema import Array, Bits, CStruct, Flex, Kind, Raw, Schema, Type

__all__ = ["Member", "Struct", "Value", "structure"]

Value = int | bytes | list["Value"] | dict[str, "Value"]
"""A number; bytes of a text or of raw space; elements of an array; members of a struct by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a struct.

    name:      in C.
    c_type:    `u8` to `u64`, `s32`, `s64`, `be32`, `be64`, `phys` (a u64), `bool`, `char`, or `struct`.
    offset:    bytes from the start of its struct.
    size:      bytes of one element.
    count:     elements of an array. 0: a flexible array. None: not an array.
    struct:    of c_type `struct`, else None.
    first_bit: of a bit-field, in its little-endian container of `size` bytes. None: not a bit-field.
    width:     bits of a bit-field, else 0.
    kind:      meaning of the value, of an array: of its elements.
    bit_names: of kind flags: name by bit value.
    """

    name: str
    c_type: str
    offset: int
    size: int
    count: int | None = None
    struct: Struct | None = None
    first_bit: int | None = None
    width: int = 0
    kind: Kind = "number"
    bit_names: Mapping[int, str] = field(default_factory=dict, hash=False)

    @property
    def total(self) -> int:
        """Bytes of the whole member, 0 for a flexible array."""
        return self.size if self.count is None else self.size * self.count

    @property
    def is_bytes(self) -> bool:
        """Whether its value is bytes: a text, a bitmap or reserved space."""
        return self.count is not None and self.c_type in ("char", "u8")

    def read(self, data: bytes, base: int) -> Value:
        """Its value.

        data: bytes that hold the struct.
        base: offset of the struct in them.
        """
        start = base + self.offset
        if self.is_bytes:
            return data[start : start + self.total]
        if self.count is None:
            return self._element(data, start)
        return [self._element(data, start + index * self.size) for index in range(self.count)]

    def _element(self, data: bytes, start: int) -> Value:
        if self.struct is not None:
            return self.struct.read(data, start)
        order: Literal["big", "little"] = "big" if self.c_type.startswith("be") else "little"
        number = int.from_bytes(data[start : start + self.size], order, signed=self.c_type in ("s32", "s64"))
        return number if self.first_bit is None else number >> self.first_bit & ((1 << self.width) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Struct:
    """A struct without its padding.

    tag:     name after `struct` in C. Empty: anonymous.
    size:    bytes, with padding.
    align:   bytes.
    packed:  whether it is declared __packed.
    members: by ascending offset.
    """

    tag: str
    size: int
    align: int
    packed: bool
    members: tuple[Member, ...]

    def read(self, data: bytes, base: int = 0) -> dict[str, Value]:
        """The values of all members by name, without a flexible array.

        data: bytes that hold the struct.
        base: offset of the struct in them.
        """
        return {member.name: member.read(data, base) for member in self.members if member.count != 0}


@cache
def structure(schema: Schema) -> Struct:
    """The C struct of a schema."""
    return _struct(schema.struct)


def _struct(own: CStruct) -> Struct:
    tag = re.match(r"\w*", own.name)  # text after the name distinguishes forms
    assert tag is not None
    members = tuple(_members(own))
    return Struct(tag=tag[0], size=own.size, align=own.align, packed=own.is_packed, members=members)


def _members(struct: CStruct) -> Iterator[Member]:
    offset = 0
    for member in struct.members:
        if isinstance(member.type, Bits):
            yield from _bit_fields(member.type, offset)
        elif not member.is_padding:
            yield _member(member.name, member.type, offset)
        offset += member.type.size


def _bit_fields(own: Bits, offset: int) -> Iterator[Member]:
    first = 0
    for name, width in own.members:
        yield Member(name=name, c_type=own.c_type, offset=offset, size=own.size, first_bit=first, width=width)
        first += width


def _member(name: str, own: Type, offset: int) -> Member:
    element, count = own, None
    if isinstance(own, Array):
        element, count = own.of, own.count
    elif isinstance(own, Flex):
        element, count = own.of, 0
    elif isinstance(own, Raw):
        c_type = "char" if own.kind == "text" else "u8"
        return Member(name=name, c_type=c_type, offset=offset, size=1, count=own.size, kind=own.kind)
    made = _struct(element) if isinstance(element, CStruct) else None
    return Member(
        name=name, c_type="struct" if made is not None else element.c_type, offset=offset, size=element.size,
        count=count, struct=made, kind=element.kind, bit_names=element.bit_names,
    )  # fmt: skip
