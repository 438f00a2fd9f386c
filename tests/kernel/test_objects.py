# SPDX-License-Identifier: MIT
"""Objects and lists: members by name, bit-fields, texts, container_of; loops, wild pointers, sizes of nonsense."""

from __future__ import annotations

import struct
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory
from luoser.kernel.btf import Btf
from luoser.kernel.objects import BrokenList, NoMember, Object, TooManyItems, list_items
from luoser.kernel.space import AddressSpace, Unmapped
from luoser.kernel.types import TypesError
from tests.kernel import real
from tests.kernel.made import IMAGE, Blob, Ram

AT = 0x100_0000
"""Physical address of IMAGE."""


def made() -> tuple[Blob, dict[str, int]]:
    blob = Blob()
    char, u64, s32 = blob.integer(b"char", 1), blob.integer(b"u64", 8), blob.integer(b"int", 4, signed=True)
    u8 = blob.integer(b"u8", 1)
    head = blob.structure(b"list_head", 16, (b"next", len(blob.types) + 2, 0), (b"prev", len(blob.types) + 2, 64))
    assert blob.pointer(head) == head + 1
    forward = blob.add(7, b"thing")
    thing = blob.structure(
        b"thing",
        96,
        (b"value", u64, 0, 0),
        (b"minus", s32, 64, 0),
        (b"low", u8, 96, 3),
        (b"across", u64, 99, 9),
        (b"list", head, 128, 0),
        (b"name", blob.array(char, 16), 256, 0),
        (b"text", blob.pointer(char), 384, 0),
        (b"other", blob.pointer(forward), 448, 0),
        (b"odd", blob.pointer(blob.add(7, b"nobody")), 512, 0),
        (b"nothing", blob.pointer(0), 576, 0),
        (b"sub", head, 640, 0),
    )
    return blob, {"thing": thing, "list_head": head}


BLOB, NUMBERS = made()
TYPES = Btf(BLOB.data())


def thing(ram: Ram, offset: int = 0, name: str = "thing") -> Object:
    return Object(AddressSpace(ram, {"NUMBER(phys_base)": "0"}), TYPES, IMAGE + offset, NUMBERS[name])


def test_a_member_without_a_size_is_no_number() -> None:
    """One bit in the number of a type: a position that is a function was read as 0."""
    blob = Blob()
    function = blob.add(12, b"log_buf_len_get", blob.add(13))
    number = blob.structure(b"file", 16, (b"f_pos", function, 0))
    ram = Ram()
    ram.words(AT, 0x1234)
    one = Object(AddressSpace(ram, {"NUMBER(phys_base)": "0"}), Btf(blob.data()), IMAGE, number)
    with pytest.raises(TypesError, match="damaged: f_pos is of type log_buf_len_get"):
        one.number("f_pos")


def test_members_by_name() -> None:
    ram = Ram()
    ram.write(AT, struct.pack("<Qi", 1 << 63, -5))
    ram.write(AT + 12, struct.pack("<I", 0b1_0000_0001_101))
    ram.write(AT + 32, b"name\0rest")
    ram.words(AT + 48, IMAGE + 0xFF0, IMAGE + 0x200, 0, 0)
    ram.write(AT + 0xFF0, b"a text across pages\0")
    ram.words(AT + 0x200, 77)
    one = thing(ram)
    assert (one.number("value"), one.number("minus")) == (1 << 63, -5)
    assert (one.number("low"), one.number("across")) == (0b101, 0b1_0000_0001)
    assert (one.text("name"), one.text("text")) == (b"name", b"a text across pages")
    other = one.follow("other")
    assert other is not None and other.number("value") == 77
    assert one.follow("odd", "thing") is None
    assert one.has("list.next") and not one.has("list.other")
    assert one.physical == AT
    assert one.member("list").of("thing", "list") == one


def test_what_is_not_there() -> None:
    one = thing(Ram())
    with pytest.raises(NoMember, match="struct thing has no colour"):
        one.number("colour")
    with pytest.raises(NoMember, match="no struct other with list"):
        one.of("other", "list")
    with pytest.raises(NoMember, match="no struct thing with colour"):
        one.of("thing", "colour")
    with pytest.raises(MissingMemory):
        one.number("value")
    ram = Ram()
    ram.words(AT + 64, IMAGE, IMAGE)
    for path in ("odd", "nothing"):
        with pytest.raises(NoMember, match=f"the type that {path} points to is not known"):
            thing(ram).follow(path)
    ram.words(AT + 48, 0x1000)
    with pytest.raises(Unmapped):
        thing(ram).text("text")


def test_texts_without_an_end() -> None:
    ram = Ram()
    ram.words(AT + 48, IMAGE + 0x1001)
    ram.write(AT + 0x1000, b"x" * 0x1000)
    assert thing(ram).text("text") == b"x" * 256


# -- lists -------------------------------------------------------------------------------------------------


def chain(count: int) -> Ram:
    """A head at byte 80 of the first thing and `count` things, each with its list."""
    ram, places = Ram(), [IMAGE + 80, *(IMAGE + 96 * number + 16 for number in range(1, count + 1))]
    data = bytearray(96 * (count + 1))
    for at, place in enumerate(places):
        struct.pack_into("<QQ", data, place - IMAGE, places[(at + 1) % len(places)], places[at - 1])
    ram.write(AT, bytes(data))
    return ram


def items(ram: Ram, most: int = 1000) -> list[int]:
    """Numbers of the things of the list."""
    head = thing(ram).member("sub")
    return [(one.address - IMAGE) // 96 for one in list_items(head, "thing", "list", most)]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_items_of_a_list(count: int) -> None:
    assert items(chain(count)) == [*range(1, count + 1)]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (80, 0x10, "item 0 at 0x10: .* is not an address of a kernel"),
        (80, 0, "item 0 at 0x0"),
        (96 * 3 + 16, IMAGE + 96 + 16, "prev of item 3 is"),  # back to the first: a loop
        (96 * 3 + 16, IMAGE + 96 * 3 + 16, "prev of item 3 is"),  # to itself
        (96 * 3 + 24, 0x1234, "prev of item 2 is 0x1234"),
        (96 * 3 + 16, 0xDEAD_0000_0000_0100, "item 3 at 0xdead000000000100"),  # LIST_POISON1
    ],
)
def test_links_that_lead_elsewhere(place: int, value: int, message: str) -> None:
    ram = chain(5)
    ram.words(AT + place, value)
    with pytest.raises(BrokenList, match=message):
        items(ram)


def test_a_link_to_a_page_that_is_not_in_the_source_is_not_broken() -> None:
    ram = chain(5)
    ram.words(AT + 96 * 3 + 16, IMAGE + 0x3000_0000)
    with pytest.raises(MissingMemory, match="page 0x31000000 is absent"):
        items(ram)


def test_a_list_that_is_too_long() -> None:
    with pytest.raises(TooManyItems, match="only the first 10 items"):
        items(chain(11), 10)
    assert len(items(chain(10), 10)) == 10


def test_a_long_list_takes_no_long_time() -> None:
    ram = chain(20_000)
    start = process_time()
    assert len(items(ram, 1 << 20)) == 20_000
    assert process_time() - start < 10


def test_a_tree_of_the_kernel_is_walked() -> None:
    kernel = real.running("pre")
    assert kernel.types is not None
    address, number = kernel.address("luo_session_global"), kernel.types.struct("luo_session_global")
    assert address is not None and number is not None
    head = Object(kernel.space, kernel.types, address, number).member("outgoing.list")
    names = [one.text("name").decode("latin1") for one in list_items(head, "luo_session", "list", 100)]
    assert names == [session["name"] for session in real.walked("pre")["outgoing"]["sessions"]]


# -- hostile -----------------------------------------------------------------------------------------------


def hostile() -> tuple[Btf, int]:
    blob = Blob()
    nothing, big = blob.integer(b"nothing", 0, signed=True), blob.integer(b"big", 0xFFFF_FFFF, signed=True)
    empty = blob.array(nothing, 0)
    huge = blob.array(blob.array(big, 0xFFFF_FFFF), 0xFFFF_FFFF)
    number = blob.structure(
        b"bad",
        16,
        (b"nothing", nothing, 0, 0),
        (b"big", big, 0, 0),
        (b"huge", huge, 0, 0),
        (b"wide", big, 3, 255),
        (b"far", nothing, 0xFF_FFFF, 0),
        (b"void", 0, 0, 0),
        (b"beyond", 99, 0, 0),
        (b"itself", len(blob.types) + 1, 0, 0),
        (b"empty", empty, 0, 0),
    )
    return Btf(blob.data()), number


def test_numbers_and_texts_of_impossible_types() -> None:
    types, number = hostile()

    class Zeros(Ram):
        def read(self, address: int, size: int) -> bytes:
            assert size <= 0x1000
            return b"\xff" * size

    one = Object(AddressSpace(Zeros(), {"NUMBER(phys_base)": "0"}), types, IMAGE, number)
    assert one.number("big") == -1
    for path in ("nothing", "void", "itself.far"):
        with pytest.raises(TypesError, match="is of type"):
            one.number(path)
    assert one.number("wide") == (1 << 255) - 1
    for path in ("huge", "itself.itself.huge"):
        with pytest.raises(TypesError, match="bytes of one object"):
            one.text(path)
        with pytest.raises(TypesError, match="bytes of one object"):
            one.member(path).raw()
    for path in ("beyond", "beyond.x"):
        with pytest.raises(TypesError, match="no type 99"):
            one.number(path)
    assert one.text("empty") == b""


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, (1 << 64) - 1)), max_size=6), st.booleans())
def test_no_damage_breaks_a_list(damage: list[tuple[int, int]], near: bool) -> None:
    ram = chain(5)
    for place, value in damage:
        ram.words(AT + place, IMAGE + value % 700 if near else value)
    try:
        assert len(items(ram)) <= 1000
    except (BrokenList, Unmapped, MissingMemory) as error:
        assert str(error)
