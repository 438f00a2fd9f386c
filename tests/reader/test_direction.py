# SPDX-License-Identifier: MIT
"""Which way a root goes, and why."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.memory.overlay import Overlay
from luoser.state import Direction, MapStatus
from tests import real
from tests.images import Image, Node, fdt, text, u32, u64
from tests.reader.helpers import only, problems

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


def directions(image: Image) -> dict[int, Direction]:
    return {handover.address: handover.direction for handover in image.read().handovers}


def boot_tree(root: int, *, cells: int = 2, size: int = 4096) -> bytes:
    """A boot devicetree whose /chosen names a root; its cells are big-endian."""
    width = 4 * cells
    value = root.to_bytes(width, "big") + size.to_bytes(width, "big")
    number = cells.to_bytes(4, "big")
    chosen = Node("chosen", {"linux,kho-fdt": value, "linux,kho-scratch": bytes(2 * width)})
    memory = Node("memory@0", {"device_type": text("memory")})
    return fdt(Node("", {"#address-cells": number, "#size-cells": number, "model": text("x")}, [memory, chosen]))


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


@pytest.mark.parametrize("dump", [LONE, "6.18-a/frozen", "6.18-a/post"])
def test_lone_root_without_its_map_in_the_source_is_unknown(dump: str) -> None:
    memory = real.overlay(dump)
    memory.remove(only(real.read(dump)).preserved.address)
    handover = only(luoser.read(memory))
    assert (handover.preserved.status, handover.direction) == (MapStatus.MISSING, Direction.UNKNOWN)
    assert handover.evidence


def test_a_setup_data_node_proves_nothing() -> None:
    """Before the jump it lies ready for the next kernel, so it neither makes a root incoming nor gives scratch."""
    image = Image()
    root = image.handover()
    array = image.alloc(struct.pack("<4Q", 0x100000, 0x100000, 0, 0), keep=False)
    image.alloc(bytes(0xD0) + struct.pack("<QIIQQQQ", 0, 10, 32, root, 4096, array, 32), keep=False)
    handover = only(image.read())
    assert (handover.direction, handover.scratch) == (Direction.OUTGOING, None)


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


def equal_numbers(dump: str) -> Overlay:
    """A dump with two roots, changed so that numbers and counts of both are those of the outgoing one."""
    memory = real.overlay(dump)
    handovers = {handover.direction: handover for handover in real.read(dump).handovers}
    old, new = handovers[Direction.INCOMING], handovers[Direction.OUTGOING]
    assert old.luo and new.luo and new.luo.number and old.kexec_metadata and new.kexec_metadata
    memory.write(old.luo.address + 8, u64(new.luo.number))
    memory.write(old.kexec_metadata.address + 69, u32(new.kexec_metadata.kexec_count))
    return memory


def test_real_pair_with_equal_numbers_is_unknown() -> None:
    found = luoser.read(equal_numbers(BOTH)).handovers
    assert [handover.direction for handover in found] == [Direction.UNKNOWN] * 2


def test_real_pair_with_equal_numbers_never_swaps() -> None:
    before = {handover.address: handover.direction for handover in real.read(BOTH).handovers}
    for handover in luoser.read(equal_numbers(BOTH)).handovers:
        assert handover.direction in (before[handover.address], Direction.UNKNOWN)


# -- /chosen --


@pytest.mark.parametrize("cells", [1, 2])
def test_chosen_of_a_boot_devicetree_makes_its_root_incoming_for_certain(cells: int) -> None:
    image = Image()
    image.alloc(luo_ser(1))
    root = image.handover(map_address=0)
    tree = image.alloc(boot_tree(root, cells=cells), keep=False)
    handover = only(image.read())
    assert handover.direction is Direction.INCOMING
    assert any("certain" in word and f"{tree:#x}" in word for word in handover.evidence)


def test_chosen_outweighs_the_numbers() -> None:
    image = Image()
    old, new = add_root(image, number=2), add_root(image, number=1)
    image.alloc(boot_tree(old), keep=False)
    assert directions(image)[old] is Direction.INCOMING
    assert new != old


def test_chosen_works_over_a_real_dump() -> None:
    memory = real.overlay("6.18-a/post")
    memory.write(0x40000000 - 0x10000, boot_tree(only(real.read("6.18-a/post")).address))
    handover = only(luoser.read(memory))
    assert handover.direction is Direction.INCOMING
    assert any("certain" in word for word in handover.evidence)


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
