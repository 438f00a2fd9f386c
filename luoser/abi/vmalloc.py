# SPDX-License-Identifier: MIT
"""kho_vmalloc: a vmalloc area as a chain of pages of physical addresses (6.18 to 7.3).

Changes with it: the root's string, and all records that embed the descriptor: memfd, kho_test, and the posted ones of
hugetlb, guest and others.
"""

from __future__ import annotations

from luoser.abi.schema import Schema, array, natural, phys, u16, u32

__all__ = [
    "KNOWN_FLAGS",
    "MAX_ORDER",
    "VM_ALLOC",
    "chunk_capacity",
    "kho_vmalloc",
    "kho_vmalloc_chunk",
    "kho_vmalloc_hdr",
]

_SEEN = "6.18..7.3"
VM_ALLOC = 1
"""Flag of all areas that kernels preserve today."""
KNOWN_FLAGS = VM_ALLOC | 2
"""2: huge mappings allowed. Preserving refuses any other flag, restoring ignores it."""
MAX_ORDER = 20
"""Largest order of a block that luoser writes: 4 GiB with 4 KiB pages."""

kho_vmalloc_hdr = Schema(
    "kho_vmalloc_hdr",
    "kho_vmalloc",
    natural("next" / phys * "next chunk, 0 ends the chain"),
    status="merged",
    seen_in=_SEEN,
    meaning="Link of a chunk.",
)
kho_vmalloc_chunk = Schema(
    "kho_vmalloc_chunk",
    "kho_vmalloc",
    natural("hdr" / kho_vmalloc_hdr * "link", "phys" / array(511, phys) * "blocks of 2^order pages, 0 ends the list"),
    status="merged",
    seen_in=_SEEN,
    meaning="A page with addresses of the area's blocks; the last one may be empty.",
)
kho_vmalloc = Schema(
    "kho_vmalloc",
    "kho_vmalloc",
    natural(
        "first" / phys * "first chunk, 0 for an empty area",
        "total_pages" / u32 * "pages in the area",
        "flags" / u16 * "1 VM_ALLOC, 2 huge mappings allowed",
        "order" / u16 * "order of each block",
    ),
    status="merged",
    seen_in=_SEEN,
    meaning="Descriptor of a preserved vmalloc area, embedded in other records.",
)


def chunk_capacity(page_size: int) -> int:
    """Number of block addresses in a full chunk: 511 with 4 KiB pages. page_size: bytes."""
    return page_size // 8 - 1
