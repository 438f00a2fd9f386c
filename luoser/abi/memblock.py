# SPDX-License-Identifier: MIT
"""Sub-tree memblock: the devicetree memblock-v1 with a node for each reserve_mem area."""

from __future__ import annotations

__all__ = ["COMPATIBLE", "LONGEST_LABEL", "MOST_RESERVATIONS", "RESERVE_MEM"]

COMPATIBLE, RESERVE_MEM = b"memblock-v1", b"reserve-mem-v1"
"""Strings of the tree and of its nodes."""
MOST_RESERVATIONS, LONGEST_LABEL = 8, 15
"""Areas, and characters of a name, that a kernel takes (mm/memblock.c)."""
