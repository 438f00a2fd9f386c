# SPDX-License-Identifier: MIT
"""KHO serialization blocks: a chain of pages, each a header and fixed-size entries (7.2 and later)."""

from __future__ import annotations

from luoser.abi.schema import Schema, packed, phys, u64

__all__ = ["capacity", "kho_block_header_ser"]

kho_block_header_ser = Schema(
    "kho_block_header_ser",
    "kho-v4 block",
    packed(
        "next" / phys * "next block, 0 ends the chain",
        "count" / u64 * "entries in this block, never 0 once handed over",
    ),
    status="merged",
    seen_in="7.2..7.3",
    meaning="Head of one page of a growable array.",
)


def capacity(page_size: int, entry_size: int) -> int:
    """Entries of one block page: 51 sessions, 63 files, 510 PCI devices with 4 KiB pages."""
    return (page_size - kho_block_header_ser.size) // entry_size
