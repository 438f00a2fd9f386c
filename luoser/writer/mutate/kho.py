# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/kho.py."""

from __future__ import annotations

import struct

from luoser.abi.kho import MAP_PROPERTIES, SUBTREE_PROPERTIES, SUBTREE_SIZE
from luoser.fdt import parse_header
from luoser.state import Handover, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__ = ["subtree_at", "tree_at"]


@mutation("KHO001", "KHO revival is disabled; the kernel boots without preserved memory")
def root_version(image: Image, state: State) -> None:
    """kho-v4 becomes kho-v9."""
    root = first_handover(state).address
    if root is None:
        raise Cannot("expected a root with an address")
    page = image.read(root, image.page_size)
    place = page.index(b"kho-v")
    image.patch(root + place + 5, b"9")


# -- the root's devicetree --------------------------------------------------------------------------------


def _root(state: State) -> int:
    root = first_handover(state).address
    if root is None:
        raise Cannot("expected a root with an address")
    return root


def tree_at(image: Image, address: int) -> bytes:
    """Bytes of a devicetree.

    image:   to read from.
    address: of the devicetree.
    """
    return image.read(address, parse_header(image.read(address, 40)).totalsize)


def subtree_at(state: State, name: str) -> int:
    """Address of a sub-tree. Raises Cannot if there is none.

    state: whose first handover is used.
    name:  of the sub-tree.
    """
    for subtree in first_handover(state).subtrees:
        if subtree.name == name and subtree.address is not None:
            return subtree.address
    raise Cannot(f"expected the sub-tree {name}")


def _value_of(image: Image, handover: Handover, pointers: tuple[str, ...], value: int) -> int:
    """Address of a u64 in the root: the value of a property with one of some names. Raises Cannot."""
    assert handover.address is not None
    tree = tree_at(image, handover.address)
    header = parse_header(tree)
    strings = tree[header.off_dt_strings :]
    for name in pointers:
        offset = strings.find(name.encode() + b"\0")
        head = struct.pack(">III", 3, 8, offset) if offset >= 0 else b""
        place = tree.find(head + value.to_bytes(8, "little")) if head else -1
        if place >= 0:
            return handover.address + place + len(head)
    raise Cannot(f"expected {' or '.join(pointers)} {value:#x} in the root, found none")


@mutation("KHO002", "KHO revival is disabled, or part of the root is not found")
def root_damaged(image: Image, state: State) -> None:
    """The token of the property with the map becomes an unknown one."""
    handover = first_handover(state)
    value = _value_of(image, handover, MAP_PROPERTIES, handover.preserved.address)
    image.patch(value - 12, struct.pack(">I", 7))


@mutation("KHO003", "nothing: libfdt does not read it. No kernel writes it, so the page was overwritten")
def root_unusual(image: Image, state: State) -> None:
    """boot_cpuid_phys of the root becomes 1."""
    image.patch(_root(state) + 28, struct.pack(">I", 1))


@mutation("KHO004", "KHO revival is disabled")
def map_pointer_missing(image: Image, state: State) -> None:
    """A letter in the name of the map's property changes."""
    root = _root(state)
    tree = tree_at(image, root)
    name = next(name.encode() for name in MAP_PROPERTIES if name.encode() in tree)
    image.patch(root + tree.index(name) + len(name) - 1, b"q")


@mutation("KHO005", "KHO revival is disabled")
def map_not_published(image: Image, state: State) -> None:
    """The pointer to the map becomes 0."""
    handover = first_handover(state)
    if handover.compatible == "kho-v1" and not (
        handover.luo and handover.luo.serialized and not handover.luo.subsystems
    ):
        raise Cannot("kho-v1 has no map before it is finalised: expected a state with serialised sessions")
    image.patch(_value_of(image, handover, MAP_PROPERTIES, handover.preserved.address), bytes(8))


@mutation("KHO006", "the owner does not find the sub-tree")
def subtree_address(image: Image, state: State) -> None:
    """The address of the self-test's sub-tree becomes one inside a page."""
    place = subtree_at(state, "kho_test")
    value = _value_of(image, first_handover(state), SUBTREE_PROPERTIES, place)
    image.patch(value, (place + 8).to_bytes(8, "little"))


@mutation("KHO007", "the owner finds only one of the two")
def subtree_names(image: Image, state: State) -> None:
    """The self-test's sub-tree gets the name of another one, with a name of 8 to 11 letters."""
    root, handover = _root(state), first_handover(state)
    place = tree_at(image, root).find(b"\0\0\0\1kho_test\0") + 4
    names = (one.name for one in handover.subtrees if one.name not in ("kho_test", "memblock"))
    other = next((name for name in names if 8 <= len(name) < 12), None)
    if place < 4 or other is None:
        raise Cannot("expected the sub-tree kho_test and another one with a name of 8 to 11 letters")
    image.patch(root + place, other.encode().ljust(12, b"\0"))


@mutation("KHO019", "nothing: memblock does not read its size. No kernel writes this")
def blob_size(image: Image, state: State) -> None:
    """The blob-size of memblock grows by 4 bytes."""
    size = next((entry.size for entry in first_handover(state).subtrees if entry.name == "memblock"), None)
    if size is None:
        raise Cannot("expected the sub-tree memblock")
    value = _value_of(image, first_handover(state), (SUBTREE_SIZE,), size)
    image.patch(value, (size + 4).to_bytes(8, "little"))
