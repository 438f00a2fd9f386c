# SPDX-License-Identifier: MIT
"""Which way a root goes, and why."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import UsageError
from luoser.kernel.answers import Answers
from luoser.memory.overlay import Overlay
from luoser.memory.source import KnownRoot
from luoser.state import Area, Direction, Handover, MapStatus, State
from tests import real
from tests.images import Image, Node, fdt, name, u32, u64
from tests.kernel import real as kernels
from tests.reader.helpers import codes, only, problems, replace_u64
from tests.reader.messengers import boot_tree, named, setup_node

LONE = "7.3-a/frozen"
BOTH = "7.3-chain/post"


def luo_ser(number: int) -> bytes:
    return struct.pack("<8sQQQ", b"luo-v5", number, 0, 0)


def metadata(count: int) -> bytes:
    return struct.pack("<I65sI", 1, b"7.3.4", count)


def add_root(image: Image, number: int | None = None, count: int | None = None) -> int:
    """A root with a map of its own and nothing of the others."""
    image.kept = []
    subtrees: dict[str, tuple[int, int | None]] = {}
    if number is not None:
        subtrees["LUO"] = image.alloc(luo_ser(number)), 32
    if count is not None:
        subtrees["kexec-metadata"] = image.alloc(metadata(count)), 73
    return image.handover(subtrees)


def by_address(state: State) -> dict[int | None, Handover]:
    return {handover.address: handover for handover in state.handovers}


def directions(image: Image, **options: Any) -> dict[int | None, Direction]:
    return {handover.address: handover.direction for handover in image.read(**options).handovers}


# -- a lone root --


@pytest.mark.parametrize("name", ["7.3-a/pre", "7.3-a/frozen", "6.18-a/frozen", "6.19-a/frozen"])
def test_lone_root_with_an_intact_map_is_outgoing_by_inference(name: str) -> None:
    handover = only(real.read(name))
    assert handover.preserved.status is MapStatus.INTACT
    assert handover.direction is Direction.OUTGOING
    assert any("inferred" in word for word in handover.evidence)


def test_lone_root_with_a_stale_map_is_incoming() -> None:
    handover = only(real.read("6.18-a/post"))
    assert (handover.preserved.status, handover.direction) == (MapStatus.STALE, Direction.INCOMING)


def test_lone_root_with_a_stale_map_is_incoming_without_a_messenger() -> None:
    memory = real.overlay("6.18-a/post")
    for one in named(real.dump("6.18-a/post")):
        memory.write(one.address, bytes(one.size))
    handover = only(luoser.read(memory))
    assert (handover.preserved.status, handover.direction) == (MapStatus.STALE, Direction.INCOMING)
    assert handover.evidence == ("inferred: its map was consumed, and its pages were reused",)


@pytest.mark.parametrize("dump", [LONE, "6.18-a/frozen", "6.19-a/frozen"])
def test_lone_root_without_its_map_in_the_source_is_unknown(dump: str) -> None:
    memory = real.overlay(dump)
    memory.remove(only(real.read(dump)).preserved.address)
    handover = only(luoser.read(memory))
    assert (handover.preserved.status, handover.direction) == (MapStatus.MISSING, Direction.UNKNOWN)
    assert handover.evidence == ("direction unknown: its map is missing; --symbols or --direction decides",)


def test_lone_root_without_its_map_in_the_source_is_incoming_by_its_messenger() -> None:
    memory = real.overlay("6.18-a/post")
    memory.remove(only(real.read("6.18-a/post")).preserved.address)
    handover = only(luoser.read(memory))
    assert (handover.preserved.status, handover.direction) == (MapStatus.MISSING, Direction.INCOMING)
    assert "is in scratch" in handover.evidence[0]


def test_lone_root_with_a_damaged_map_is_outgoing_by_inference() -> None:
    memory = real.overlay(LONE)
    replace_u64(memory, only(real.read(LONE)).address, only(real.read(LONE)).preserved.address, 0x617001)
    handover = only(luoser.read(memory))
    assert (handover.preserved.status, handover.direction) == (MapStatus.DAMAGED, Direction.OUTGOING)
    assert handover.evidence[0] == "inferred: the only root, and its map is damaged"


def test_lone_root_without_a_map_yet_is_outgoing_by_inference() -> None:
    image = Image()
    image.handover(map_address=0)
    handover = only(image.read())
    assert (handover.preserved.status, handover.direction) == (MapStatus.ABSENT, Direction.OUTGOING)
    assert "no map yet" in handover.evidence[0]


def test_lone_root_of_an_unknown_version_is_unknown() -> None:
    image = Image()
    image.handover(compatible="kho-v9")
    handover = only(image.read())
    assert handover.direction is Direction.UNKNOWN
    assert "unknown version" in handover.evidence[0]


def test_a_setup_data_node_outside_of_scratch_says_only_where_scratch_is() -> None:
    """Before the jump it lies ready for the next kernel, so it does not make a root incoming."""
    image = Image()
    root = image.handover()
    array = image.alloc(struct.pack("<4Q", 0x100000, 0x100000, 0, 0), keep=False)
    node = image.alloc(bytes(0xD0) + setup_node(root, array, 32), keep=False) + 0xD0
    handover = only(image.read())
    assert handover.direction is Direction.OUTGOING
    assert handover.scratch == (Area(address=0x100000, size=0x100000), Area(address=0, size=0))
    assert (
        handover.evidence[-1] == f"the setup_data node at {node:#x} points to it and to the scratch array at {array:#x}"
    )


# -- two roots --


@pytest.mark.parametrize("dump", [name for name in real.DUMPS if len(real.read(name).handovers) == 2])
def test_real_pairs_are_one_incoming_and_one_outgoing(dump: str) -> None:
    found = [handover.direction for handover in real.read(dump).handovers]
    assert sorted(found) == [Direction.INCOMING, Direction.OUTGOING]


def test_higher_liveupdate_number_is_outgoing() -> None:
    image = Image()
    new, old = add_root(image, number=5), add_root(image, number=4)
    assert directions(image) == {new: Direction.OUTGOING, old: Direction.INCOMING}


def test_higher_kexec_count_is_outgoing() -> None:
    image = Image()
    new, old = add_root(image, count=9), add_root(image, count=8)
    assert directions(image) == {new: Direction.OUTGOING, old: Direction.INCOMING}


def test_numbers_are_said_in_the_evidence() -> None:
    image = Image()
    add_root(image, number=41), add_root(image, number=40)
    words = " ".join(word for handover in image.read().handovers for word in handover.evidence)
    assert "41" in words and "40" in words


def test_equal_numbers_tell_nothing() -> None:
    image = Image()
    roots = add_root(image, number=3, count=3), add_root(image, number=3, count=3)
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


def test_a_number_is_not_compared_with_a_count() -> None:
    """A kexec without LUO counts in one of them only."""
    image = Image()
    roots = add_root(image, number=1), add_root(image, count=7)
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


def test_number_and_count_that_contradict_each_other_tell_nothing() -> None:
    image = Image()
    roots = add_root(image, number=2, count=1), add_root(image, number=1, count=2)
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


def test_of_three_roots_the_highest_is_outgoing_and_the_next_incoming() -> None:
    image = Image()
    left_over, new, old = add_root(image, number=1), add_root(image, number=3), add_root(image, number=2)
    assert directions(image) == {
        left_over: Direction.UNKNOWN, new: Direction.OUTGOING, old: Direction.INCOMING,
    }  # fmt: skip


def test_zero_is_no_number() -> None:
    image = Image()
    roots = add_root(image, number=0, count=0), add_root(image, number=1, count=1)
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


@pytest.mark.parametrize("low", [1, 2, (1 << 32) - 2])
def test_numbers_of_any_size_are_neighbours(low: int) -> None:
    image = Image()
    old, new = add_root(image, number=low, count=low), add_root(image, number=low + 1, count=low + 1)
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING}


@pytest.mark.parametrize(("one", "other"), [(1, 3), (5, 1), (1, 99), (2, 2), (7, 1 << 63)])
def test_numbers_that_are_not_neighbours_tell_nothing(one: int, other: int) -> None:
    image = Image()
    roots = add_root(image, number=one), add_root(image, number=other)
    state = image.read()
    assert {handover.address: handover.direction for handover in state.handovers} == dict.fromkeys(
        roots, Direction.UNKNOWN
    )
    assert all(handover.own for handover in state.handovers)
    for handover, place in zip(state.handovers, reversed(roots), strict=True):
        word = f"direction unknown: no consecutive numbers with {place:#x}; its map is intact"
        assert handover.evidence == (f"{word}; --symbols or --direction decides",)


def test_counts_decide_where_one_root_has_no_number() -> None:
    image = Image()
    old, new = add_root(image, count=3), add_root(image, number=1, count=4)
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING}


@pytest.mark.parametrize("counts", [(3, 5), (4, 3), (3, 3)])
def test_numbers_that_are_neighbours_do_not_outweigh_counts_that_are_not(counts: tuple[int, int]) -> None:
    image = Image()
    roots = add_root(image, number=1, count=counts[0]), add_root(image, number=2, count=counts[1])
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


def test_root_of_an_earlier_boot_is_left_over_and_stands_last() -> None:
    image = Image()
    left_over, old, new = add_root(image, number=1), add_root(image, number=7), add_root(image, number=8)
    found = image.read().handovers
    assert [handover.address for handover in found] == [old, new, left_over]
    assert [handover.own for handover in found] == [True, True, False]
    assert found[-1].direction is Direction.UNKNOWN
    assert found[-1].evidence == (
        f"left over from another boot: the roots at {old:#x} and {new:#x} have liveupdate numbers 7 and 8",
    )


def test_root_without_a_number_beside_two_neighbours_is_not_left_over() -> None:
    image = Image()
    old, new, bare = add_root(image, number=1), add_root(image, number=2), add_root(image)
    state = image.read()
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING, bare: Direction.UNKNOWN}
    assert by_address(state)[bare].own


def test_number_that_two_roots_have_makes_no_pair() -> None:
    image = Image()
    roots = [add_root(image, number=number) for number in (1, 2, 2)]
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)


@pytest.mark.parametrize("damaged", [7, 2 | 1 << 40, 3])
def test_damaged_number_of_the_successor_does_not_make_the_incoming_root_outgoing(damaged: int) -> None:
    """Left over 1, incoming 2, outgoing 3 of which a bit flipped: 1 and 2 are neighbours, and no pair."""
    image = Image()
    left_over, old, new = add_root(image, number=1), add_root(image, number=2), add_root(image, number=damaged)
    found = directions(image)
    if damaged == 3:
        assert found == {left_over: Direction.UNKNOWN, old: Direction.INCOMING, new: Direction.OUTGOING}
    else:
        assert found == dict.fromkeys((left_over, old, new), Direction.UNKNOWN)


def test_dead_root_with_a_higher_number_is_left_over() -> None:
    """Of an earlier life of the machine: its map is gone, so it is nobody's successor."""
    image = Image()
    old, new, dead = add_root(image, number=1), add_root(image, number=2), add_root(image, number=7)
    image.put(by_address(image.read())[dead].preserved.address, b"#!/bin/sh\n" * 409)
    state = image.read()
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING, dead: Direction.UNKNOWN}
    assert [handover.own for handover in state.handovers] == [True, True, False]


# -- what contradicts the numbers --


def two_roots(image: Image, *, sessions: int = 0) -> tuple[int, int]:
    """Incoming root 1 and outgoing root 2. sessions: of the outgoing one, the address of their first block."""
    old = add_root(image, number=1)
    image.kept = []
    luo = image.alloc(struct.pack("<8sQQQ", b"luo-v5", 2, sessions, 0))
    return old, image.handover({"LUO": (luo, 32)})


def test_intact_map_of_the_incoming_root_is_no_contradiction_before_the_next_handover() -> None:
    """Early in its boot a kernel has not freed the map that it was handed."""
    image = Image()
    old, new = two_roots(image)
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING}


def test_intact_map_of_the_lower_root_beside_a_serialised_higher_one_is_a_contradiction() -> None:
    image = Image()
    block = image.blocks([name("vm", 64) + bytes(16)])
    roots = two_roots(image, sessions=block)
    state = image.read()
    assert directions(image) == dict.fromkeys(roots, Direction.UNKNOWN)
    word = f"liveupdate numbers 1 and 2, but the map of the lower root, {roots[0]:#x}, is intact although the higher"
    assert [handover.evidence for handover in state.handovers] == [(f"{word} one is serialised",)] * 2


def test_real_pair_whose_numbers_are_swapped_is_unknown() -> None:
    """Each number says the opposite, and the higher root's map is stale: both directions are unknown."""
    memory = real.overlay(BOTH)
    incoming, outgoing = real.read(BOTH).handovers
    assert incoming.luo and outgoing.luo and incoming.kexec_metadata and outgoing.kexec_metadata
    memory.write(incoming.luo.address + 8, u64(3))
    memory.write(incoming.kexec_metadata.address + 69, u32(3))
    found = luoser.read(memory).handovers
    assert [handover.direction for handover in found] == [Direction.UNKNOWN] * 2
    word = f"liveupdate numbers 2 and 3, but the map of the higher root, {incoming.address:#x}, is stale"
    assert [handover.evidence[0] for handover in found] == [word] * 2


def test_numbers_outrank_the_messenger_in_scratch() -> None:
    """Segments that kexec loads at their destination put the next kernel's messenger in scratch as well."""
    image = Image()
    area = image.alloc(order=4, keep=False)
    old, new = add_root(image, number=1), add_root(image, number=2)
    array = image.alloc(struct.pack("<QQ", area, 0x10000), keep=False)
    image.put(area, setup_node(new, array, 16))
    assert directions(image) == {old: Direction.INCOMING, new: Direction.OUTGOING}


def equal_numbers(dump: str) -> Overlay:
    """A dump with two roots, changed so that numbers and counts of both are those of the outgoing one."""
    memory = real.overlay(dump)
    handovers = {handover.direction: handover for handover in real.read(dump).handovers}
    old, new = handovers[Direction.INCOMING], handovers[Direction.OUTGOING]
    assert old.luo and new.luo and new.luo.number and old.kexec_metadata and new.kexec_metadata
    memory.write(old.luo.address + 8, u64(new.luo.number))
    memory.write(old.kexec_metadata.address + 69, u32(new.kexec_metadata.kexec_count))
    return memory


def test_real_pair_with_equal_numbers_goes_by_the_messenger_alone() -> None:
    incoming, outgoing = luoser.read(equal_numbers(BOTH)).handovers
    assert (incoming.direction, outgoing.direction) == (Direction.INCOMING, Direction.UNKNOWN)
    assert incoming.evidence[0].startswith("inferred: the setup_data node at")


def test_real_pair_with_equal_numbers_and_no_messenger_is_unknown() -> None:
    memory = equal_numbers(BOTH)
    for one in named(real.dump(BOTH)):
        memory.write(one.address, bytes(one.size))
    incoming, outgoing = luoser.read(memory).handovers
    assert (incoming.direction, outgoing.direction) == (Direction.UNKNOWN, Direction.UNKNOWN)
    assert (incoming.preserved.status, outgoing.preserved.status) == (MapStatus.DAMAGED, MapStatus.INTACT)


def test_stale_map_beside_another_root_is_a_sign_and_no_proof() -> None:
    """LUO's page and the map were reused, and neither numbers nor messengers are left."""
    dump = "7.3-a/post"
    memory = real.overlay(dump)
    for handover in real.read(dump).handovers:
        assert handover.kexec_metadata is not None
        memory.write(handover.kexec_metadata.address + 69, bytes(4))
    for one in named(real.dump(dump)):
        memory.write(one.address, bytes(one.size))
    incoming, outgoing = luoser.read(memory).handovers
    assert (incoming.direction, outgoing.direction) == (Direction.UNKNOWN, Direction.UNKNOWN)
    assert incoming.preserved.status is MapStatus.STALE
    assert "; its map is stale; a consumed map is evidence for incoming; --symbols" in incoming.evidence[0]


def test_real_pair_with_equal_numbers_never_swaps() -> None:
    before = {handover.address: handover.direction for handover in real.read(BOTH).handovers}
    for handover in luoser.read(equal_numbers(BOTH)).handovers:
        assert handover.direction in (before[handover.address], Direction.UNKNOWN)


# -- the release that wrote it --


def running(dump: str, release: str) -> Overlay:
    """A dump whose VMCOREINFO says that another release runs."""
    memory = real.overlay(dump)
    memory.vmcoreinfo = {**memory.vmcoreinfo, "OSRELEASE": release}
    return memory


@pytest.mark.parametrize("release", ["7.4.0", "7.3.40", "7.3", "6.3.5", "7.3.4-rc1"])
def test_root_written_by_another_release_is_incoming(release: str) -> None:
    handover = only(luoser.read(running(LONE, release)))
    assert handover.direction is Direction.INCOMING
    assert handover.evidence[0] == f"written by kernel 7.3.4, the running kernel is {release} (VMCOREINFO)"


@pytest.mark.parametrize("release", ["7.3.5", "7.3.0", "w.3.4", "7.3.6", "7.3.t"])
def test_release_that_is_one_bit_off_is_damage_and_no_evidence(release: str) -> None:
    handover = only(luoser.read(running(LONE, release)))
    assert handover.direction is Direction.UNKNOWN
    doubt = "the release in kexec-metadata may be damaged, and the map is intact"
    assert handover.evidence == (
        f"direction unknown: {doubt}; --symbols or --direction decides",
        f"kexec-metadata has 7.3.4, one bit off the running kernel; VMCOREINFO has {release}",
    )


def test_equal_release_is_no_evidence() -> None:
    """A kernel that was kexec'd into itself wrote what it was handed."""
    handover = only(luoser.read(running(LONE, "7.3.4")))
    assert (handover.direction, len(handover.evidence)) == (Direction.OUTGOING, 1)


def test_numbers_outrank_the_release() -> None:
    before = {handover.address: handover.direction for handover in real.read(BOTH).handovers}
    found = luoser.read(running(BOTH, "7.4.0")).handovers
    assert {handover.address: handover.direction for handover in found} == before


# -- the user's word --


@pytest.mark.parametrize("dump", [LONE, BOTH, "6.18-a/post"])
@pytest.mark.parametrize("direction", [Direction.INCOMING, Direction.OUTGOING, Direction.UNKNOWN])
def test_given_direction_overrides_all_evidence(dump: str, direction: Direction) -> None:
    for handover in real.read(dump).handovers:
        assert handover.address is not None
        state = luoser.read(real.dump(dump), directions={handover.address: direction})
        found = by_address(state)[handover.address]
        assert (found.direction, found.evidence[0]) == (direction, "given: --direction")


def test_given_direction_overrides_the_running_kernel() -> None:
    memory = real.overlay(LONE)
    root = only(real.read(LONE)).address
    assert root is not None
    memory.known_roots = (KnownRoot(root=root, incoming=True, evidence="setup_data 1"),)
    assert only(luoser.read(memory)).direction is Direction.INCOMING
    found = only(luoser.read(memory, directions={root: Direction.OUTGOING}))
    assert (found.direction, found.evidence[0]) == (Direction.OUTGOING, "given: --direction")


def test_given_direction_that_contradicts_the_numbers_leaves_the_other_root_unknown() -> None:
    incoming, outgoing = real.read(BOTH).handovers
    assert incoming.address is not None and outgoing.address is not None
    found = by_address(luoser.read(real.dump(BOTH), directions={outgoing.address: Direction.INCOMING}))
    assert found[outgoing.address].direction is Direction.INCOMING
    assert found[incoming.address].direction is Direction.UNKNOWN
    word = f"liveupdate numbers 1 and 2, but {outgoing.address:#x} is incoming by --direction"
    assert found[incoming.address].evidence[0] == word


def test_given_direction_that_agrees_with_the_numbers_changes_nothing_else() -> None:
    incoming, outgoing = real.read(BOTH).handovers
    assert outgoing.address is not None
    state = luoser.read(real.dump(BOTH), directions={outgoing.address: Direction.OUTGOING})
    assert by_address(state)[incoming.address] == incoming


@pytest.mark.parametrize("address", [0, 0x1000, 0x5CD001, 1 << 60])
def test_direction_of_a_page_that_is_no_root_is_refused(address: int) -> None:
    with pytest.raises(UsageError, match=f"directions: no KHO root at {address:#x}"):
        luoser.read(real.dump(LONE), directions={address: Direction.INCOMING})


def test_direction_of_a_root_beside_the_wanted_one_is_taken() -> None:
    incoming, outgoing = real.read(BOTH).handovers
    assert incoming.address is not None and outgoing.address is not None
    state = luoser.read(real.dump(BOTH), root=incoming.address, directions={outgoing.address: Direction.OUTGOING})
    assert only(state) == incoming


# -- /chosen --


@pytest.mark.parametrize("cells", [1, 2])
def test_chosen_of_a_boot_devicetree_outside_of_scratch_says_only_that_somebody_names_the_root(cells: int) -> None:
    """kexec's copy for the next kernel lies in memory before the jump and names the outgoing root."""
    image = Image()
    image.alloc(luo_ser(1))
    root = image.handover(map_address=0)
    image.alloc(boot_tree(root, cells=cells), keep=False)
    handover = only(image.read())
    assert (handover.direction, len(handover.evidence)) == (Direction.OUTGOING, 1)


@pytest.mark.parametrize("cells", [1, 2])
def test_chosen_of_a_boot_devicetree_in_scratch_makes_its_root_incoming(cells: int) -> None:
    image = Image()
    area = image.alloc(order=1, keep=False)
    root = image.handover()
    array = image.alloc(struct.pack("<QQ", area, 8192), keep=False)
    image.put(area, boot_tree(root, cells=cells, array=array, array_size=16))
    handover = only(image.read())
    assert handover.direction is Direction.INCOMING
    assert handover.evidence[0].startswith(f"inferred: the devicetree at {area:#x} that points to it is in scratch")


def test_numbers_outweigh_chosen() -> None:
    image = Image()
    area = image.alloc(order=1, keep=False)
    new, old = add_root(image, number=2), add_root(image, number=1)
    array = image.alloc(struct.pack("<QQ", area, 8192), keep=False)
    image.put(area, boot_tree(new, array=array, array_size=16))
    assert directions(image) == {new: Direction.OUTGOING, old: Direction.INCOMING}


@pytest.mark.parametrize("dump", [LONE, BOTH, "6.18-a/post"])
def test_chosen_is_no_evidence_on_x86_64(dump: str) -> None:
    """The page lies in a scratch area of its own making."""
    for handover in real.read(dump).handovers:
        assert handover.address is not None
        memory = real.overlay(dump)
        place = 0x40000000 - 0x10000
        memory.write(place, boot_tree(handover.address, array=place + 0x4000, array_size=16))
        memory.write(place + 0x4000, struct.pack("<QQ", place, 0x4000))
        assert luoser.read(memory).handovers == real.read(dump).handovers


def test_chosen_that_names_no_root_is_nothing_on_x86_64() -> None:
    memory = real.overlay(LONE)
    memory.write(0x40000000 - 0x10000, boot_tree(0x40000000 - 0x8000))
    memory.write(0x40000000 - 0x8000, b"#!/bin/sh")
    assert luoser.read(memory).problems == real.read(LONE).problems


def test_chosen_property_of_a_wrong_length_is_ignored_as_the_kernel_does() -> None:
    image = Image()
    root = image.handover()
    tree = fdt(Node("", {}, [Node("chosen", {"linux,kho-fdt": root.to_bytes(8, "big")})]))
    address = image.alloc(tree, keep=False)
    state = image.read()
    assert only(state).direction is Direction.OUTGOING
    assert [problem.address for problem in problems(state, "bad-chosen")] == [address]


def test_chosen_that_is_read_in_the_wrong_byte_order_finds_nothing() -> None:
    image = Image()
    root = image.handover()
    value = root.to_bytes(8, "little") + u64(4096)
    image.alloc(fdt(Node("", {}, [Node("chosen", {"linux,kho-fdt": value})])), keep=False)
    assert only(image.read()).direction is Direction.OUTGOING


def test_root_option_does_not_hide_the_other_root_from_the_judgement() -> None:
    (found,) = luoser.read(real.dump("7.3-chain/frozen2"), root=0xE55000).handovers
    assert found.evidence[0] == "liveupdate numbers 1 and 2: the higher is the running kernel's"
    assert found == real.read("7.3-chain/frozen2").handovers[1]


def test_root_written_by_another_release_than_the_running_one_is_incoming() -> None:
    memory = Overlay(real.dump("7.3-a/frozen"))
    memory.vmcoreinfo = {**memory.vmcoreinfo, "OSRELEASE": "7.4.0"}
    (found,) = luoser.read(memory).handovers
    assert found.direction is Direction.INCOMING
    assert "7.3.4" in found.evidence[0] and "7.4.0" in found.evidence[0]


def test_unknown_version_decides_nothing() -> None:
    image = Image()
    image.handover(compatible="kho-v9")
    state = image.read()
    assert state.handovers[0].direction is Direction.UNKNOWN
    assert "kho-version" in codes(state)


@pytest.mark.parametrize(("name", "has_own"), [("7.3-a/post", True), ("6.19-a/post", True), ("6.18-a/post", False)])
def test_a_kernel_without_vmcoreinfo_has_its_own_root_by_the_form_of_the_other(name: str, has_own: bool) -> None:
    """6.19 and later make one at boot."""
    memory = real.overlay(name)
    memory.vmcoreinfo = {}
    for one in real.read(name).handovers:
        if one.direction is Direction.OUTGOING:
            memory.remove(one.address or 0)
    state = luoser.read(memory)
    assert [one.direction for one in state.handovers] == [Direction.INCOMING]
    assert bool(problems(state, "no-own-root")) == has_own


def test_finished_devices_before_an_intact_map_leave_the_direction_open() -> None:
    """Either the next kernel has finished them, and the map is not freed yet, or the list is damaged."""
    memory = real.overlay("7.3-a/frozen")
    assert only(luoser.read(memory)).direction is Direction.OUTGOING
    entry = next(one for one in only(real.read("7.3-a/frozen")).pci if one.layout == "pci-v2-u64")
    memory.write(entry.address + 16 + 6, b"\0\0")
    found = only(luoser.read(memory))
    assert found.direction is Direction.UNKNOWN
    assert "1 device of the list at" in found.evidence[0] and "is finished" in found.evidence[0]


@pytest.mark.parametrize("kept", [2, 3, 4])
@pytest.mark.parametrize("is_map_overwritten", [False, True])
def test_a_release_that_is_cut_off_is_no_other_release(kept: int, is_map_overwritten: bool) -> None:
    """7.3 and 7.3. are releases of no kernel: all have three numbers."""
    memory = real.overlay(LONE)
    found = only(luoser.read(memory))
    assert found.kexec_metadata is not None and found.preserved.address
    page = found.kexec_metadata.address
    place = page + memory.read(page, 4096).index(b"7.3.4")
    memory.write(place + kept, bytes(64 - kept))
    if is_map_overwritten:
        memory.write(found.preserved.address, b"#!/bin/sh\n" * 409)
    after = luoser.read(memory)
    assert only(after).direction is Direction.UNKNOWN
    assert check(after).verdict is not Verdict.SOUND
    assert not is_map_overwritten or "MAP002" in {one.rule for one in check(after).findings}


@pytest.mark.parametrize("is_known", [True, False])
def test_a_kernel_in_scratch_shows_that_a_broken_map_was_consumed(is_known: bool) -> None:
    """Of a map whose pages are reused one by one, at first one node is broken, which alone could be damage."""
    before, memory = real.dump("6.18-a/frozen"), real.overlay("6.18-a/post")
    (frozen,) = real.read("6.18-a/frozen").handovers
    preserved = frozen.preserved
    for page in {address & ~0xFFF for address in (*preserved.nodes, *(place for place, _, _ in preserved.bitmaps))}:
        memory.write(page, before.read(page, 4096))
    broken = 0x2460000
    memory.write(broken, bytes(4096))
    memory.write(preserved.address, struct.pack("<Q", broken))
    if not is_known:
        memory.vmcoreinfo = {}
    (handover,) = luoser.read(memory).handovers
    assert handover.preserved.status is (MapStatus.STALE if is_known else MapStatus.DAMAGED)


# -- a kernel that was found in memory --


@pytest.mark.parametrize("typed", [True, False])
def test_variables_that_contradict_the_numbers_make_no_direction(typed: bool) -> None:
    """As with VMCOREINFO of the kernel before: its variables name the same two pages the other way round."""
    memory = Overlay(kernels.memory("finished"))
    answers = Answers.unpack(memory.answers)
    assert answers is not None
    symbols = dict(answers.symbols)
    symbols["kho_in"], symbols["kho_out"] = symbols["kho_out"], symbols["kho_in"]
    memory.answers = replace(answers, symbols=symbols, btf=answers.btf if typed else b"").pack()
    right = {handover.address: handover.direction for handover in kernels.read("finished").handovers}
    state = luoser.read(memory)
    for handover in state.handovers:
        assert handover.direction in (Direction.UNKNOWN, right[handover.address])
        assert handover.direction is Direction.UNKNOWN or not any("certain" in word for word in handover.evidence)
        assert handover.pending is None
