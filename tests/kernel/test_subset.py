# SPDX-License-Identifier: MIT
"""BTF that is written: what it holds, and that it reads like the types that it is of."""

from __future__ import annotations

import struct
from time import process_time

import pytest

from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Place, Types, described
from luoser.kernel.verify import kernel_members, verify
from tests.kernel import real
from tests.kernel.made import Blob


def types_of(moment: str) -> Types:
    found = real.running(moment).types
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["luo_session", "luo_file", "inode", "kho_vmalloc_chunk", "memfd_luo_ser", "luo_ser"])
def test_a_struct_is_the_same(name: str) -> None:
    types = types_of("pre")
    number = types.struct(name)
    assert number is not None
    part = Btf(write_btf(types, [number]))
    other = part.struct(name)
    assert other is not None
    assert [*kernel_members(part, other)] == [*kernel_members(types, number)]
    assert part.type(other).size == types.type(number).size


def test_the_note_of_a_cut_is_verified_like_the_kernel() -> None:
    assert verify(types_of("frozen")) == verify(types_of("pre"))


def test_what_a_pointer_leads_to_is_a_declaration() -> None:
    types = types_of("pre")
    number = types.struct("luo_file")
    assert number is not None
    part = Btf(write_btf(types, [number]))
    assert part.struct("file") is None and part.count < 60
    place = part.find(part.named("luo_file")[0], "file")
    assert place is not None and described(part, place.type) == "struct file *"


def test_bit_fields_and_kinds_come_back() -> None:
    blob = Blob()
    word = blob.integer(b"int", 4, signed=True)
    blob.structure(b"s", 16, (b"a", word, 0, 3), (b"b", blob.add(6, b"e", 8), 64, 0), (b"c", word, 3, 5))
    types = Btf(blob.data())
    part = Btf(write_btf(types, [types.named("s")[0]]))
    assert [*part.members(1)] == [("a", Place(0, 3, 2)), ("b", Place(64, 0, 3)), ("c", Place(3, 5, 2))]
    assert part.type(2).signed and part.type(3).kind is Kind.ENUM


def test_members_far_from_the_start() -> None:
    """An offset of 2 MiB or more has no room beside the bits of bit-fields."""
    blob = Blob()
    blob.structure(b"far", 1 << 22, (b"x", blob.integer(b"u64", 8), 0x101_0040))
    types = Btf(blob.data())
    part = Btf(write_btf(types, types.named("far")))
    assert [(name, place.bit, place.bits) for name, place in part.members(1)] == [("x", 0x101_0040, 0)]


def test_integers_of_nonsense() -> None:
    blob = Blob()
    blob.structure(b"kho", 8, (b"x", blob.integer(b"huge", 0x3000_0000), 0))
    types = Btf(blob.data())
    assert Btf(write_btf(types, types.named("kho"))).type(2).size == 0x3000_0000


def test_a_struct_that_contains_itself() -> None:
    blob = Blob()
    blob.structure(b"kho", 8, (b"x", 1, 0), (b"", 1, 0))
    assert Btf(write_btf(Btf(blob.data()), [1])).count == 2


def test_a_hundred_thousand_structs_take_no_more_room_than_they_had() -> None:
    types = Btf(Blob(types=[struct.pack("<III", 0, 4 << 24, 8)] * 100_000).data())
    start = process_time()
    assert len(write_btf(types, range(1, 100_001))) <= 24 + 12 * 100_000 + 1
    assert process_time() - start < 10
