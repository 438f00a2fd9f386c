# SPDX-License-Identifier: MIT
"""Structs with their members where a kernel has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.abi.luo import luo_file_ser, luo_session_ser
from luoser.abi.memfd import memfd_luo_folio_ser, memfd_luo_ser_v2
from luoser.abi.schema import Schema, packed, u64
from luoser.kernel.own import own_schema
from luoser.kernel.types import Type, Types
from tests.kernel import real
from tests.kernel.moved import Moved


def types() -> Types:
    found = real.running("pre").types
    assert found is not None
    return found


@pytest.mark.parametrize("schema", [luo_file_ser, luo_session_ser, memfd_luo_ser_v2, memfd_luo_folio_ser])
def test_an_equal_struct_is_the_one_of_the_registry(schema: Schema) -> None:
    assert own_schema(types(), schema) is schema


def test_members_are_where_the_kernel_has_them() -> None:
    made = own_schema(Moved(types(), {"luo_file_ser": ("token", "data", "compatible")}, grown=4), luo_file_ser)
    assert made is not None and made.size == luo_file_ser.size + 4
    assert [(field.name, field.offset) for field in made.fields if not field.padding] == [
        ("token", 4),
        ("data", 12),
        ("compatible", 20),
    ]
    assert {field.name: field.kind for field in made.fields} == {
        "_pad0": "bytes",
        **{field.name: field.kind for field in luo_file_ser.fields},
    }


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("luo_file_ser", ("data", "compatible")),  # a member is gone
        ("luo_file_set_ser", ("count", "files")),  # an inner struct is another one
    ],
)
def test_a_struct_with_other_members_is_not_guessed(name: str, order: tuple[str, ...]) -> None:
    schema = luo_file_ser if name == "luo_file_ser" else luo_session_ser
    assert own_schema(Moved(types(), {name: order}), schema) is None


class Twice(Moved):
    """The last member is where the one before it is, as in a union."""

    def type(self, number: int) -> Type:
        found = super().type(number)
        if number not in self.orders:
            return found
        *others, last = found.members
        size = found.size - self.below.size(last.type)
        return replace(found, size=size, members=(*others, replace(last, bit=others[-1].bit)))


def test_members_at_one_place_are_not_guessed() -> None:
    """One of them would be lost, and readers ask for both."""
    assert own_schema(Twice(types(), {"luo_file_ser": ("compatible", "data", "token")}), luo_file_ser) is None


@pytest.mark.parametrize(("grown", "is_read"), [(1 << 12, True), (1 << 16, False)])
def test_a_struct_that_is_larger_than_a_page_is_not_read(grown: int, is_read: bool) -> None:
    moved = Moved(types(), {"luo_file_ser": ("compatible", "data", "token")}, grown=grown)
    assert (own_schema(moved, luo_file_ser) is not None) is is_read


def test_a_struct_that_the_kernel_has_not_is_none() -> None:
    schema = Schema("no_ser", "test", packed("data" / u64), status="", seen_in="", meaning="")
    assert own_schema(types(), schema) is None
