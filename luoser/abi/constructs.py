# SPDX-License-Identifier: MIT
"""The construct object of a struct, which builds it."""

from __future__ import annotations

from functools import cache
from typing import Any

import construct
from construct import BitsInteger, BitStruct, Bytes, ByteSwapped

from luoser.abi.schema import Array, Bits, CStruct, Flex, Scalar, Type

__all__ = ["construct_of"]


@cache
def construct_of(struct: CStruct) -> Any:
    """The construct Struct with the members of a struct, padding included."""
    return construct.Struct(*(member.name / _construct(member.type) for member in struct.members))


def _construct(of: Type) -> Any:
    if isinstance(of, CStruct):
        return construct_of(of)
    if isinstance(of, Scalar):
        return construct.FormatField(of.order, {"I": "L", "i": "l"}.get(of.code, of.code))  # the names that it knows
    if isinstance(of, Array):
        return construct.Array(of.count, _construct(of.of))
    if isinstance(of, Flex):
        return construct.Computed(None)
    if isinstance(of, Bits):
        return _bits(of)
    return Bytes(of.size)


def _bits(of: Bits) -> Any:
    """The fields as construct has them: from the most significant bit down, those without a name as `_unused`."""
    unused = of.size * 8 - sum(width for _, width in of.members)
    declared = (*of.members, ("_unused", unused)) if unused else of.members
    return ByteSwapped(BitStruct(*(name / BitsInteger(width) for name, width in reversed(declared))))
