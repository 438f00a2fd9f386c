# SPDX-License-Identifier: MIT
"""Roots that are not this machine's: guests' roots in a host's memory stand last, and count for nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

import luoser
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.memory.source import KnownRoot
from luoser.state import Direction, Handover, MapStatus
from tests import real
from tests.images import Image, Node, fdt, text, u64
from tests.reader.helpers import codes, only, problems
from tests.reader.messengers import named, setup_node

HOST, PAIR = "7.3-a/frozen", "7.3-chain/post"
GUESTS = ("6.18-a/frozen", "6.19-a/frozen")
PLACE = 0x2000_0000
"""Memory of guests; nothing of the host is there."""
FOREIGN = ("nothing of it is at its address: root of a guest, or a copy",)


def root_page(name: str) -> bytes:
    address = real.read(name).handovers[0].address
    assert address is not None
    return real.dump(name).read(address, 4096)


def with_guests(name: str, *, count: int = 2, at: int = PLACE) -> tuple[Overlay, list[int]]:
    """A host with guests' roots on every other page from an address on: what they name lies in memory of guests."""
    memory, places = real.overlay(name), [at + 8192 * number for number in range(count)]
    guests = [guest for guest in GUESTS if guest.split("/")[0] != name.split("/")[0]]
    for number, place in enumerate(places):
        memory.write(place, root_page(guests[number % len(guests)]))
    return memory, places


def own(handovers: Sequence[Handover]) -> list[Handover]:
    return [handover for handover in handovers if handover.own]


@pytest.mark.parametrize("host", [HOST, PAIR, "7.3-a/post", "7.3-chain/frozen2"])
@pytest.mark.parametrize("at", [0x10_0000, PLACE], ids=["below", "above"])
def test_roots_of_guests_stand_last_and_change_nothing(host: str, at: int) -> None:
    memory, places = with_guests(host, at=at)
    found = luoser.read(memory).handovers
    before = real.read(host).handovers
    assert found[: len(before)] == before
    assert [handover.address for handover in found[len(before) :]] == places
    for guest in found[len(before) :]:
        assert (guest.own, guest.direction, guest.evidence) == (False, Direction.UNKNOWN, FOREIGN)


def test_every_root_of_a_real_dump_is_the_machines_own() -> None:
    for name in real.DUMPS:
        assert all(handover.own for handover in real.read(name).handovers), name


@pytest.mark.parametrize("count", [16, 40])
def test_roots_of_guests_crowd_out_nothing(count: int) -> None:
    """More of them than roots are read, and all before the host's own."""
    memory, places = with_guests(PAIR, count=count, at=0x1_0000)
    state = luoser.read(memory)
    assert max(places) < min(handover.address or 0 for handover in real.read(PAIR).handovers)
    assert own(state.handovers) == list(real.read(PAIR).handovers)
    assert len(state.handovers) == 16
    (problem,) = problems(state, "too-many-roots")
    text = f"too many KHO roots: found {count + 2}, only the 16 likeliest are read"
    assert problem.message == f"{text}; --limit roots=N raises this limit, now 16"


def test_lone_root_is_not_foreign() -> None:
    memory = real.overlay(HOST)
    handover = only(real.read(HOST))
    for entry in handover.subtrees:
        assert entry.address is not None
        memory.remove(entry.address)
    memory.remove(handover.preserved.address)
    found = only(luoser.read(memory))
    assert (found.own, found.direction, found.preserved.status) == (True, Direction.UNKNOWN, MapStatus.MISSING)


def test_roots_that_are_all_strangers_are_not_foreign() -> None:
    """One of them may be the machine's own, cut out of a dump without what it names."""
    image = Image()
    places = [image.alloc(root_page(name), keep=False) for name in GUESTS]
    found = image.read().handovers
    assert [(handover.address, handover.own, handover.direction) for handover in found] == [
        (place, True, Direction.UNKNOWN) for place in places
    ]
    assert found[0].evidence[0].startswith("direction unknown: no consecutive numbers with")


# -- what makes a root the machine's own --


def stranger(image: Image, **options: int) -> int:
    """A root that names things which are not there."""
    return image.handover({"LUO": (0x7000_0000, 32), "memblock": (0x7100_0000, 64)}, map_address=0x7200_0000)


def host_and(image: Image) -> int:
    return image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32)})


def test_root_of_which_nothing_is_there_is_foreign() -> None:
    image = Image()
    host, guest = host_and(image), stranger(image)
    assert [(handover.address, handover.own) for handover in image.read().handovers] == [(host, True), (guest, False)]


def test_root_that_setup_data_names_is_not_foreign() -> None:
    image = Image()
    host_and(image)
    root = stranger(image)
    array = image.alloc(keep=False)
    image.alloc(bytes(0xD0) + setup_node(root, array, 48), keep=False)
    assert len(own(image.read().handovers)) == 2


def test_root_that_the_kernel_names_is_not_foreign() -> None:
    memory, (place,) = with_guests(HOST, count=1)
    memory.known_roots = (KnownRoot(root=place, incoming=True, evidence="setup_data 1"),)
    found = {handover.address: handover for handover in luoser.read(memory).handovers}
    assert (found[place].own, found[place].direction) == (True, Direction.INCOMING)


def test_root_whose_direction_is_given_is_not_foreign() -> None:
    memory, (place,) = with_guests(HOST, count=1)
    found = {one.address: one for one in luoser.read(memory, directions={place: Direction.INCOMING}).handovers}
    assert (found[place].own, found[place].direction) == (True, Direction.INCOMING)


@pytest.mark.parametrize("what", ["LUO", "memblock", "map"])
def test_root_of_which_one_thing_is_at_its_address_is_not_foreign(what: str) -> None:
    image = Image()
    host_and(image)
    image.kept = []
    image.alloc()
    blobs = {"LUO": b"luo-v5\0\0" + bytes(24), "memblock": b"\xd0\x0d\xfe\xed" + bytes(60)}
    places = {label: image.alloc(blob) if label == what else 0x7000_0000 for label, blob in blobs.items()}
    subtrees: dict[str, tuple[int, int | None]] = {label: (place, 64) for label, place in places.items()}
    image.handover(subtrees, map_address=None if what == "map" else 0x7200_0000)
    assert len(own(image.read().handovers)) == 2


@pytest.mark.parametrize("page", [b"", u64(0x1234_5678_9ABC_DEF1) * 512], ids=["zeros", "garbage"])
def test_page_of_the_host_where_the_guests_map_would_be_is_no_map(page: bytes) -> None:
    image = Image()
    host = host_and(image)
    place = image.alloc(page, keep=False)
    guest = image.handover({"LUO": (image.alloc(b"the host's", keep=False), 32)}, map_address=place)
    assert [(handover.address, handover.own) for handover in image.read().handovers] == [(host, True), (guest, False)]


def test_page_that_was_left_out_does_not_make_the_true_root_foreign() -> None:
    """A dump tool filters pages of the host as well as those of guests."""
    memory, (place,) = with_guests(HOST, count=1)
    handover = only(real.read(HOST))
    assert handover.luo is not None
    memory.remove(handover.luo.address, state=PageState.EXCLUDED)
    found = {one.address: one.own for one in luoser.read(memory).handovers}
    assert found == {handover.address: True, place: False}


def test_foreign_root_does_not_make_the_true_one_one_of_two() -> None:
    """The host's root is still the only one of its machine: its map decides its direction."""
    memory, _ = with_guests("6.18-a/post")
    for one in named(real.dump("6.18-a/post")):
        memory.write(one.address, bytes(one.size))
    found = luoser.read(memory).handovers[0]
    assert (found.direction, found.preserved.status) == (Direction.INCOMING, MapStatus.STALE)
    assert found.evidence == ("inferred: its map was consumed, and its pages were reused",)


def test_copy_of_a_root_is_left_out_beside_guests() -> None:
    memory, places = with_guests(HOST)
    memory.write(PLACE - 4096, root_page(HOST))
    state = luoser.read(memory)
    assert [handover.address for handover in state.handovers] == [only(real.read(HOST)).address, *places]
    assert [problem.address for problem in problems(state, "root-copy")] == [PLACE - 4096]
    assert "map-stale" not in codes(state)


def test_lone_root_whose_subtrees_are_all_something_else_is_not_foreign() -> None:
    """A guest's root lies beside its host's own; alone, what it names was damaged."""
    image = Image()
    blob = image.alloc(b"nothing of the kind")
    image.handover({"LUO": (blob, 32), "memblock": (image.alloc(b"nor this"), 64)})
    (found,) = image.read().handovers
    assert (found.own, found.direction) == (True, Direction.OUTGOING)
    assert found.evidence == ("inferred: the only root, and its map is intact",)


@pytest.mark.parametrize("state", [PageState.EXCLUDED, PageState.DAMAGED, PageState.ABSENT])
def test_a_root_whose_pages_were_left_out_is_not_foreign(state: PageState) -> None:
    """What is absent shows nothing of the machine; what was left out was there."""
    image = Image()
    live = image.handover({"memblock": (image.alloc(fdt(Node("", {"compatible": text("memblock-v1")}))), 80)})
    first = image.alloc(keep=False)
    other = image.handover({"module": (image.alloc(b"x", keep=False), 1)}, map_address=image.alloc(b"y", keep=False))
    memory = Overlay(image.open())
    for page in range(first, other, 4096):
        memory.remove(page, state=state)
    found = {one.address: one.own for one in luoser.read(memory).handovers}
    assert found == {live: True, other: state is not PageState.ABSENT}


def test_a_root_that_is_damaged_is_not_foreign() -> None:
    """What it points to may be behind the damage."""
    image = Image()
    host = host_and(image)
    other = stranger(image)
    assert {one.address: one.own for one in image.read().handovers} == {host: True, other: False}
    page = bytes(image.data[other - image.base : other - image.base + 4096])
    end = other + page.index((9).to_bytes(4, "big"), 40 + 16)
    image.put(end, (0x77).to_bytes(4, "big"))
    assert {one.address: one.own for one in image.read().handovers} == {host: True, other: True}
