# SPDX-License-Identifier: MIT
"""What readers say that belongs to what they read, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest

from luoser.abi.registry import layouts
from luoser.abi.schema import Schema
from luoser.errors import PageState
from luoser.fdt import parse
from luoser.memory.recorder import Recorder
from luoser.memory.source import Segment, SegmentedMemory
from luoser.reader.kept import keep_items, keep_struct, keep_tree, keep_words, no_names, values_of
from luoser.reader.walk import Subject, Walk
from tests.images import Image, Node, fdt, text

SUBJECT = Subject("thing", "thing")
BASE = 0x1000


def recorded(data: bytes = b"") -> tuple[Recorder, Walk]:
    image = Image(pages=4)
    image.put(BASE, data)
    record = Recorder(image.open())
    return record, Walk(record)


def kept(record: Recorder) -> set[int]:
    return {place - BASE for start, size in record.kept for place in range(start, start + size)}


ALL = sorted({schema.label + schema.name: schema for one in layouts() for schema in one.schemas}.items())


@pytest.mark.parametrize("schema", [one for _, one in ALL], ids=[name for name, _ in ALL])
def test_a_struct_is_kept_but_for_padding_and_large_blobs(schema: Schema) -> None:
    record, walk = recorded()
    keep_struct(walk, BASE, schema, SUBJECT)
    lost = set(range(schema.body)) - kept(record)
    of = [one for one in schema.fields if one.kind == "bytes" and one.offset in lost and one.size]
    assert all(one.padding or one.size > 128 for one in of)
    assert lost == {place for one in of for place in range(one.offset, one.offset + one.size)}


def words(*given: int) -> list[tuple[int, bytes]]:
    return [(BASE, struct.pack(f"<{len(given)}Q", *given))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0x3 << 52 | 0x12345, 7, 0, 1 << 43], {0, 1, 2, 3}),
        ([0x12345] * 20 + [int.from_bytes(b"a secret", "little")], set(range(20))),
        ([0x12345] * 20 + [1 << 63 | 5], set(range(21))),
        ([int.from_bytes(b"a secret", "little"), 1 << 63, 7], set()),
    ],
    ids=["pages, indices, holes", "text", "a flipped bit", "something else"],
)
def test_words_of_an_array_are_pages_and_indices(given: list[int], expected: set[int]) -> None:
    record, walk = recorded()
    keep_words(walk, words(*given), SUBJECT)
    assert {place // 8 for place in kept(record)} == expected


def test_items_that_are_not_kept_are_left_out_of_a_run() -> None:
    record, walk = recorded()
    flags: Iterable[bool] = [True, True, False, True]
    keep_items(walk, BASE, 16, flags, SUBJECT)
    assert sorted(one for one in record.kept if one[1]) == [(BASE, 32), (BASE + 48, 16)]


def test_a_devicetree_is_kept_without_values_that_have_no_meaning() -> None:
    data = fdt(
        Node("", {"compatible": text("x"), "size": bytes(8), "key": b"secret.."}, [Node("room", {"key": b"more"})])
    )
    record, walk = recorded(data)
    keep_tree(walk, BASE, data, parse(data), SUBJECT, values_of(size=8), lambda name, level: level == 1)
    lost = bytes(byte for place, byte in enumerate(data) if place not in kept(record))
    assert lost.replace(b"\0", b"") == b"secret..more"
    assert [record.read(*place) for place in record.names] == [b"room\0\0\0\0"]


def test_strings_that_no_property_has_are_not_kept() -> None:
    data = bytearray(fdt(Node("", {"abcd": bytes(8)})))
    strings = int.from_bytes(data[12:16], "big")
    data[32:36] = (int.from_bytes(data[32:36], "big") + 7).to_bytes(4, "big")
    data[4:8] = (strings + 12).to_bytes(4, "big")
    data[strings:] = b"abcd\0secret\0"
    record, walk = recorded(bytes(data))
    keep_tree(walk, BASE, bytes(data), parse(bytes(data)), SUBJECT, values_of(), no_names)
    assert not kept(record) & set(range(strings + 5, strings + 12))


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("compatible", 64, True), ("compatible", 65, False), ("start", 8, True), ("start", 9, False), ("other", 0, False)],
)
def test_values_are_kept_up_to_their_size(name: str, size: int, expected: bool) -> None:
    assert values_of(start=8)(name.encode(), bytes(size)) is expected


def test_nothing_is_noted_where_nothing_is_cut() -> None:
    walk = Walk(Image(pages=4).open())
    keep_words(walk, words(1, 2), SUBJECT)
    assert not walk.keeps and not walk.problems


def test_a_structure_that_is_not_all_in_a_cut_is_a_problem() -> None:
    memory = SegmentedMemory(
        "cut", bytes(4096), [Segment(0, 4096, 0, 4096), Segment(4096, 64, 0, 0, PageState.EXCLUDED)]
    )
    memory.format, memory.withheld = "x", ((4096, 4160),)
    walk = Walk(memory)
    walk.keep(4000, 96, SUBJECT)
    assert not walk.problems
    walk.keep(4000, 97, SUBJECT)
    assert [(one.code, one.about) for one in walk.problems] == [("excluded", "thing")]
