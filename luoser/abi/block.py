# SPDX-License-Identifier: MIT
"""KHO serialization blocks: a chain of pages, each a header and entries of one size (7.2 and later).

Changes with it: kho-v4, luo-v5, and the version of the PCI list. Nothing records the size of an entry.
"""

from __future__ import annotations

from luoser.abi.schema import Schema, packed, phys, u64

__all__ = ["capacity", "kho_block_header_ser"]

kho_block_header_ser = Schema(
    "kho_block_header_ser",
    "kho-v4 block",
    packed(
        "next" / phys * "next block, 0 ends the chain",
        "count" / u64 * "entries in this block; 0 is illegal once handed over",
    ),
    status="merged",
    seen_in="7.2..7.3",
    meaning="Head of one page of a growable array.",
)


def capacity(page_size: int, entry_size: int) -> int:
    """Number of entries that fit one block: with 4 KiB pages 51 sessions, 63 files or 510 PCI devices.

    page_size:  bytes.
    entry_size: bytes.

    Source: docs/abi/block.md.
    """
    return (page_size - kho_block_header_ser.size) // entry_size
