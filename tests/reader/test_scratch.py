# SPDX-License-Identifier: MIT
"""Scratch areas, and the messenger that lies in one of them once the next kernel runs."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.limits import Limits, limited
from luoser.memory.elf import ElfMemory
from luoser.state import Area, Direction, Handover
from tests import real
from tests.images import Image, Node, fdt
from tests.memory.images import Load, core
from tests.reader.helpers import only, problems
from tests.reader.messengers import boot_tree, named, setup_node

each_dump = pytest.mark.parametrize("name", [*real.DUMPS, *real.MORE])
POST, PRE = "7.3-chain/post", "7.3-chain/frozen"
LOW, SIZE = 0x20000, 0x20000
"""A scratch area of the synthetic images."""


def roots_with_a_messenger_in_scratch(name: str) -> set[int]:
    """Roots of a dump that a messenger names from inside of an area that it names itself."""
    memory, found = real.dump(name), set()
    for one in named(memory):
        array = memory.read(one.array, one.array_size)
        for start, size in struct.iter_unpack("<QQ", array):
            if start <= one.address and one.address + one.size <= start + size:
                found.add(one.root)
    return found


@each_dump
def test_messenger_lies_in_scratch_of_incoming_roots_only(name: str) -> None:
    handovers = real.expect(name)["handovers"]
    incoming = {int(one["address"], 16) for one in handovers if one["direction"] == "incoming"}
    assert roots_with_a_messenger_in_scratch(name) == incoming
    assert len(incoming) == (name.split("/")[1] in ("post", "finished", "frozen2"))


@each_dump
def test_reader_uses_what_lies_in_scratch(name: str) -> None:
    """Alone, without the numbers and without the other root: the messenger decides as the kernel did."""
    memory = real.overlay(name)
    handovers = real.read(name).handovers
    outgoing = [one.address for one in handovers if one.direction is Direction.OUTGOING and len(handovers) > 1]
    for address in outgoing:
        assert address is not None
        memory.remove(address)
    for one in luoser.read(memory).handovers:
        is_in_scratch = one.address in roots_with_a_messenger_in_scratch(name)
        assert (one.direction is Direction.INCOMING) == is_in_scratch
        assert any("is in scratch, where kexec puts it at the jump" in word for word in one.evidence) == is_in_scratch


# -- what counts as lying in scratch --


def machine(*, node: int | None, areas: tuple[tuple[int, int], ...], arm: bool = False, array: bytes = b"") -> Handover:
    """A lone root whose map is intact, with a messenger at an address that names an array of areas."""
    image = Image(pages=256)
    image._next = LOW + SIZE + 0x10000
    root = image.handover()
    place = image.alloc(array or b"".join(struct.pack("<QQ", *area) for area in areas), keep=False)
    size = len(array) or 16 * len(areas)
    if node is not None:
        image.put(node, boot_tree(root, array=place, array_size=size) if arm else setup_node(root, place, size))
    data = bytearray(core(Load(0, bytes(image.data))))
    if arm:
        data[18:20] = (183).to_bytes(2, "little")
    return only(luoser.read(ElfMemory("x", bytes(data)), page_size=4096))


@pytest.mark.parametrize("node", [LOW, LOW + 0xD0, LOW + SIZE - 48])
def test_node_that_an_area_contains_makes_its_root_incoming_by_inference(node: int) -> None:
    handover = machine(node=node, areas=((LOW, SIZE), (0, 0)))
    assert handover.direction is Direction.INCOMING
    assert handover.evidence[0] == (
        f"inferred: the setup_data node at {node:#x} that points to it is in scratch, where kexec puts it at the jump"
    )


@pytest.mark.parametrize("node", [LOW - 48, LOW - 8, LOW + SIZE - 40, LOW + SIZE])
def test_node_that_no_area_contains_as_a_whole_is_no_evidence(node: int) -> None:
    handover = machine(node=node, areas=((LOW, SIZE), (0, 0)))
    assert handover.direction is Direction.OUTGOING
    assert handover.evidence[0].startswith("inferred: the only root")


def test_second_area_counts_as_well() -> None:
    assert machine(node=LOW + 0xD0, areas=((0x100000, 0x1000), (LOW, SIZE))).direction is Direction.INCOMING


def test_more_areas_than_the_limit_are_said() -> None:
    image = Image()
    array = image.alloc(struct.pack("<4Q", 0x100_0000, 0x20_0000, 0, 0), keep=False)
    root = image.handover()
    image.alloc(setup_node(root, array, 32), keep=False)
    with limited(Limits(scratch_areas=2)):
        assert only(image.read()).scratch is not None
    with limited(Limits(scratch_areas=1)):
        state = image.read()
    (problem,) = problems(state, "too-many")
    assert problem.address == array and "--limit scratch_areas=N" in problem.message
    assert only(state).scratch is None


def test_array_of_zeros_is_what_lies_there_before_the_jump() -> None:
    handover = machine(node=LOW + 0xD0, areas=((0, 0), (0, 0)))
    assert (handover.direction, handover.scratch) == (Direction.OUTGOING, None)


@pytest.mark.parametrize(
    "array",
    [
        struct.pack("<QQ", LOW + 8, SIZE),
        struct.pack("<QQ", LOW, SIZE + 8),
        struct.pack("<4Q", LOW, SIZE, 1 << 52, 4096),
        b"#!/bin/sh\n# first",
    ],
    ids=["start", "size", "beyond", "script"],
)
def test_array_that_cannot_be_one_is_no_evidence(array: bytes) -> None:
    array = array.ljust(-(-len(array) // 16) * 16, b"\n")
    handover = machine(node=LOW + 0xD0, areas=(), array=array)
    assert (handover.direction, handover.scratch) == (Direction.OUTGOING, None)


def test_devicetree_in_scratch_makes_its_root_incoming_on_arm64() -> None:
    handover = machine(node=LOW, areas=((LOW, SIZE),), arm=True)
    assert handover.direction is Direction.INCOMING
    assert handover.evidence[0].startswith(f"inferred: the devicetree at {LOW:#x} that points to it is in scratch")
    assert handover.scratch == (Area(address=LOW, size=SIZE),)


def test_devicetree_that_only_begins_in_scratch_is_no_evidence() -> None:
    assert machine(node=LOW + SIZE - 4096, areas=((LOW, SIZE - 4000),), arm=True).direction is Direction.OUTGOING


def test_devicetree_outside_of_scratch_lies_ready_for_the_next_kernel() -> None:
    """Before the jump kexec's copy is in memory and names the outgoing root."""
    handover = machine(node=LOW - 0x1000, areas=((LOW, SIZE),), arm=True)
    assert handover.direction is Direction.OUTGOING


# -- whose scratch it is --


def test_incoming_root_has_the_areas_that_the_kernel_says() -> None:
    (incoming, _) = real.read(POST).handovers
    said = real.expect(POST)["handovers"][0]["scratch"]
    assert incoming.direction is Direction.INCOMING and incoming.scratch is not None
    assert [(hex(area.address), hex(area.size)) for area in incoming.scratch] == [
        (area["address"], area["size"]) for area in said
    ]


@pytest.mark.parametrize("name", ["6.19-a/post", "7.3-a/post", "7.3-a/finished", POST])
def test_outgoing_root_without_an_array_inherits_that_of_the_incoming_one(name: str) -> None:
    by_direction = {one.direction: one for one in real.read(name).handovers}
    incoming, outgoing = by_direction[Direction.INCOMING], by_direction[Direction.OUTGOING]
    assert outgoing.scratch == incoming.scratch is not None
    assert outgoing.evidence[-1] == f"scratch areas of {incoming.address:#x}"


def test_outgoing_root_with_a_node_of_its_own_has_the_array_that_it_names() -> None:
    incoming, outgoing = real.read("7.3-chain/frozen2").handovers
    node = next(one for one in named(real.dump("7.3-chain/frozen2")) if one.root == outgoing.address)
    assert outgoing.direction is Direction.OUTGOING and outgoing.scratch == incoming.scratch
    word = f"the setup_data node at {node.address:#x} points to it and to the scratch array at {node.array:#x}"
    assert outgoing.evidence[-1] == word


@pytest.mark.parametrize("name", [PRE, "6.18-a/frozen", "7.3-a/frozen"])
def test_scratch_of_the_first_kernel_is_not_known_before_the_jump(name: str) -> None:
    """The array that its nodes name is filled at the jump: zeros, or not in the dump at all."""
    handover = only(real.read(name))
    assert handover.scratch is None
    assert any(one.root == handover.address for one in named(real.dump(name)))


def test_scratch_is_not_inherited_from_a_root_of_unknown_direction() -> None:
    memory = real.overlay(POST)
    incoming, outgoing = real.read(POST).handovers
    assert incoming.luo is not None and outgoing.luo is not None and incoming.kexec_metadata is not None
    memory.write(incoming.luo.address + 8, bytes(8))
    memory.write(incoming.kexec_metadata.address + 69, bytes(4))
    for one in named(real.dump(POST)):
        memory.write(one.address, bytes(one.size))
    found = luoser.read(memory).handovers
    assert [one.direction for one in found] == [Direction.UNKNOWN] * 2
    assert [one.scratch for one in found] == [None, None]


def test_chosen_names_the_scratch_array() -> None:
    image = Image()
    root = image.handover()
    scratch = image.alloc(struct.pack("<4Q", 0x40000000, 0x200000, 0x50000000, 0x400000), keep=False)
    spans = {"linux,kho-fdt": (root, 4096), "linux,kho-scratch": (scratch, 32)}
    chosen = Node("chosen", {label: struct.pack(">QQ", *span) for label, span in spans.items()})
    image.alloc(fdt(Node("", {"#address-cells": b"\0\0\0\2", "#size-cells": b"\0\0\0\2"}, [chosen])), keep=False)
    areas = image.read().handovers[0].scratch
    assert areas is not None
    assert [(area.address, area.size) for area in areas] == [(0x40000000, 0x200000), (0x50000000, 0x400000)]


@pytest.mark.parametrize("name", ["linux,kho-scratch", "linux,kho-bootmem"])
def test_chosen_names_the_areas_by_either_name(name: str) -> None:
    """Scratch is to be called bootmem from 7.4 on."""
    image = Image()
    root = image.handover()
    array = image.alloc(struct.pack("<QQ", 0x100_0000, 0x20_0000), keep=False)
    image.alloc(boot_tree(root, array=array, array_size=16, scratch=name), keep=False)
    assert only(image.read()).scratch == (Area(address=0x100_0000, size=0x20_0000),)
