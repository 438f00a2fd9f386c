# SPDX-License-Identifier: MIT
"""Sub-tree memblock: the devicetree memblock-v1 with a node for each reserve_mem region.

Changes with it: memblock-v1 of the root node, reserve-mem-v1 of each region.
"""

from __future__ import annotations

__all__ = ["ALIGNMENT", "COMPATIBLE", "LONGEST_LABEL", "MOST_RESERVATIONS", "RESERVE_MEM"]

COMPATIBLE, RESERVE_MEM = b"memblock-v1", b"reserve-mem-v1"
"""Compatible strings of the root node and of a region."""
MOST_RESERVATIONS, LONGEST_LABEL = 8, 15
"""Limits of a kernel: regions, and characters of a name (mm/memblock.c)."""
ALIGNMENT = 64
"""Least alignment of a region in bytes: SMP_CACHE_BYTES of x86-64 and arm64, whatever reserve_mem= says."""
