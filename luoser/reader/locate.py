# SPDX-License-Identifier: MIT
"""Finding the KHO roots: page scan, the devicetree's /chosen; and the setup_data node that names one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from luoser import fdt
from luoser.abi.kho import CHOSEN_FDT, COMPATIBLE_PREFIX, SETUP_KEXEC_KHO, kho_data, setup_data
from luoser.errors import FormatError, MissingMemory, UsageError
from luoser.fdt import Fdt, Node
from luoser.limits import LIMITS
from luoser.reader.walk import PHYSICAL_LIMIT, Walk

__all__ = ["Root", "SetupNode", "find_roots", "setup_nodes"]


@dataclass(slots=True)
class Root:
    """A KHO root. chosen: where a devicetree names it in /chosen, which only a booted kernel's does."""

    address: int
    tree: Fdt
    chosen: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SetupNode:
    """A setup_data node of type 10 and the scratch array that it names. All physical addresses; size in bytes."""

    address: int
    scratch_address: int
    scratch_size: int


def find_roots(walk: Walk, *, only: int | None = None) -> list[Root]:
    """Every KHO root of the source, by address; `only` takes one page and asks no more.

    Raises UsageError when there is no KHO root at `only`.
    """
    if only is not None:
        root = _root_at(walk, only)
        if root is None:
            raise UsageError(f"no KHO root at {only:#x}: expected a devicetree with compatible kho-vN there")
        return [root]
    roots: dict[int, Root] = {}
    chosen: dict[int, list[int]] = {}
    trees = 0
    for address in walk.memory.find_pages(fdt.MAGIC):
        head = _head(walk, address)
        if head is None:
            continue
        if COMPATIBLE_PREFIX in head and (root := _root_at(walk, address)) is not None:
            if len(roots) >= LIMITS.roots:
                walk.problem("too-many-roots", address, f"more than {LIMITS.roots} KHO roots; the rest was not read")
                break
            roots[address] = root
        trees += 1
        if trees <= LIMITS.boot_trees:
            for named in _chosen(walk, address):
                chosen.setdefault(named, []).append(address)
    for address, sources in chosen.items():
        root = roots.get(address) or _root_at(walk, address)
        if root is not None:
            roots[address] = root
            root.chosen = sources
    return [roots[address] for address in sorted(roots)]


def _head(walk: Walk, address: int) -> bytes | None:
    try:
        return walk.memory.read(address, walk.page_size)
    except MissingMemory:
        return None


def _root_at(walk: Walk, address: int) -> Root | None:
    """The root at an address. A blob that is no sound tree but names itself kho-vN first is one with damage."""
    head = _head(walk, address)
    if head is None:
        return None
    try:
        header = fdt.parse_header(head)
        if header.totalsize > walk.page_size:
            return None
        tree = fdt.parse(head, partial=True)
    except FormatError:
        return None
    compatible = tree.root.text("compatible")
    if tree.root.name or compatible is None or not compatible.startswith(COMPATIBLE_PREFIX):
        return None
    return Root(address, tree)


def _chosen(walk: Walk, address: int) -> Iterator[int]:
    """The KHO root that a boot devicetree at an address names; its cells are big-endian."""
    try:
        header = fdt.parse_header(walk.memory.read(address, fdt.HEADER_SIZE))
        if header.size_dt_strings > LIMITS.boot_tree_strings:
            return
        strings = walk.memory.read(address + header.off_dt_strings, header.size_dt_strings)
        if CHOSEN_FDT.encode() not in strings:
            return
        tree = fdt.parse(walk.memory.read(address, header.totalsize))
    except (FormatError, MissingMemory):
        return
    chosen = tree.root.node("chosen")
    value = chosen.get(CHOSEN_FDT) if chosen is not None else None
    if value is None:
        return
    cells = _cells(tree.root, "#address-cells")
    if len(value) != 4 * (cells + _cells(tree.root, "#size-cells")):
        walk.problem(
            "bad-chosen",
            address,
            f"devicetree at {address:#x}: {CHOSEN_FDT} of {len(value)} bytes; a kernel ignores it",
        )
        return
    yield int.from_bytes(value[: 4 * cells], "big")


def _cells(root: Node, name: str) -> int:
    value = root.get(name)
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else 2


def setup_nodes(walk: Walk, root: int) -> Iterator[SetupNode]:
    """setup_data nodes anywhere in memory that name a root, searched as they are asked for.

    They prove nothing about the root's direction: before the jump one lies there for the next kernel.
    """
    wanted = struct.pack("<IIQQ", SETUP_KEXEC_KHO, kho_data.size, root, walk.page_size)
    for place in walk.memory.find(wanted):
        try:
            data = kho_data.parse(walk.memory.read(place + 8, kho_data.size))
        except MissingMemory:
            continue
        if walk.is_page_address(data.scratch_addr) and data.scratch_addr < PHYSICAL_LIMIT:
            yield SetupNode(place - (setup_data.size - 8), data.scratch_addr, data.scratch_size)
