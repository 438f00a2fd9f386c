# SPDX-License-Identifier: MIT
"""Synthetic memory images: KHO roots, maps, chains and devicetrees of every form.

Written from the description of the formats, with numbers of its own and nothing of luoser's layouts, so that
a wrong layout there cannot hide here.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import luoser
from luoser.memory.source import Memory, Segment, SegmentedMemory
from luoser.state import State
from tests.memory.images import Load, core

__all__ = ["Image", "Node", "fdt", "find_radix_bit", "name", "text", "u32", "u64"]

Blocks = Iterable[tuple[int, int]]
"""(physical address, order) of each preserved block."""


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def name(value: str | bytes, size: int) -> bytes:
    """A NUL-padded name field."""
    raw = value.encode() if isinstance(value, str) else value
    assert len(raw) < size
    return raw.ljust(size, b"\0")


# -- devicetrees ------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A node to write: its properties and children in order."""

    name: str = ""
    properties: dict[str, bytes] = field(default_factory=dict)
    nodes: Sequence[Node] = ()


def fdt(root: Node) -> bytes:
    """A blob as the kernel's repacked trees lie: header, reserve map at 40, structure at 56, strings."""
    strings: dict[str, int] = {}
    block = _node(root, strings) + struct.pack(">I", 9)
    names = b"".join(text(entry) for entry in strings)
    off_strings = 56 + len(block)
    header = struct.pack(
        ">10I", 0xD00DFEED, off_strings + len(names), 56, off_strings, 40, 17, 16, 0, len(names), len(block)
    )
    return header + bytes(16) + block + names


def _node(node: Node, strings: dict[str, int]) -> bytes:
    out = struct.pack(">I", 1) + _padded(text(node.name))
    for key, value in node.properties.items():
        offset = strings.setdefault(key, sum(len(known) + 1 for known in strings))
        out += struct.pack(">III", 3, len(value), offset) + _padded(value)
    return out + b"".join(_node(child, strings) for child in node.nodes) + struct.pack(">I", 2)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# -- images -----------------------------------------------------------------------------------------------


class Image:
    """Memory from address `base` on, 0 for a raw image. What `alloc` gives out is preserved, but for keep=False.

    first: address of the first block. None: that of the 16th page.
    """

    def __init__(self, *, page_size: int = 4096, pages: int = 512, base: int = 0, first: int | None = None) -> None:
        self.page_size, self.base = page_size, base
        self.data = bytearray(pages * page_size)
        self.kept: list[tuple[int, int]] = []
        self._next = base + 16 * page_size if first is None else first

    def alloc(self, data: bytes = b"", *, order: int = 0, keep: bool = True) -> int:
        """A block of 2^order pages, naturally aligned, with data at its start."""
        size = self.page_size << order
        assert len(data) <= size
        address = -(-self._next // size) * size
        self._next = address + size
        assert self._next <= self.base + len(self.data), "the image is too small"
        self.put(address, data)
        if keep:
            self.kept.append((address, order))
        return address

    def put(self, address: int, data: bytes) -> None:
        self.data[address - self.base : address - self.base + len(data)] = data

    def core(self, *, notes: bytes = b"") -> bytes:
        """The memory as an ELF core."""
        return core(Load(self.base, bytes(self.data)), notes=notes)

    def open(self) -> Memory:
        with tempfile.NamedTemporaryFile(suffix=".raw") as file:
            file.write(self.data)
            file.flush()
            return luoser.open(file.name)

    def with_zeros(self, start: int, size: int, *, head: bytes = b"") -> Memory:
        """The memory and, at another address, zeros that are not stored. head: bytes before them, which are."""
        data = bytes(self.data)
        stored, zeros = Segment(self.base, len(data), 0, len(data)), Segment(start, size, len(data), len(head))
        memory = SegmentedMemory("image", data + head, [stored, zeros])
        memory.format = "image"
        return memory

    def read(self, **options: Any) -> State:
        options.setdefault("page_size", self.page_size)
        with self.open() as memory:
            return luoser.read(memory, **options)

    # -- maps --

    def radix(self, blocks: Blocks) -> int:
        """The radix tree of kho-v2 and later; the address of its root page."""
        shift = self.page_size.bit_length() - 1
        return self.tree_of((1 << (64 - shift - order) | address >> (shift + order) for address, order in blocks))

    def tree_of(self, keys: Iterable[int], *, keep: bool = False) -> int:
        """A radix tree of keys; the address of its root page. keep: preserve its nodes."""
        shift = self.page_size.bit_length() - 1
        table_bits, leaf_bits = shift - 3, shift + 3
        levels = -(-(64 - shift + 1 - leaf_bits) // table_bits)
        root = self.alloc(keep=keep)
        for key in keys:
            node = root
            for level in range(levels, 0, -1):
                slot = node + 8 * (key >> (leaf_bits + table_bits * (level - 1)) & ((1 << table_bits) - 1))
                if not (child := self._u64(slot)):
                    child = self.alloc(keep=keep)
                    self.put(slot, u64(child))
                node = child
            self._set_bit(node, key & ((1 << leaf_bits) - 1))
        return root

    def chunks(self, blocks: Blocks, *, bitmap_size: int | None = None) -> int:
        """The chunks of kho-v1; the address of the first. bitmap_size: 512, or a page where none is given."""
        size = bitmap_size or self.page_size
        bitmaps: dict[tuple[int, int], int] = {}
        pages: list[int] = []
        for address, order in sorted(blocks, key=lambda block: (block[1], block[0])):
            span = size * 8 * self.page_size << order
            start = address // span * span
            if (order, start) not in bitmaps:
                place = len(bitmaps) * size % self.page_size
                if place == 0:
                    pages.append(self.alloc(keep=False))
                bitmaps[order, start] = pages[-1] + place
            self._set_bit(bitmaps[order, start], (address - start) // (self.page_size << order))
        return self._chain(bitmaps)

    def _chain(self, bitmaps: Mapping[tuple[int, int], int]) -> int:
        orders = sorted({order for order, _ in bitmaps})
        addresses = [self.alloc(keep=False) for _ in orders]
        for order, address, following in zip(orders, addresses, [*addresses[1:], 0], strict=True):
            own = [(start, bitmap) for (of, start), bitmap in bitmaps.items() if of == order]
            head = struct.pack("<QII", following, order, len(own))
            self.put(address, head + b"".join(struct.pack("<QQ", *pair) for pair in own))
        return addresses[0]

    def _u64(self, address: int) -> int:
        address -= self.base
        return int.from_bytes(self.data[address : address + 8], "little")

    def _set_bit(self, address: int, bit: int) -> None:
        self.data[address - self.base + bit // 8] |= 1 << bit % 8

    # -- roots and what hangs below --

    def handover(
        self,
        subtrees: Mapping[str, tuple[int, int | None]] | None = None,
        *,
        compatible: str = "kho-v4",
        bitmap_size: int | None = None,
        map_address: int | None = None,
        map_property: str = "preserved-memory-map",
        root: int | None = None,
    ) -> int:
        """A KHO root and a map of all that was allocated so far, the root included; the root's address.

        subtrees: name to (address, blob-size). map_address: a map made elsewhere, 0 for none.
        root: a page that was allocated for it before.
        """
        root = self.alloc() if root is None else root
        is_chunks = compatible == "kho-v1"
        if map_address is None:
            blocks = list(self.kept)
            map_address = self.chunks(blocks, bitmap_size=bitmap_size) if is_chunks else self.radix(blocks)
        nodes = [self._subtree(label, *place, is_chunks) for label, place in (subtrees or {}).items()]
        tree = Node("", {"compatible": text(compatible), map_property: u64(map_address)}, nodes)
        self.put(root, fdt(tree))
        return root

    def _subtree(self, label: str, address: int, size: int | None, is_old: bool) -> Node:
        properties = {"fdt" if is_old else "preserved-data": u64(address)}
        if size is not None and not is_old:
            properties["blob-size"] = u64(size)
        return Node(label, properties)

    def tree(self, root: Node) -> int:
        """A devicetree on a page of its own."""
        return self.alloc(fdt(root))

    def blocks(self, entries: Sequence[bytes]) -> int:
        """A chain of KHO block pages, all but the last full; the address of the first, 0 without entries."""
        if not entries:
            return 0
        most = (self.page_size - 16) // len(entries[0])
        parts = [entries[i : i + most] for i in range(0, len(entries), most)]
        addresses = [self.alloc() for _ in parts]
        for part, address, following in zip(parts, addresses, [*addresses[1:], 0], strict=True):
            self.put(address, struct.pack("<QQ", following, len(part)) + b"".join(part))
        return addresses[0]

    def vmalloc(self, data: bytes) -> bytes:
        """A preserved vmalloc area of single pages; its 16-byte descriptor."""
        size = self.page_size
        pages = [self.alloc(data[i : i + size]) for i in range(0, len(data), size)]
        most = size // 8 - 1
        parts = [pages[i : i + most] for i in range(0, len(pages), most)]
        chunks = [self.alloc() for _ in parts]
        for part, chunk, following in zip(parts, chunks, [*chunks[1:], 0], strict=True):
            self.put(chunk, struct.pack(f"<{len(part) + 1}Q", following, *part))
        return struct.pack("<QIHH", chunks[0] if chunks else 0, len(pages), 1, 0)


def find_radix_bit(memory: Memory, root: int, address: int, order: int = 0) -> tuple[int, int]:
    """(address of the byte, mask) of a block's bit in a radix tree of 4 KiB pages."""
    key = 1 << (52 - order) | address >> (12 + order)
    node = root
    for level in (5, 4, 3, 2, 1):
        node = int.from_bytes(memory.read(node + 8 * (key >> (15 + 9 * (level - 1)) & 511), 8), "little")
        assert node, f"nothing in the map for {address:#x}"
    bit = key & 0x7FFF
    return node + bit // 8, 1 << bit % 8
