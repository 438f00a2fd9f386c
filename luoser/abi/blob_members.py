# SPDX-License-Identifier: MIT
"""Every member of every struct of a blob, with the bytes that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from luoser.abi.blob_structs import parts
from luoser.abi.c_struct import Member, Struct, structure
from luoser.abi.registry import Layout
from luoser.abi.schema import Kind

__all__ = ["Field", "fields"]


@dataclass(frozen=True, slots=True)
class Field:
    """Bytes of a blob that are one member, or several bit-fields in one container.

    offset:    bytes from the start of the blob.
    size:      bytes.
    name:      as an expression in C, such as `devs[2].flags`.
    c_type:    of one element. `char` and `u8` cover all bytes of an array.
    value:     a number, or bytes. Of bit-fields: their container as a number.
    bits:      (name, value) of each bit-field.
    kind:      meaning of the value.
    bit_names: of kind flags: name by bit value.
    """

    offset: int
    size: int
    name: str
    c_type: str
    value: int | bytes
    bits: tuple[tuple[str, int], ...] = ()
    kind: Kind = "number"
    bit_names: Mapping[int, str] = field(default_factory=dict, hash=False)

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.offset + self.size


def fields(layout: Layout, data: bytes) -> Iterator[Field]:
    """The members of all structs of a blob, by ascending offset. Without padding, and without bytes of no struct.

    layout: of the blob.
    data:   the blob. Members beyond its end are left out.

    Raises FormatError if the blob is shorter than the first struct.
    """
    for part in parts(layout, data):
        prefix = "" if part.index is None else f"{part.name}[{part.index}]."
        yield from _members(structure(part.schema), data, part.offset, prefix)


def _members(struct: Struct, data: bytes, base: int, prefix: str) -> Iterator[Field]:
    for first_bit, group in groupby(struct.members, key=lambda member: (member.first_bit is not None, member.offset)):
        members = list(group)
        if first_bit[0]:
            yield _bits(members, data, base, prefix)
        else:
            for member in members:
                yield from _member(member, data, base, prefix)


def _bits(members: list[Member], data: bytes, base: int, prefix: str) -> Field:
    offset, size = base + members[0].offset, members[0].size
    value = int.from_bytes(data[offset : offset + size], "little")
    found = tuple((prefix + member.name, _number(member.read(data, base))) for member in members)
    return Field(offset, size, ", ".join(name for name, _ in found), members[0].c_type, value, found)


def _member(member: Member, data: bytes, base: int, prefix: str) -> Iterator[Field]:
    start, name = base + member.offset, prefix + member.name
    if member.is_bytes:
        if member.count:
            yield Field(start, member.total, name, member.c_type, data[start : start + member.total])
        return
    for index in range(1 if member.count is None else member.count):
        place, full = start + index * member.size, name if member.count is None else f"{name}[{index}]"
        if member.struct is not None:
            yield from _members(member.struct, data, place, f"{full}.")
        else:
            order: Literal["big", "little"] = "big" if member.c_type.startswith("be") else "little"
            value = int.from_bytes(data[place : place + member.size], order, signed=member.c_type in ("s32", "s64"))
            yield Field(place, member.size, full, member.c_type, value, kind=member.kind, bit_names=member.bit_names)


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
