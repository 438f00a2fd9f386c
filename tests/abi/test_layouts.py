# SPDX-License-Identifier: MIT
"""Every schema against the catalogue's layouts, and every schema against arbitrary bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.constructs import construct_of
from luoser.abi.registry import schemas
from luoser.abi.schema import Field, Schema, array, be32, boolean, char, natural, packed, s32, u8, u16, u32

LAYOUTS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "fixtures" / "layouts.json").read_text())
SCHEMAS = {(schema.name, schema.label): schema for schema in schemas()}
KNOWN = [
    (layout, SCHEMAS[layout["name"], layout["abi"]]) for layout in LAYOUTS if (layout["name"], layout["abi"]) in SCHEMAS
]

each_layout = pytest.mark.parametrize(("layout", "schema"), KNOWN, ids=[f"{s.name}-{s.label}" for _, s in KNOWN])
each_schema = pytest.mark.parametrize("schema", schemas(), ids=[f"{s.name}-{s.label}" for s in schemas()])


def members(schema: Schema) -> dict[str, Field]:
    return {field.name: field for field in schema.fields if not field.padding}


def gaps(schema: Schema) -> list[dict[str, int]]:
    own = (field for field in schema.fields if field.padding and field.depth == 0)
    return [{"offset": field.offset, "size": field.size} for field in own]


def is_below(name: str, parent: str) -> bool:
    return name.startswith(f"{parent}.")


def kind_of_layout(text: str, size: int) -> str:
    """The catalogue's wording of a type as a schema words it; sizes of arrays are compared elsewhere."""
    if text.startswith(("bitmap", "union")):
        return "u8[]"
    base = re.match(r"u64 phys|\w+", text)
    assert base, text
    is_array = size == 0 or bool(re.match(r"(u64 phys|\w+)\[", text))
    return base[0].replace("u64 phys", "phys") + ("[]" if is_array else "")


def kind_of_field(field: Field) -> str:
    """The schema's wording, without array sizes and without the width of a bit-field."""
    return re.sub(r"\[\d*\]", "[]", field.c_type).removeprefix("struct ")


def test_every_entry_of_the_catalogue_has_one_schema() -> None:
    """Schemas may be ahead of the catalogue, which is written apart from them; no two share a name and a label."""
    ours = Counter((schema.name, schema.label) for schema in schemas())
    theirs = Counter((layout["name"], layout["abi"]) for layout in LAYOUTS)
    assert not theirs - ours, "entries without a schema, or twice"
    assert [key for key, count in ours.items() if count > 1] == []


@each_layout
def test_struct_as_a_whole(layout: dict[str, Any], schema: Schema) -> None:
    expected = {key: layout[key] for key in ("size", "packed", "align", "status", "seen_in")}
    assert {key: getattr(schema, key) for key in expected} == expected
    assert layout["endian"] in schema.layout


@each_layout
def test_every_field_of_the_layout_is_where_the_schema_has_it(layout: dict[str, Any], schema: Schema) -> None:
    ours = members(schema)
    for field in layout["fields"]:
        own = ours[field["name"]]
        place = (own.offset, own.size, own.bit_offset, own.bit_width)
        assert place == (field["offset"], field["size"], field.get("bit_offset"), field.get("bit_width")), field


@each_layout
def test_schema_has_no_other_fields(layout: dict[str, Any], schema: Schema) -> None:
    """A nested member may stand for its own members, or they for it."""
    theirs = {field["name"] for field in layout["fields"]}
    more = [
        name
        for name in members(schema)
        if name not in theirs and not any(is_below(name, other) or is_below(other, name) for other in theirs)
    ]
    assert more == []


@each_layout
def test_padding_is_what_the_compiler_left(layout: dict[str, Any], schema: Schema) -> None:
    assert gaps(schema) == layout["padding"]


@each_layout
def test_types_are_of_one_kind(layout: dict[str, Any], schema: Schema) -> None:
    ours = members(schema)
    for field in layout["fields"]:
        if "bit_width" not in field:
            assert kind_of_field(ours[field["name"]]) == kind_of_layout(field["type"], field["size"]), field


EXAMPLES = 25
"""Images of each of the hundred structs."""


def images(size: int) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes; a large image repeats a prime number of them, as Hypothesis bounds what it draws."""
    drawn = min(size, 509)
    return st.binary(min_size=drawn, max_size=drawn).map(lambda part: (part * (size // drawn + 1))[:size])


@each_schema
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_bytes_survive_parse_and_build(schema: Schema, data: st.DataObject) -> None:
    image = data.draw(images(schema.size))
    parsed = schema.parse(image)
    assert schema.build(parsed) == image
    assert without_streams(construct_of(schema.struct).parse(image)) == without_streams(parsed)


def without_streams(parsed: Any) -> Any:
    """As construct parses it, in plain objects. Its containers have the stream that they came from."""
    if isinstance(parsed, dict):
        return {name: without_streams(value) for name, value in parsed.items() if name != "_io"}
    return [without_streams(item) for item in parsed] if isinstance(parsed, list) else parsed


def parsed_member(parsed: Any, name: str) -> Any:
    for part in name.split("."):
        parsed = parsed[part]
    return parsed


def container_value(schema: Schema, parsed: Any, first: str) -> int:
    """The bit-fields of one container as an integer, and the bits that have no name."""
    head, _, _ = first.rpartition(".")
    place = schema.offset(first)
    group = parsed_member(parsed, f"{head}._bits" if head else "_bits")
    own = [field for field in schema.fields if field.offset == place and field.bit_width is not None]
    value = sum(int(group[field.name.rpartition(".")[2]]) << int(field.bit_offset or 0) for field in own)
    return value | int(group.get("_unused", 0)) << sum(int(field.bit_width or 0) for field in own)


@each_schema
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_record_gives_what_parse_gives(schema: Schema, data: st.DataObject) -> None:
    image = data.draw(images(schema.size))
    parsed, fields = schema.parse(image), members(schema)
    values = dict(zip(schema.record_fields, schema.record.unpack(image), strict=True))
    for name, value in values.items():
        field = fields[name]
        if field.bit_width is not None:
            assert value == container_value(schema, parsed, name)
        elif isinstance(value, bytes):
            assert value == image[field.offset : field.offset + field.size]
        else:
            assert value == parsed_member(parsed, name)


@each_schema
def test_record_covers_the_struct(schema: Schema) -> None:
    assert schema.record.size == schema.size
    assert len(set(schema.record_fields)) == len(schema.record_fields)


def made(struct: Any) -> Schema:
    return Schema("made", "for a test", struct, status="posted", seen_in="nowhere", meaning="For a test.")


def test_record_of_big_endian_members() -> None:
    inner = made(natural("first" / be32 * "", "mark" / u8 * ""))
    outer = made(natural("inner" / inner * "", "text" / char(2) * "", "last" / be32 * ""))
    assert outer.record.unpack(bytes.fromhex("00000001 02000000 4142 0000 00000003")) == (1, 2, b"AB", 3)


def test_record_of_little_endian_members() -> None:
    schema = made(packed("small" / u8 * "", "word" / u16 * "", "sign" / s32 * "", "many" / array(2, u32) * ""))
    assert schema.record.unpack(bytes.fromhex("01 0200 ffffffff 0100000002000000")) == (
        1,
        2,
        -1,
        bytes.fromhex("0100000002000000"),
    )


def test_boolean_keeps_any_byte() -> None:
    schema = made(packed("is_set" / boolean * "", "is_large" / boolean * ""))
    assert [field.c_type for field in schema.fields] == ["bool", "bool"]
    assert schema.build(schema.parse(b"\x02\x01")) == b"\x02\x01"
