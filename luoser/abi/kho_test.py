# SPDX-License-Identifier: MIT
"""Sub-tree of the KHO self-test (lib/test_kho.c): the devicetree kho-test-v1.

Changes with it: the string kho-test-v1. (The change in 6.18 kept it.)
"""

from __future__ import annotations

__all__ = ["COMPATIBLE", "MAGIC"]

COMPATIBLE = b"kho-test-v1"
MAGIC = 0x4B484F21
""""KHO!" as a number."""
