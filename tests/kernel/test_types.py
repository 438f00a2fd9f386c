# SPDX-License-Identifier: MIT
"""Types by number: sizes, members through anonymous structs, paths, C declarations; and types without an end."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import pytest

from luoser.budget import Budget
from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Place, TooManyMembersError, Type, TypesError, described, members_budget
from luoser.limits import LIMITS
from luoser.reader.kernel import STRUCTS
from tests.kernel import real
from tests.kernel.made import Blob
from tests.work import steps


def test_members_through_anonymous_structs_and_unions() -> None:
    blob = Blob()
    u64, u32 = blob.integer(b"u64", 8), blob.integer(b"u32", 4)
    inner = blob.structure(b"", 8, (b"low", u32, 0), (b"high", u32, 32))
    either = blob.structure(b"", 8, (b"whole", u64, 0), (b"", inner, 0), union=True)
    outer = blob.structure(b"outer", 16, (b"first", u64, 0), (b"", either, 64))
    alias = blob.add(8, b"outer_t", blob.add(10, last=outer))
    types = Btf(blob.data())
    assert [(name, place.offset) for name, place in types.members(alias)] == [
        ("first", 0),
        ("whole", 8),
        ("low", 8),
        ("high", 12),
    ]
    assert types.find(alias, "high") == Place(96, 0, u32)
    assert types.find(alias, "low.x") is None and types.find(alias, "none") is None
    assert types.size(alias) == 16


def test_a_path_goes_through_structs() -> None:
    types = real.running("pre").types
    assert types is not None
    number = types.struct("luo_session")
    assert number is not None
    place = types.find(number, "file_set.files_list.next")
    assert place is not None and place.offset == 88


def test_sizes_of_arrays() -> None:
    blob = Blob()
    row = blob.array(blob.integer(b"u16", 2), 3)
    assert Btf(blob.data()).size(row) == 6
    blob.array(row, 5), blob.array(blob.pointer(0), 4)
    types = Btf(blob.data())
    assert (types.size(3), types.size(5)) == (30, 32)


def test_declarations_as_c_has_them() -> None:
    blob = Blob()
    char = blob.integer(b"char", 1)
    thing = blob.structure(b"thing", 8, (b"x", char, 0))
    made = {
        "struct thing *": blob.pointer(thing),
        "struct thing **": blob.pointer(blob.pointer(thing)),
        "char[64]": blob.array(char, 64),
        "char[2][3]": blob.array(blob.array(char, 3), 2),
        "char *[4]": blob.array(blob.pointer(char), 4),
        "char (*)[4]": blob.pointer(blob.array(char, 4)),
        "char (*[2])[4]": blob.array(blob.pointer(blob.array(char, 4)), 2),
        "void *": blob.pointer(0),
        "void": 0,
        "word_t": blob.add(8, b"word_t", char),
        "char": blob.add(10, last=blob.add(9, last=char)),
        "enum colour": blob.add(6, b"colour", 4),
        "union {…} *": blob.pointer(blob.structure(b"", 4, union=True)),
        "function *": blob.pointer(blob.add(13, last=0)),
    }
    types = Btf(blob.data())
    assert {text: described(types, number) for text, number in made.items()} == {text: text for text in made}


# -- without an end ----------------------------------------------------------------------------------------


def test_typedefs_in_a_circle() -> None:
    blob = Blob()
    blob.add(8, b"a", 2), blob.add(8, b"b", 1)
    types = Btf(blob.data())
    with pytest.raises(TypesError, match="typedefs without an end"):
        types.size(1)
    assert described(types, 1) == "a"
    blob = Blob(types=[])
    blob.add(10, last=1)
    assert described(Btf(blob.data()), 1) == "?"


def test_arrays_of_arrays_in_a_circle() -> None:
    blob = Blob()
    blob.array(2, 1 << 31), blob.array(1, 1 << 31)
    types = Btf(blob.data())
    with pytest.raises(TypesError, match="arrays in arrays without an end"):
        types.size(1)
    assert len(described(types, 1)) < 2000


@pytest.mark.parametrize("width", [1, 2, 50])
def test_anonymous_structs_that_contain_themselves(width: int) -> None:
    blob = Blob()
    blob.structure(b"outer", 8, *[(b"", 2, 0)] * width)
    blob.structure(b"", 8, *[(b"", 2, 0)] * width, union=True)
    types = Btf(blob.data())
    start = process_time()
    with pytest.raises(TypesError, match="anonymous structs without an end"):
        [*types.members(1)]
    with pytest.raises(TypesError, match="anonymous structs without an end"):
        types.find(1, "missing")
    assert process_time() - start < 10


def test_many_structs_with_the_same_deep_inside() -> None:
    """Each level doubles: 2^14 members in each of 500 structs."""
    blob = Blob()
    leaf = blob.structure(b"", 8, (b"x", 0, 0))
    for _ in range(14):
        leaf = blob.structure(b"", 8, (b"", leaf, 0), (b"", leaf, 0))
    for _ in range(500):
        blob.structure(b"", 8, (b"", leaf, 0))
    types = Btf(blob.data())
    start = process_time()
    with pytest.raises(TypesError, match="anonymous structs without an end"):
        for number, _ in types.structs():
            [*types.members(number)]
    assert process_time() - start < 10


def test_members_that_overlap_or_leave_their_struct_are_damage() -> None:
    def made(second: int, size: int = 24, *, union: bool = False) -> tuple[Btf, int]:
        blob = Blob()
        word, byte = blob.integer(b"u64", 8), blob.integer(b"u8", 1)
        flags = blob.structure(b"", 8, (b"one", byte, 0, 3), (b"two", byte, 3, 5))
        rest = (b"end", blob.array(byte, 0), 8 * size, 0)
        members = ((b"a", word, 0, 0), (b"b", word, second, 0), (b"", flags, 128, 0), rest)
        number = blob.structure(b"s", size, *members, union=union)
        return Btf(blob.data()), number

    for second in (64, 0):
        types, number = made(second, union=not second)
        types.need_sound(number, members_budget())
    for second, size in ((0, 24), (32, 24), (64 + 8, 24), (192, 24), (64, 16)):
        types, number = made(second, size)
        with pytest.raises(
            TypesError, match=r"BTF: damaged: struct s\.\S+ overlaps another member, or leaves the struct"
        ):
            types.need_sound(number, members_budget())


def changed(types: Btf, number: int, changes: Type) -> Btf:
    types._types[number] = changes
    types._found.clear()
    types._sizes.clear()
    types._alignments.clear()
    return types


@pytest.mark.parametrize("name", [name for name in STRUCTS if name not in ("file", "inode")])
def test_no_bit_of_an_offset_or_size_of_a_struct_that_is_walked_is_unseen(name: str) -> None:
    """What does not overlap leaves a hole: a member moved into padding, a struct that is longer."""
    kernels = real.running("frozen").types
    assert kernels is not None
    types = Btf(write_btf(kernels, kernels.named(name)))
    number = types.struct(name)
    assert number is not None and is_sound(types, number)
    whole = types.type(number)
    for index, member in enumerate(whole.members):
        for bit in range(32):
            moved = replace(member, bit=member.bit ^ 1 << bit)
            members = (*whole.members[:index], moved, *whole.members[index + 1 :])
            assert not is_sound(changed(types, number, replace(whole, members=members)), number), (member.name, bit)
    for bit in range(32):
        assert not is_sound(changed(types, number, replace(whole, size=whole.size ^ 1 << bit)), number), bit


def is_sound(types: Btf, number: int) -> bool:
    try:
        types.need_sound(number, members_budget())
    except TypesError:
        return False
    return types.is_dense(number)


def test_alignments_and_holes() -> None:
    blob = Blob()
    word, byte = blob.integer(b"u64", 8), blob.integer(b"u8", 1)
    inner = blob.structure(b"inner", 16, (b"a", byte, 0), (b"b", word, 64))
    outer = blob.structure(b"outer", 24, (b"c", byte, 0), (b"d", inner, 64))
    tail = blob.structure(b"tail", 16, (b"b", word, 0), (b"a", byte, 64))
    packed = blob.structure(b"packed", 9, (b"a", byte, 0), (b"b", word, 8))
    wrong = [
        blob.structure(b"hole", 24, (b"a", byte, 0), (b"b", word, 128)),
        blob.structure(b"end", 24, (b"b", word, 0), (b"a", byte, 64)),
        blob.structure(b"odd", 12, (b"b", word, 0), (b"a", byte, 64)),
        blob.structure(b"unaligned", 16, (b"a", byte, 0), (b"b", word, 32), (b"c", byte, 96)),
        blob.structure(b"bit", 16, (b"a", byte, 1), (b"b", word, 64)),
    ]
    types = Btf(blob.data())
    assert [types.alignment(number) for number in (word, byte, inner, outer)] == [8, 1, 8, 8]
    assert all(map(types.is_dense, (inner, outer, tail, packed))) and not any(map(types.is_dense, wrong))


def test_structs_in_structs_without_an_end_have_an_alignment() -> None:
    blob = Blob()
    blob.structure(b"itself", 8, (b"a", 1, 0))
    assert Btf(blob.data()).alignment(1) == 1


def test_an_anonymous_struct_is_looked_into() -> None:
    blob = Blob()
    word = blob.integer(b"u64", 8)
    inner = blob.structure(b"", 8, (b"a", word, 0), (b"b", word, 0))
    outer = blob.structure(b"s", 8, (b"", inner, 0))
    with pytest.raises(TypesError, match="damaged: struct"):
        Btf(blob.data()).need_sound(outer, members_budget())


@pytest.mark.parametrize("name", [b"m", b""])
def test_members_of_two_large_structs_do_not_make_them_be_read_again(name: bytes) -> None:
    """Not both are remembered: each member would cost as much as a whole struct."""
    blob = Blob()
    word = blob.integer(b"u64", 8)
    large = [blob.structure(b"large", 8, *[(b"m", word, 0)] * LIMITS.compared_members, union=True) for _ in range(2)]
    outer = blob.structure(b"s", 8, *[(name, number, 0) for number in large * 200], union=True)
    types = Btf(blob.data())
    with steps(16_000_000):
        types.need_sound(outer, members_budget(lambda: 1 << 20))
        assert types.is_dense(outer)
        assert described(types, large[0]) == "union large"


def test_a_long_way_to_a_type_is_gone_once() -> None:
    """Each of many members would cost a thousand steps."""
    blob = Blob()
    number = blob.integer(b"u8", 1)
    for _ in range(15):
        number = blob.array(number, 0)
        for _ in range(60):
            number = blob.add(8, b"t", number)
    types = Btf(blob.data())
    with steps(100_000):
        assert {types.size(number) for _ in range(3000)} == {0}


def test_members_of_structs_that_are_to_be_sound_are_counted() -> None:
    blob = Blob()
    inner = blob.structure(b"", 8, *[(b"m", blob.integer(b"u64", 8), 0)] * 300, union=True)
    outer = blob.structure(b"s", 8, (b"", inner, 0))
    types = Btf(blob.data())
    types.need_sound(outer, Budget(301, lambda: 0))
    with pytest.raises(TooManyMembersError, match="--limit compared_members=N"):
        types.need_sound(outer, Budget(300, lambda: 0))
