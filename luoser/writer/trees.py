# SPDX-License-Identifier: MIT
"""The devicetrees that kernels of a release write, from the values of a description."""

from __future__ import annotations

import struct

from luoser.abi.kho import SUBTREE_SIZE
from luoser.abi.vmalloc import VM_ALLOC, kho_vmalloc
from luoser.fdt import Node
from luoser.state.load import Item
from luoser.text import encode_name

__all__ = ["luo_tree", "memblock_tree", "root_tree", "test_tree"]


def text(value: str) -> bytes:
    return encode_name(value) + b"\0"


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def root_tree(handover: Item) -> Node:
    """The KHO root: the map's address, and a node for each sub-tree as its version writes it."""
    compatible = handover.text("compatible")
    address = (handover.item("preserved") or Item({}, "")).number("address", 0)
    root = Node(b"", [(b"compatible", text(compatible)), (b"preserved-memory-map", u64(address))])
    for subtree in handover.items("subtrees"):
        place, size = u64(subtree.number("address")), u64(subtree.number("size", 0))
        if compatible == "kho-v1":
            properties = [(b"fdt", place)]
        elif compatible == "kho-v2":
            properties = [(b"preserved-data", place)]
        else:
            properties = [(SUBTREE_SIZE.encode(), size), (b"preserved-data", place)]
        root.nodes.append(Node(encode_name(subtree.text("name")), properties))
    return root


def luo_tree(luo: Item, layout: str, pointer: int) -> Node:
    """LUO's root object in the forms that are devicetrees. pointer: where luo-v2 keeps its struct."""
    if layout == "luo-v2":
        return Node(b"", [(b"compatible", text("luo-v2")), (b"luo-abi-header", u64(pointer))])
    root = Node(b"", [(b"compatible", text("luo-v1"))])
    number = luo.maybe("liveupdate_number")
    if number is not None:
        root.properties.append((b"liveupdate-number", u64(number)))
    if layout == "luo-v1-subsystems":
        node = Node(b"subsystems", [(b"compatible", text("subsystems-v1"))])
        entries = luo.items("subsystems")
        node.properties += [(encode_name(entry.text("name")), u64(entry.number("data", 0))) for entry in entries]
        root.nodes.append(node)
        return root
    version = "luo-session-v1" if layout == "luo-v1-session-v1" else "luo-session-v2"
    area = u64(luo.number("session_area", 0))
    root.nodes.append(Node(b"luo-session", [(b"compatible", text(version)), (b"luo-session-header", area)]))
    flbs = luo.maybe("flb_area")
    if flbs is not None:
        root.nodes.append(Node(b"luo-flb", [(b"compatible", text("luo-flb-v1")), (b"luo-flb-header", u64(flbs))]))
    return root


def memblock_tree(memblock: Item) -> Node:
    root = Node(b"", [(b"compatible", text("memblock-v1"))])
    for entry in memblock.items("reservations"):
        words = [(b"start", u64(entry.number("start"))), (b"size", u64(entry.number("size")))]
        root.nodes.append(Node(encode_name(entry.text("name")), [(b"compatible", text("reserve-mem-v1")), *words]))
    return root


def test_tree(test: Item, chunk: int | None) -> Node:
    """The self-test's tree. chunk: the first of the vmalloc area that holds its folios, None for the form of 6.17."""
    folios = b"".join(u64(address | order) for address, order in test.rows("folios", 2))
    if chunk is not None:
        pages = len(test.numbers("pages"))
        folios = kho_vmalloc.build({"first": chunk, "total_pages": pages, "flags": VM_ALLOC, "order": 0})
    data = Node(
        b"data",
        [
            (b"nr_folios", _u32(test, "nr_folios")),
            (b"folios_info", folios),
            (b"csum", _u32(test, "checksum")),
        ],
    )
    return Node(b"", [(b"compatible", text("kho-test-v1")), (b"magic", _u32(test, "magic"))], [data])


def _u32(item: Item, name: str) -> bytes:
    value = item.number(name)
    if value >> 32:
        raise item.fail(name, f"{value:#x} does not fit 32 bits")
    return struct.pack("<I", value)
