# SPDX-License-Identifier: MIT
"""What names a KHO root in a dump, found without luoser's own search: setup_data nodes and boot devicetrees."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from luoser.errors import FormatError, MissingMemory
from luoser.fdt import parse
from luoser.memory.source import Memory
from tests.images import Node, fdt, text

__all__ = ["Named", "boot_tree", "named", "setup_node"]

X86_64 = 62
"""e_machine of ELF."""


@dataclass(frozen=True)
class Named:
    """A messenger at an address, of some bytes; the root that it names and its scratch array, in bytes."""

    address: int
    size: int
    root: int
    array: int
    array_size: int


def setup_node(root: int, array: int, array_size: int) -> bytes:
    """A setup_data node of type 10, as kexec_file writes it: next, type, len; root and array with their sizes."""
    return struct.pack("<QII4Q", 0, 10, 32, root, 4096, array, array_size)


def boot_tree(
    root: int,
    *,
    cells: int = 2,
    size: int = 4096,
    array: int = 0,
    array_size: int = 0,
    pad: int = 0,
    scratch: str = "linux,kho-scratch",
) -> bytes:
    """A boot devicetree whose /chosen names a root and a scratch array; its cells are big-endian."""
    width = 4 * cells
    number = cells.to_bytes(4, "big")
    spans = {"linux,kho-fdt": (root, size), scratch: (array, array_size)}
    chosen = Node(
        "chosen", {name: b"".join(cell.to_bytes(width, "big") for cell in span) for name, span in spans.items()}
    )
    memory = Node("memory@0", {"device_type": text("memory"), "pad": bytes(pad)})
    return fdt(Node("", {"#address-cells": number, "#size-cells": number, "model": text("x")}, [memory, chosen]))


def named(memory: Memory) -> Iterator[Named]:
    """All messengers of a dump: of setup_data on x86-64, of /chosen elsewhere."""
    if memory.machine == X86_64:
        yield from _nodes(memory)
    else:
        yield from _trees(memory)


def _nodes(memory: Memory) -> Iterator[Named]:
    for place in memory.find(struct.pack("<II", 10, 32)):
        address = place - 8
        try:
            _, _, _, root, size, array, array_size = struct.unpack("<QII4Q", memory.read(address, 48))
        except MissingMemory:
            continue
        if size == 4096 and root and not root % 4096 and array_size and not array_size % 16:
            yield Named(address, 48, root, array, array_size)


def _trees(memory: Memory) -> Iterator[Named]:
    for address in memory.find_pages(b"\xd0\x0d\xfe\xed"):
        try:
            size = int.from_bytes(memory.read(address + 4, 4), "big")
            chosen = parse(memory.read(address, size)).root.node("chosen")
        except (FormatError, MissingMemory):
            continue
        values = [chosen and chosen.get(name) for name in ("linux,kho-fdt", "linux,kho-scratch")]
        if values[0] and values[1]:
            (root, _), (array, array_size) = (struct.unpack(">QQ", value) for value in values if value)
            yield Named(address, size, root, array, array_size)
