# SPDX-License-Identifier: MIT
"""Small records of development branches: DMA allocations, dmabuf files, tmpfs mounts.

Changes with it: the name that leads to each; most have no other version.
"""

from __future__ import annotations

from luoser.abi.schema import Schema, boolean, flex, handle, packed, phys, u16, u32, u64

__all__ = ["dma_alloc_ser", "dmabuf_ser", "tmpfs_mnt_ser"]

dma_alloc_ser = Schema(
    "dma_alloc_ser",
    "dma-alloc",
    packed(
        "iova" / handle(u64) * "DMA address",
        "nr_pages" / u64 * "pages",
        "is_folio" / boolean * "kind of allocation",
        "is_contiguous" / boolean * "1 if page_phys has only one entry",
        "page_phys" / flex(phys) * "addresses of the pages, at the unaligned offset 18",
    ),
    status="development-branch",
    seen_in="development branch",
    meaning="A preserved DMA allocation.",
)
dmabuf_ser = Schema(
    "dmabuf_ser",
    "dmabuf-v1",
    packed("domain" / u32 * "PCI domain", "bdf" / u16 * "bus, device and function"),
    status="development-branch",
    seen_in="development branch",
    meaning="The PCI device of a preserved dmabuf.",
)
tmpfs_mnt_ser = Schema(
    "tmpfs_mnt_ser",
    "tmpfs-mnt-v1",
    packed("max_blocks" / u64 * "size limit", "mode" / u32 * "mode of the root directory", "flags" / u32 * "flags"),
    status="development-branch",
    seen_in="development branch",
    meaning="A preserved tmpfs mount.",
)
