# SPDX-License-Identifier: MIT
"""Sub-tree of the KHO self-test: its devicetree, and the vmalloc area that lists its folios."""

from __future__ import annotations

import struct

from luoser.abi.kho_test import COMPATIBLE
from luoser.abi.vmalloc import VM_ALLOC, kho_vmalloc
from luoser.fdt import Node
from luoser.state import Handover, KhoTest
from luoser.state.from_json import Item
from luoser.writer.handler import write_contents
from luoser.writer.image import Image
from luoser.writer.tree_values import u32_of, u64
from luoser.writer.vmalloc import write_area

__all__ = ["test_tree", "write_test"]

_TEST = "kho_test"


def test_tree(test: Item, chunk: int | None) -> Node:
    """The devicetree of the self-test.

    test:  a description.
    chunk: address of the first chunk of the vmalloc area with the list of folios. None: the form of 6.17.

    Source: lib/test_kho.c; docs/abi/kho_test.md.
    """
    folios = b"".join(u64(address | order) for address, order in test.rows("folios", 2))
    if chunk is not None:
        pages = len(test.numbers("pages"))
        folios = kho_vmalloc.build({"first": chunk, "total_pages": pages, "flags": VM_ALLOC, "order": 0})
    data = Node(
        b"data",
        [
            (b"nr_folios", u32_of(test, "nr_folios")),
            (b"folios_info", folios),
            (b"csum", u32_of(test, "checksum")),
        ],
    )
    return Node(b"", [(b"compatible", COMPATIBLE + b"\0"), (b"magic", u32_of(test, "magic"))], [data])


def write_test(image: Image, handover: Handover, test: KhoTest) -> None:
    """Write the list of the self-test's folios. Its vmalloc descriptor is in the devicetree.

    image:    to write to.
    handover: with the devicetree.
    test:     with the folios.
    """
    write_contents(image, test.contents, "folio of the KHO self-test")
    lost = len(test.folios) - len(test.contents)
    if test.contents and lost:
        image.lacks.append(f"sub-tree kho_test: contents of {lost} of {len(test.folios)} folios are not in the state")
    tree = next((subtree.fdt for subtree in handover.subtrees if subtree.name == _TEST), None)
    node = tree.root.node("data") if tree is not None else None
    info = node.get("folios_info") if node is not None else None
    if info is None or (len(info) == 8 * test.count and not test.pages):
        return  # the folios are in the property itself
    if len(info) != kho_vmalloc.size or not test.pages:
        if test.count:
            image.lacks.append(
                f"sub-tree kho_test: expected {test.count} folios in the state, found {len(test.folios)}; left out"
            )
        return
    descriptor = kho_vmalloc.parse(info)
    words = b"".join(struct.pack("<Q", address | order) for address, order in test.folios)
    write_area(image, (descriptor.first,), test.pages, descriptor.order, words, "sub-tree kho_test")
