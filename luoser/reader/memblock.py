# SPDX-License-Identifier: MIT
"""Sub-tree memblock: the reserve_mem regions."""

from __future__ import annotations

from luoser.abi.memblock import COMPATIBLE, RESERVE_MEM
from luoser.fdt import Fdt
from luoser.reader.walk import Subject, Walk
from luoser.state import Memblock, Reservation
from luoser.text import decode_name, safe_text

__all__ = ["read_memblock"]

_SUBJECT = Subject("sub-tree memblock", "memblock")


def read_memblock(walk: Walk, address: int, tree: Fdt) -> Memblock | None:
    """The reserve_mem regions of a memblock-v1 devicetree. None, with a problem: another devicetree.

    walk:    the source.
    address: of the sub-tree.
    tree:    its devicetree.

    Source: mm/memblock.c, memblock_kho_init; docs/abi/memblock.md.
    """
    compatible = tree.root.text("compatible") or b""
    if compatible != COMPATIBLE:
        text = f"expected compatible memblock-v1, found '{safe_text(compatible)}'"
        walk.problem("bad-memblock", address, _SUBJECT, text)
        return None
    reservations = []
    for node in tree.root.nodes:
        start, size = node.u64("start"), node.u64("size")
        if start is None or size is None or node.text("compatible") != RESERVE_MEM:
            text = f"node '{safe_text(node.name)}': expected compatible reserve-mem-v1 with start and size"
            walk.problem("bad-memblock", address, _SUBJECT, text)
            continue
        reservations.append(Reservation(name=decode_name(node.name), start=start, size=size))
    return Memblock(address=address, reservations=tuple(reservations))
