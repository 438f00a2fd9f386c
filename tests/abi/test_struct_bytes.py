# SPDX-License-Identifier: MIT
"""Structs from plain values: every layout there and back by way of a document, and what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi import luo, pci
from luoser.abi.registry import layouts
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes, text_bytes
from luoser.errors import UsageError
from luoser.state import (
    Direction,
    File,
    Handover,
    Luo,
    MapStatus,
    Preserved,
    Record,
    Session,
    Source,
    State,
    to_document,
)
from luoser.state.from_json import from_document
from luoser.state.struct_values import struct_values

STRUCTS = {entry.name: entry.schemas[0] for entry in layouts() if entry.kind == "struct"}
each_struct = pytest.mark.parametrize("name", STRUCTS)


def as_written(schema: Schema, data: bytes) -> bytes:
    """Bytes as a kernel leaves them: padding and bits without a name zero, texts with a NUL and zeros behind it."""
    made = bytearray(schema.build(schema.parse(data)))
    made[schema.body :] = bytes(len(made) - schema.body)
    for field in schema.fields:
        if field.padding:
            made[field.offset : field.offset + field.size] = bytes(field.size)
        elif field.bit_width is not None:
            named = sum(
                (1 << other.bit_width) - 1 << (other.bit_offset or 0)
                for other in schema.fields
                if other.offset == field.offset and other.bit_width is not None
            )
            word = int.from_bytes(made[field.offset : field.offset + field.size], "little") & named
            made[field.offset : field.offset + field.size] = word.to_bytes(field.size, "little")
        elif field.c_type.startswith("char"):
            _clean(made, field.offset, field.size)
        elif field.c_type.startswith("pci_resource_ser["):
            for start in range(field.offset, field.offset + field.size, pci.pci_resource_ser.size):
                _clean(made, start + 16, 64)
    return bytes(made)


def _clean(made: bytearray, start: int, size: int) -> None:
    made[start : start + size] = bytes(made[start : start + size - 1]).split(b"\0")[0].ljust(size, b"\0")


def by_document(fields: dict[str, Any]) -> dict[str, Any]:
    """Members of a struct as they come out of the document that they were put into."""
    detail = Record(address=0x5000, readings=(("x", fields),), confidence="c")
    session = Session(
        name="a", address=None, files=(File(compatible="x", data=0, token=0, address=None, detail=detail),)
    )
    state = State(
        source=Source(path="", format="elf"),
        handovers=(
            Handover(
                address=0x1000,
                compatible="kho-v4",
                direction=Direction.OUTGOING,
                evidence=(),
                scratch=None,
                preserved=Preserved(form="radix", address=0, status=MapStatus.ABSENT),
                subtrees=(),
                luo=Luo(layout="luo-v5", compatible=None, address=0, number=1, serialized=True, sessions=(session,)),
            ),
        ),
    )
    back = from_document(json.loads(json.dumps(to_document(state, full=True)))).handovers[0].luo
    assert back is not None
    found = back.sessions[0].files[0].detail
    assert found is not None
    return dict(found.readings[0][1])


@each_struct
@settings(max_examples=10)
@given(data=st.data())
def test_every_struct_comes_back_by_way_of_a_document(name: str, data: st.DataObject) -> None:
    schema = STRUCTS[name]
    seed = data.draw(st.binary(min_size=16, max_size=64))
    raw = as_written(schema, (seed * (schema.size // len(seed) + 1))[: schema.size])
    fields = struct_values(schema, raw)
    assert struct_bytes(schema, fields, name) == raw
    back = by_document(fields)
    assert struct_bytes(schema, back, name) == raw


@each_struct
def test_what_is_not_given_is_zero(name: str) -> None:
    assert struct_bytes(STRUCTS[name], {}, name) == bytes(STRUCTS[name].size)


def test_members_by_name_numbers_as_text() -> None:
    ser = {"compatible": "luo-v5", "liveupdate_num": 1, "sessions_pa": "0x10abc0000", "flbs_pa": "0x10abd0000"}
    expected = "6c756f2d76350000 0100000000000000 0000bc0a01000000 0000bd0a01000000"
    assert struct_bytes(luo.luo_ser, ser, "luo") == bytes.fromhex(expected)
    assert struct_bytes(luo.luo_ser, {"sessions_pa": "64M"}, "luo")[16:24] == (64 << 20).to_bytes(8, "little")


WRONG = [
    (luo.luo_ser, {"sesions_pa": 1}, "luo: unknown member sesions_pa"),
    (luo.luo_ser, {"compatible": "luo-v567"}, "luo, compatible: too long: expected at most 7 bytes and a NUL, found 8"),
    (luo.luo_ser, {"compatible": "a\0b"}, "luo, compatible: NUL inside the name"),
    (luo.luo_ser, {"compatible": ["a"]}, "luo, compatible: expected a text"),
    (luo.luo_ser, {"compatible": "\ud800"}, "luo, compatible: expected a text"),
    (luo.luo_ser, {"sessions_pa": "many"}, "luo, sessions_pa: expected a number, found 'many'"),
    (luo.luo_ser, {"sessions_pa": True}, "luo, sessions_pa: expected a number, found True"),
    (luo.luo_ser, {"sessions_pa": [1]}, "luo, sessions_pa: expected a number"),
    (luo.luo_ser, {"liveupdate_num": 1 << 64}, "luo, liveupdate_num: 18446744073709551616 does not fit 8 bytes"),
    (luo.luo_ser, {"liveupdate_num": -1}, "luo, liveupdate_num: -1 does not fit 8 bytes"),
    (luo.luo_session_ser, {"file_set_ser": 5}, "luo, file_set_ser: expected an object"),
    (luo.luo_session_ser, {"file_set_ser": {"counts": 1}}, "luo, file_set_ser: unknown member counts"),
    (luo.luo_feature_hdr, {"reserved": 5}, "luo, reserved: expected a list"),
    (luo.luo_feature_hdr, {"reserved": [0] * 14}, "luo, reserved: too many items: expected at most 13, found 14"),
    (pci.pci_dev_ser_v1_12, {"pme_poll": 2}, "luo, pme_poll: 2 does not fit 1 bit"),
    (STRUCTS["kho-bitmap-512"], {"preserve": "0g"}, "luo, preserve: expected bytes in hex"),
    (
        STRUCTS["kho-bitmap-512"],
        {"preserve": "00" * 513},
        "luo, preserve: too long: expected at most 512 bytes, found 513",
    ),
]


@pytest.mark.parametrize(("schema", "fields", "word"), WRONG, ids=[entry[2] for entry in WRONG])
def test_what_does_not_fit_is_named(schema: Schema, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        struct_bytes(schema, fields, "luo")
    assert str(caught.value).startswith(word)


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    fields = by_document({"compatible": "0x41"})
    assert struct_bytes(luo.luo_ser, fields, "luo")[:8] == b"0x41".ljust(8, b"\0")


def test_names_that_are_no_utf8_keep_their_bytes() -> None:
    assert text_bytes("a\udcff", 4, "name") == b"a\xff\0\0"
    assert text_bytes("\u00e4", 3, "name") == "\u00e4".encode() + b"\0"


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@each_struct
@settings(max_examples=10)
@given(data=st.data())
def test_whatever_is_given_only_usage_errors_come_of_it(name: str, data: st.DataObject) -> None:
    schema = STRUCTS[name]
    names = [field.name for field in schema.fields if "." not in field.name]
    fields = data.draw(st.dictionaries(st.sampled_from(names), anything, max_size=3))
    try:
        assert len(struct_bytes(schema, fields, name)) == schema.size
    except UsageError as error:
        assert str(error).isprintable()
