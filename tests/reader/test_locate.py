# SPDX-License-Identifier: MIT
"""Finding KHO roots, and not finding what is none."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.errors import PageState, UsageError
from tests import real
from tests.images import Image, Node, fdt, text, u64
from tests.reader.helpers import only, problems
from tests.work import steps


def root_tree(compatible: bytes, name: str = "") -> bytes:
    return fdt(Node(name, {"compatible": compatible, "preserved-memory-map": u64(0)}))


def roots(image: Image) -> list[int]:
    return [handover.address for handover in image.read().handovers]


@pytest.mark.parametrize("version", ["kho-v1", "kho-v2", "kho-v3", "kho-v4", "kho-v4;radix-v1", "kho-v17"])
def test_every_version_of_the_compatible_string_is_a_root(version: str) -> None:
    image = Image()
    address = image.alloc(root_tree(text(version)))
    state = image.read()
    assert only(state).address == address
    assert only(state).compatible == version


@pytest.mark.parametrize("compatible", [b"luo-v1\0", b"kho-test-v1\0", b"akho-v4\0", b"", b"kho\0"])
def test_other_devicetrees_are_no_roots(compatible: bytes) -> None:
    image = Image()
    image.alloc(root_tree(compatible))
    assert roots(image) == []


def test_tree_whose_root_node_has_a_name_is_no_root() -> None:
    image = Image()
    image.alloc(root_tree(b"kho-v4\0", name="kho"))
    assert roots(image) == []


def test_the_string_in_a_child_makes_no_root() -> None:
    image = Image()
    image.tree(Node("", {"model": text("x")}, [Node("LUO", {"compatible": text("kho-v4")})]))
    assert roots(image) == []


def test_root_off_a_page_start_is_not_found() -> None:
    image = Image()
    image.put(image.alloc() + 2048, root_tree(b"kho-v4\0"))
    assert roots(image) == []


def test_root_larger_than_its_page_is_none() -> None:
    image = Image()
    blob = bytearray(root_tree(b"kho-v4\0"))
    blob[4:8] = (4097).to_bytes(4, "big")
    image.alloc(bytes(blob))
    assert roots(image) == []


def test_root_damaged_behind_its_compatible_is_a_root_with_a_problem() -> None:
    image = Image()
    blob = bytearray(root_tree(b"kho-v4\0"))
    end = blob.rindex((9).to_bytes(4, "big"), 0, blob.index(b"compatible\0"))
    blob[end : end + 4] = b"\xff" * 4
    address = image.alloc(bytes(blob))
    state = image.read()
    assert only(state).address == address
    assert [problem.address for problem in problems(state, "bad-fdt")] == [address]


def test_roots_come_by_address() -> None:
    image = Image()
    made = [image.alloc(root_tree(b"kho-v4\0")) for _ in range(5)]
    assert roots(image) == made


def test_number_of_roots_is_bounded() -> None:
    image = Image(pages=1024)
    for _ in range(500):
        image.alloc(root_tree(b"kho-v4\0"))
    with steps(1_000_000):
        state = image.read()
    assert 0 < len(state.handovers) < 500
    assert problems(state, "too-many-roots")


def test_root_can_be_named() -> None:
    image = Image()
    image.alloc(root_tree(b"kho-v4\0"))
    wanted = image.alloc(root_tree(b"kho-v1\0"))
    assert only(image.read(root=wanted)).address == wanted


@pytest.mark.parametrize("address", [0, 0x1000, 0x5CD001, 1 << 60])
def test_naming_a_page_that_is_no_root_is_refused(address: int) -> None:
    with pytest.raises(UsageError, match=f"no KHO root at {address:#x}"):
        luoser.read(real.dump("7.3-a/frozen"), root=address)


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_root_page_that_is_gone_is_not_found(state: PageState) -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(only(real.read("7.3-a/frozen")).address, state=state)
    assert luoser.read(memory).handovers == ()


def test_image_of_zeros_has_no_state() -> None:
    state = Image().read()
    assert (state.handovers, state.problems) == ((), ())


def test_scratch_array_that_cannot_be_one_is_not_shown() -> None:
    name = "7.3-a/post"
    incoming = real.read(name).handovers[0]
    assert incoming.scratch
    where = next(int(word.split()[-1], 16) for word in incoming.evidence if "scratch array" in word)
    memory = real.overlay(name)
    memory.write(where, b"#!/bin/sh" * 5)
    assert luoser.read(memory).handovers[0].scratch is None


def test_sub_tree_without_an_address_is_a_problem() -> None:
    image = Image()
    tree = Node(
        "", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}, [Node("odd", {"blob-size": u64(8)})]
    )
    image.tree(tree)
    state = image.read()
    assert [(subtree.name, subtree.address, subtree.size) for subtree in only(state).subtrees] == [("odd", None, 8)]
    assert "odd" in problems(state, "bad-subtree")[0].message


@pytest.mark.parametrize("address", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_sub_tree_with_an_impossible_address_is_a_problem(address: int) -> None:
    image = Image()
    image.handover({"odd": (address, 8)})
    state = image.read()
    assert [(subtree.name, subtree.address) for subtree in only(state).subtrees] == [("odd", None)]
    assert f"{address:#x}" in problems(state, "bad-pointer")[0].message


@pytest.mark.parametrize("compatible", ["kho-vX", "kho-v", "kho-v4 ", "kho-v4garbage"])
def test_what_only_starts_like_a_root_is_none(compatible: str) -> None:
    image = Image()
    image.handover(compatible=compatible)
    assert image.read().handovers == ()


def test_copy_of_a_root_is_left_out() -> None:
    image = Image()
    root = image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32)})
    copy = image.alloc(bytes(image.data[root : root + 4096]), keep=False)
    state = image.read()
    assert [handover.address for handover in state.handovers] == [root]
    assert [problem.address for problem in state.problems if problem.code == "root-copy"] == [copy]
