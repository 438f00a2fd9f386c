# SPDX-License-Identifier: MIT
"""Sub-tree memblock: the devicetree of the reserve_mem regions."""

from __future__ import annotations

from luoser.abi.memblock import COMPATIBLE, RESERVE_MEM
from luoser.fdt import Node
from luoser.state.from_json import Item
from luoser.text import encode_name
from luoser.writer.tree_values import u64

__all__ = ["memblock_tree"]


def memblock_tree(memblock: Item) -> Node:
    """The devicetree, with a node for each region. memblock: a description.

    Source: mm/memblock.c; docs/abi/memblock.md.
    """
    root = Node(b"", [(b"compatible", COMPATIBLE + b"\0")])
    for entry in memblock.items("reservations"):
        words = [(b"start", u64(entry.number("start"))), (b"size", u64(entry.number("size")))]
        root.nodes.append(Node(encode_name(entry.text("name")), [(b"compatible", RESERVE_MEM + b"\0"), *words]))
    return root
