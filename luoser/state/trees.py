# SPDX-License-Identifier: MIT
"""Addresses in the devicetrees of sub-trees whose form is known."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.other import TreeForm
from luoser.fdt import Node

__all__ = ["tree_addresses", "tree_nodes"]


def tree_nodes(form: TreeForm, root: Node) -> list[Node]:
    """The nodes of a devicetree that have the properties of its form. root: of the devicetree."""
    return root.nodes if form.below else [root]


def tree_addresses(form: TreeForm, root: Node) -> Iterator[tuple[str, int]]:
    """(property, physical address) of all properties of the form that are there and have eight bytes.

    root: of the devicetree.
    """
    for node in tree_nodes(form, root):
        for name in form.pages:
            address = node.u64(name)
            if address is not None:
                yield name, address
