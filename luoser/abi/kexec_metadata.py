# SPDX-License-Identifier: MIT
"""Sub-tree kexec-metadata (7.1 and later).

Changes with it: its own member version, 1. The string of the root does not cover it.
"""

from __future__ import annotations

from luoser.abi.schema import Schema, char, packed, u32

__all__ = ["kho_kexec_metadata"]

kho_kexec_metadata = Schema(
    "kho_kexec_metadata",
    "kexec-metadata version 1",
    packed(
        "version" / u32 * "1",
        "previous_release" / char(65) * "release of the kernel that wrote it",
        "kexec_count" / u32 * "number of KHO kexecs, including the coming one; unaligned",
    ),
    status="merged",
    seen_in="7.1..7.3",
    meaning="Sub-tree kexec-metadata.",
)
