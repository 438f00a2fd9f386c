# SPDX-License-Identifier: MIT
"""kho_vmalloc: a vmalloc area as a chain of pages full of physical addresses (6.18 to 7.3)."""

from __future__ import annotations

from luoser.abi.schema import Schema, array, natural, phys, u16, u32

__all__ = ["KNOWN_FLAGS", "VM_ALLOC", "chunk_capacity", "kho_vmalloc", "kho_vmalloc_chunk", "kho_vmalloc_hdr"]

_SEEN = "6.18..7.3"
VM_ALLOC = 1
"""The flag of an area, for all that kernels preserve so."""
KNOWN_FLAGS = VM_ALLOC | 2
"""2: huge mappings allowed. A kernel refuses an area with any other flag."""

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
    natural("hdr" / kho_vmalloc_hdr.con * "link", "phys" / array(511, phys) * "blocks of 2^order pages, 0 ends them"),
    status="merged",
    seen_in=_SEEN,
    meaning="A page that names blocks of the area; the last may be empty.",
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
    """Addresses in one chunk page: 511 with 4 KiB pages."""
    return page_size // 8 - 1
