# SPDX-License-Identifier: MIT
"""Values of structs by the kernel's own types."""

from __future__ import annotations

import struct
from time import process_time

import pytest

from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Member, TooManyMembersError, Type, Types, TypesError, members_budget
from luoser.kernel.values import values_of
from tests.kernel.made import Blob


class Made(Types):
    """A struct of every kind of member."""

    made = (
        Type(Kind.OTHER, "void"),
        Type(Kind.INTEGER, "u32", 4),
        Type(Kind.INTEGER, "char", 1),
        Type(Kind.ARRAY, "", target=2, count=8),
        Type(Kind.ARRAY, "", target=1, count=2),
        Type(Kind.INTEGER, "int", 4, signed=True),
        Type(Kind.STRUCT, "inner", 8, members=(Member("a", 1, 0), Member("b", 5, 32))),
        Type(Kind.POINTER, "", 8, target=6),
        Type(Kind.UNION, "", 8, members=(Member("address", 11, 0), Member("pointer", 7, 0))),
        Type(
            Kind.STRUCT,
            "outer",
            44,
            members=(
                Member("name", 3, 0),
                Member("pair", 4, 64),
                Member("inner", 6, 128),
                Member("where", 8, 192),
                Member("low", 1, 256, 3),
                Member("high", 1, 259, 5),
                Member("", 10, 288),
            ),
        ),
        Type(Kind.UNION, "", 8, members=(Member("first", 1, 0), Member("second", 1, 0))),
        Type(Kind.INTEGER, "u64", 8),
    )

    def type(self, number: int) -> Type:
        return self.made[number]

    def named(self, name: str) -> list[int]:
        return [index for index, one in enumerate(self.made) if one.name == name and one.members]

    def structs(self):  # type: ignore[no-untyped-def]
        return ((index, one.name) for index, one in enumerate(self.made) if one.members)


DATA = b"name\0xyz" + struct.pack("<IIIiQIQ", 1, 2, 3, -4, 0x1234000, 0b10101_011, 7)
EXPECTED = {
    "name": "name",
    "pair": [1, 2],
    "inner": {"a": 3, "b": -4},
    "where": 0x1234000,
    "low": 3,
    "high": 0b10101,
    "first": 7,
}


def test_every_kind_of_member() -> None:
    types = Made("made")
    (number,) = types.named("outer")
    assert values_of(types, number, DATA, members_budget()) == EXPECTED
    blob = Btf(write_btf(types, [number]))
    (again,) = blob.named("outer")
    assert values_of(blob, again, DATA, members_budget()) == EXPECTED


def test_a_struct_that_is_larger_than_its_bytes_is_refused() -> None:
    types = Made("made")
    with pytest.raises(TypesError, match="expected at most 43"):
        values_of(types, types.named("outer")[0], DATA[:43], members_budget())


def test_members_that_share_their_bytes_are_counted() -> None:
    """Each level has 256 times as much, in the same 16 bytes of memory."""
    blob = Blob()
    inner = blob.integer(b"u16", 2)
    for level in range(2):
        inner = blob.structure(b"level%d" % level, 8, *[(b"m%d" % bit, inner, bit) for bit in range(256)])
    outer = blob.structure(b"outer", 8, (b"x", inner, 0))
    start = process_time()
    with pytest.raises(TooManyMembersError, match=r"members .*--limit compared_members=N"):
        values_of(Btf(blob.data()), outer, bytes(16), members_budget())
    assert process_time() - start < 10


def test_an_array_has_as_many_elements_as_its_bytes() -> None:
    blob = Blob()
    word = blob.integer(b"u16", 2)
    whole = blob.structure(b"whole", 2000, (b"x", blob.array(word, 1000), 0))
    longer = blob.structure(b"longer", 8, (b"x", blob.array(word, 0xFFFF_FFFF), 32))
    types, data = Btf(blob.data()), bytes(range(200)) * 10
    assert values_of(types, whole, data, members_budget()) == {"x": list(struct.unpack("<1000H", data))}
    assert values_of(types, longer, data[:8], members_budget()) == {"x": list(struct.unpack("<2H", data[4:8]))}
