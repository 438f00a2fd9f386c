# SPDX-License-Identifier: MIT
"""What a hostile image may cost: no more than its bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

import luoser
import luoser.errors
from tests.images import Image, Node, fdt, text
from tests.work import Counted, steps


def shared_tree(image: Image) -> None:
    blob = fdt(Node("", {}, [Node(f"n{number}") for number in range(20000)]))
    place = image.alloc(blob, order=9)
    image.handover({f"s{number}": (place, len(blob)) for number in range(25)})


def folios_of_one_page(image: Image) -> None:
    page = image.alloc(bytes(8) * 512)
    chunks = [image.alloc() for _ in range(300)]
    for chunk, following in zip(chunks, [*chunks[1:], 0], strict=True):
        image.put(chunk, struct.pack("<512Q", following, *[page] * 511))
    info = struct.pack("<QIHH", chunks[0], 1 << 31, 1, 0)
    data = Node("data", {"nr_folios": b"\xff" * 4, "folios_info": info, "csum": bytes(4)})
    tree = image.tree(Node("", {"compatible": text("kho-test-v1"), "magic": b"!OHK"}, [data]))
    image.handover({"kho_test": (tree, 4096)})


def broken_boot_trees(image: Image) -> None:
    """Pages that each claim to be the head of 2 MiB of devicetree with the name of the property in it."""
    image.handover()
    size, words = 2 << 20, b"linux,kho-fdt\0"
    head = struct.pack(">10I", 0xD00DFEED, size, 4096, 200, 40, 17, 16, 0, len(words), size - 4096)
    for _ in range(1000):
        image.alloc(head.ljust(200, b"\0") + words, keep=False)


@pytest.mark.parametrize("build", [shared_tree, folios_of_one_page, broken_boot_trees])
def test_hostile_image_costs_no_more_than_its_bytes(build: Callable[[Image], None]) -> None:
    """A tree is parsed once, a page of a list read once, and the bytes of trees that say nothing are bounded."""
    image = Image(pages=2048)
    build(image)
    memory = Counted(image.open(), most=6 * len(image.data))
    with steps(2_000_000):
        luoser.read(memory)
