# SPDX-License-Identifier: MIT
"""BTF: kinds, bit-fields, modules, newer headers; blobs that are damaged on purpose."""

from __future__ import annotations

import struct
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Member, TooManyMembersError, TypesError
from luoser.limits import Limits, limited
from tests.kernel import real
from tests.kernel.made import Blob
from tests.work import steps


def test_the_types_of_a_real_kernel() -> None:
    types = real.running("pre").types
    assert isinstance(types, Btf) and types.count > 40_000
    number = types.struct("luo_session")
    assert number is not None and types.size(number) == 192
    assert [(name, place.offset) for name, place in types.members(number)] == [
        ("name", 0),
        ("list", 64),
        ("retrieved", 80),
        ("file_set", 88),
        ("mutex", 168),
    ]


def test_every_kind() -> None:
    blob = Blob()
    word = blob.integer(b"int", 4, signed=True)
    made = [
        blob.pointer(word),
        blob.array(word, 3),
        blob.structure(b"s", 4, (b"a", word, 0)),
        blob.structure(b"u", 4, (b"a", word, 0), union=True),
        blob.add(6, b"e", 4, struct.pack("<IiIi", 0, 1, 0, 2), count=2),
        blob.add(7, b"f"),
        blob.add(8, b"t", word),
        blob.add(9, last=word),
        blob.add(10, last=word),
        blob.add(11, last=word),
        blob.add(12, b"fn", word),
        blob.add(13, last=word, body=struct.pack("<4I", 0, word, 0, word), count=2),
        blob.add(14, b"v", word, struct.pack("<I", 1)),
        blob.add(15, b".data", 8, struct.pack("<3I", 1, 0, 8), count=1),
        blob.add(16, b"float", 4),
        blob.add(17, b"tag", word, struct.pack("<i", -1)),
        blob.add(18, b"tag", word),
        blob.add(19, b"e64", 8, struct.pack("<III", 0, 1, 2), count=1, flag=True),
    ]
    last = blob.structure(b"last", 1)
    types = Btf(blob.data())
    assert types.count == last + 1
    assert [types.type(number).kind for number in made] == [
        *(Kind.POINTER, Kind.ARRAY, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.OTHER),
        *(Kind.ALIAS, Kind.ALIAS, Kind.ALIAS, Kind.ALIAS, Kind.OTHER, Kind.OTHER, Kind.OTHER, Kind.OTHER),
        *(Kind.OTHER, Kind.OTHER, Kind.ALIAS, Kind.ENUM),
    ]
    assert types.named("s") == [made[2]] and types.named("f") == [] and types.struct("none") is None
    assert [*types.structs()] == [(made[2], "s"), (made[3], "u"), (last, "last")]


def test_bit_fields() -> None:
    blob = Blob()
    word = blob.integer(b"int", 4)
    number = blob.structure(b"s", 8, (b"a", word, 0, 3), (b"b", word, 3, 5), (b"c", word, 32, 0))
    assert Btf(blob.data()).type(number).members == (
        Member("a", word, 0, 3),
        Member("b", word, 3, 5),
        Member("c", word, 32, 0),
    )


def module() -> tuple[Blob, Blob]:
    base = Blob()
    base.structure(b"kernel", 8, (b"x", base.integer(b"u64", 8), 0))
    split = Blob(first=3, text=len(base.strings), strings=bytearray())
    split.structure(b"module", 16, (b"own", 2, 0), (b"word", 1, 64))
    return base, split


def test_a_module_with_its_kernel() -> None:
    base, split = module()
    types = Btf(split.data(), base=Btf(base.data()))
    assert types.named("module") == [3] and types.named("kernel") == [2]
    assert [*types.structs()] == [(2, "kernel"), (3, "module")]
    place = types.find(3, "own.x")
    assert place is not None and types.type(place.type).name == "u64"
    assert [name for name, _ in types.members(3)] == ["own", "word"]


def test_a_module_without_its_kernel_is_refused() -> None:
    with pytest.raises(TypesError, match="types of a module; give those of its kernel"):
        Btf(module()[1].data())


def test_newer_kinds_are_passed_over_by_the_layouts_of_the_header() -> None:
    blob = Blob()
    blob.add(20, b"new", 0, b"x" * 8 + b"y" * 6 * 5, count=5)
    last = blob.structure(b"after", 4)
    layouts = bytes(4 * 20) + bytes([8, 6, 0, 0])
    types = Btf(blob.data(layouts=layouts))
    assert types.named("after") == [last] and types.type(1).kind is Kind.OTHER
    with pytest.raises(TypesError, match="type 1 is of kind 20, which is not known"):
        Btf(blob.data())


def test_more_members_than_16_bits_count() -> None:
    blob = Blob()
    blob.add(6, b"many", 4, bytes(8 * 70_000), count=70_000)
    assert Btf(blob.data()).count == 2


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"magic": 0x9FEB}, "expected BTF, which begins with 9f eb, found eb 9f"),
        ({"version": 2}, "expected BTF of version 1, found 2"),
        ({"type_len": 0xFFFF_FFFF}, "cut short"),
        ({"str_off": 0xFFFF_FFFF}, "cut short"),
        ({"hdr_len": 8}, "cut short"),
        ({"type_len": 13}, "does not end where BTF does"),
    ],
)
def test_heads_that_are_wrong(head: dict[str, int], message: str) -> None:
    blob = Blob()
    blob.integer(b"int", 4)
    blob.integer(b"u64", 8)
    data = (
        struct.pack("<H", head.get("magic", 0xEB9F))
        + blob.data(**{key: value for key, value in head.items() if key not in ("magic", "version")})[2:]
    )
    data = data[:2] + bytes([head.get("version", 1)]) + data[3:]
    with pytest.raises(TypesError, match=message):
        Btf(data)


def test_a_count_beyond_the_end() -> None:
    blob = Blob()
    blob.add(4, b"s", 8, bytes(12), count=0xFF_FFFF)
    with pytest.raises(TypesError, match="does not end where BTF does"):
        Btf(blob.data())


def test_names_that_are_no_text() -> None:
    blob = Blob()
    blob.structure(b"\x1b[31m\xff", 4, (b"a\nb", blob.integer(b"\x00", 4), 0))
    blob.add(4, last=4)
    types = Btf(blob.data())
    assert [name for _, name in types.structs()] == ["\\x1b[31m\\xff", ""]
    assert [name for name, _ in types.members(2)] == ["a\\nb"] or [name for name, _ in types.members(2)] == ["a\\x0ab"]


def test_a_struct_of_millions_of_members_is_refused() -> None:
    """70 000 members are 840 KB; made into objects they would take ten times as much."""
    blob = Blob()
    blob.add(4, b"s", 8, bytes(12 * 70_000), count=70_000)
    types = Btf(blob.data())
    with pytest.raises(TypesError, match="70000 members"):
        types.type(1)


def test_a_million_types_take_no_long_time() -> None:
    head = struct.pack("<III", 0, 2 << 24, 0)
    data = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12 << 20, 12 << 20, 1) + head * (1 << 20) + b"\0"
    start = process_time()
    assert Btf(data).count == (1 << 20) + 1
    assert process_time() - start < 10


RICH = Blob()
_word = RICH.integer(b"u64", 8)
_inner = RICH.structure(b"", 8, (b"x", _word, 0), union=True)
RICH.structure(b"kho_a", 32, (b"", _inner, 0), (b"next", 5, 64), (b"many", 6, 128))
RICH.add(8, b"alias", 3)
RICH.pointer(4)
RICH.array(4, 2)
RICH.add(6, b"e", 4, bytes(8), count=1)
RICH.add(13, last=1, body=bytes(8), count=1)


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4))
def test_no_damage_breaks_it(damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(RICH.data(layouts=bytes(80)))
    for place, value in damage:
        data[place : place + len(value)] = value
    try:
        types = Btf(bytes(data))
        for number in range(types.count):
            types.size(number)
            [*types.members(number)]
        Btf(write_btf(types, [number for number, _ in types.structs()]))
    except TypesError as error:
        assert str(error)


def test_a_struct_of_more_members_than_are_looked_at_names_the_limit() -> None:
    blob = Blob()
    number = blob.structure(b"s", 8, *[(b"m", blob.integer(b"u64", 8), 0)] * 11, union=True)
    with limited(Limits(compared_members=11)):
        assert len(Btf(blob.data()).type(number).members) == 11
    with limited(Limits(compared_members=10)), pytest.raises(TooManyMembersError, match="--limit compared_members=N"):
        Btf(blob.data()).type(number)


def test_names_that_are_no_names_of_c_are_safe_and_quick() -> None:
    blob = Blob()
    for _ in range(1000):
        blob.structure(b"\x1b\xff" * 100, 8)
    types = Btf(blob.data())
    with steps(20_000):
        assert {name for _, name in types.structs()} == {r"\x1b\xff" * 100}
