# SPDX-License-Identifier: MIT
"""Addresses in devicetrees: those of the root, those of nodes below it, and values that are none."""

from __future__ import annotations

from luoser.abi.other import TREES
from luoser.fdt import Node
from luoser.state.trees import tree_addresses

MSHV, PSTORE, PCSC = TREES


def test_addresses_of_a_root_in_the_order_of_its_form() -> None:
    root = Node(b"", [(b"partition_ids", b"\2".ljust(8, b"\0")), (b"root_table", b"\1".ljust(8, b"\0"))])
    assert list(tree_addresses(MSHV, root)) == [("root_table", 1), ("partition_ids", 2)]
    assert list(tree_addresses(PSTORE, root)) == []


def test_addresses_of_the_nodes_below_a_root() -> None:
    nodes = [Node(b"dev_a", [(b"da", bytes(8))]), Node(b"dev_b"), Node(b"dev_c", [(b"da", bytes(4))])]
    assert list(tree_addresses(PCSC, Node(b"", [(b"da", bytes(8))], nodes))) == [("da", 0)]
