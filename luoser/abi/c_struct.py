# SPDX-License-Identifier: MIT
"""A schema as a tree of C members, for code that declares a struct or reads it member by member."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import construct

from luoser.abi.schema import Kind, Schema, _Bits, _c_type, _CStruct, _Flex, _inner, _kind

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
    return _struct(schema.con)


def _struct(con: Any) -> Struct:
    tag = re.match(r"\w*", con.schema_name)  # text after the name distinguishes forms
    assert tag is not None
    return Struct(tag=tag[0], size=con.sizeof(), align=con.align, packed=con.is_packed, members=tuple(_members(con)))


def _members(con: Any) -> Iterator[Member]:
    offset = 0
    for member in con.subcons:
        inner = _inner(member)
        if isinstance(inner, _Bits):
            yield from _bit_fields(inner, offset)
        elif not member.name.startswith("_pad"):
            yield _member(member.name, inner, offset)
        offset += inner.sizeof()


def _bit_fields(inner: Any, offset: int) -> Iterator[Member]:
    first = 0
    for name, width in inner.members:
        kind = f"u{8 * inner.size}"
        yield Member(name=name, c_type=kind, offset=offset, size=inner.size, first_bit=first, width=width)
        first += width


def _member(name: str, inner: Any, offset: int) -> Member:
    element, count = inner, None
    if isinstance(inner, construct.Array):
        element, count = inner.subcon, int(inner.count)
    elif isinstance(inner, _Flex):
        element, count = inner.element, 0
    elif isinstance(inner, construct.Bytes):
        c_type = "char" if _c_type(inner).startswith("char") else "u8"
        return Member(name=name, c_type=c_type, offset=offset, size=1, count=int(inner.sizeof()), kind=_kind(inner)[0])
    made = _struct(element) if isinstance(element, _CStruct) else None
    kind, bit_names = _kind(element)
    return Member(
        name=name, c_type="struct" if made is not None else _c_type(element), offset=offset, size=element.sizeof(),
        count=count, struct=made, kind=kind, bit_names=bit_names,
    )  # fmt: skip
