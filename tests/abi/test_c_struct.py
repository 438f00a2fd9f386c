# SPDX-License-Identifier: MIT
"""The tree of members: the same values as the catalogue's offsets give."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from luoser.abi.c_struct import Struct, Value, structure
from luoser.abi.registry import schemas
from luoser.abi.schema import Schema
from tests.catalogue import INDEX, LAYOUTS, tag, values

KNOWN = [schema for schema in schemas() if (schema.name, schema.label) in INDEX]
each_schema = pytest.mark.parametrize("schema", KNOWN, ids=[f"{s.name}-{s.label}" for s in KNOWN])


def flat(struct: Struct, found: dict[str, Value], path: str = "") -> Iterator[tuple[str, Value]]:
    for member in struct.members:
        if member.count == 0:
            continue
        value = found[member.name]
        if isinstance(value, list):
            elements = [(f"{path}{member.name}[{index}]", entry) for index, entry in enumerate(value)]
        else:
            elements = [(path + member.name, value)]
        for name, entry in elements:
            if isinstance(entry, dict):
                assert member.struct is not None
                yield from flat(member.struct, entry, f"{name}.")
            else:
                yield name, entry


@each_schema
def test_values_are_those_at_the_offsets_of_the_catalogue(schema: Schema) -> None:
    number = INDEX[schema.name, schema.label]
    data = random.Random(schema.label).randbytes(schema.size + 3)
    expected = [
        (name, value[0] if isinstance(value, bytes) and len(value) == 1 else value)
        for _, name, value in values(number, data, 3)
    ]
    struct = structure(schema)
    assert list(flat(struct, struct.read(data, 3))) == expected


@each_schema
def test_a_struct_has_the_kernels_name_and_size(schema: Schema) -> None:
    number = INDEX[schema.name, schema.label]
    struct = structure(schema)
    assert (struct.tag, struct.size, struct.packed) == (
        tag(number), LAYOUTS[number]["size"], LAYOUTS[number]["packed"],
    )  # fmt: skip


def test_structs_are_equal_by_what_they_are() -> None:
    made = {structure(schema) for schema in schemas()}
    assert len(made) <= len(schemas())
    assert all(structure(schema) is structure(schema) for schema in schemas())
