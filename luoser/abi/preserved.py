# SPDX-License-Identifier: MIT
"""The preserved-memory map: chunks of bitmaps (kho-v1) and the radix tree (kho-v2 to kho-v4).

Geometry follows from the page size; the schemas are those of 4 KiB pages.

Changes with it: the root's string. (6.17.9 changed the width of the bitmaps and kept the string.)
"""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.schema import Schema, array, natural, phys, raw, u32

__all__ = [
    "KHO_ARRAY_MAGIC",
    "MAX_PAGE_ORDER",
    "SMALL_BITMAP",
    "RadixGeometry",
    "chunk_capacity",
    "kho_mem_phys_bits_512",
    "kho_mem_phys_bits_page",
    "kho_radix_leaf",
    "kho_radix_node",
    "khoser_mem_bitmap_ptr",
    "khoser_mem_chunk",
    "khoser_mem_chunk_hdr",
]

KHO_ARRAY_MAGIC = b"RRAK"
"""First bytes of the kho-v1 map of an RFC of September 2025, which luoser does not decode."""
MAX_PAGE_ORDER = 10
"""Order of the largest block of the page allocator, if the configuration has not another one."""
SMALL_BITMAP = 512
"""Bytes of a kho-v1 bitmap up to 6.17.8, with any page size; later bitmaps fill a page."""

khoser_mem_bitmap_ptr = Schema(
    "khoser_mem_bitmap_ptr",
    "kho-v1",
    natural("phys_start" / phys * "physical address of bit 0", "bitmap" / phys * "a kho_mem_phys_bits"),
    status="merged",
    seen_in="6.16..7.0",
    meaning="One bitmap of a chunk.",
)
khoser_mem_chunk_hdr = Schema(
    "khoser_mem_chunk_hdr",
    "kho-v1",
    natural(
        "next" / phys * "next chunk, 0 ends the chain",
        "order" / u32 * "order of every bit in this chunk",
        "num_elms" / u32 * "bitmaps in use, 1 to 255",
    ),
    status="merged",
    seen_in="6.16..7.0",
    meaning="Head of a page of the bitmap map.",
)
khoser_mem_chunk = Schema(
    "khoser_mem_chunk",
    "kho-v1",
    natural(
        "hdr" / khoser_mem_chunk_hdr * "head",
        "bitmaps" / array(255, khoser_mem_bitmap_ptr) * "the first num_elms are in use",
    ),
    status="merged",
    seen_in="6.16..7.0",
    meaning="A page of the bitmap map; the root of the map is the first one of the chain.",
)
kho_mem_phys_bits_512 = Schema(
    "kho_mem_phys_bits",
    "kho-v1 (512-byte bitmap)",
    natural("preserve" / raw(512) * "4096 bits, least significant first"),
    status="merged",
    seen_in="6.16.y, 6.17.0..6.17.8",
    meaning="One bit per block of 2^order pages, 1 if preserved; spans 16 MiB << order.",
)
kho_mem_phys_bits_page = Schema(
    "kho_mem_phys_bits",
    "kho-v1 (page bitmap)",
    natural("preserve" / raw(4096) * "32768 bits, least significant first"),
    status="merged",
    seen_in="6.17.9+, 6.18..7.0",
    meaning="One bit per block of 2^order pages, 1 if preserved; spans 128 MiB << order.",
)
kho_radix_node = Schema(
    "kho_radix_node",
    "kho-v2..kho-v4 (4 KiB pages)",
    natural("table" / array(512, phys) * "addresses of the children one level down, 0 for no child"),
    status="merged",
    seen_in="7.1..7.3",
    meaning="Inner node of the radix tree; the root of the map is one.",
)
kho_radix_leaf = Schema(
    "kho_radix_leaf",
    "kho-v2..kho-v4 (4 KiB pages)",
    natural("bitmap" / raw(4096) * "32768 bits, least significant first"),
    status="merged",
    seen_in="7.1..7.3",
    meaning="Level 0 of the radix tree: one bit per key.",
)
for _bitmap in (kho_mem_phys_bits_512, kho_mem_phys_bits_page, kho_radix_leaf):
    _bitmap.struct.align = 8  # unsigned long[] in the kernel


def chunk_capacity(page_size: int) -> int:
    """Number of bitmaps in a full kho-v1 chunk: 255 with 4 KiB pages. page_size: bytes."""
    return (page_size - khoser_mem_chunk_hdr.size) // khoser_mem_bitmap_ptr.size


@dataclass(frozen=True, slots=True)
class RadixGeometry:
    """Shape of the radix tree for one page size.

    A key holds order and address: `1 << (order_bit - order) | address >> (page_shift + order)`. Other users of the same
    tree have page frame numbers as keys.

    page_shift: log2 of the page size.
    order_bit:  bit of the key that is set for order 0.
    table_bits: bits of the key per table level.
    leaf_bits:  log2 of the bits in a leaf.
    levels:     table levels above the leaf (5 with 4 KiB pages).
    frames:     whether keys are page frame numbers.

    Source: docs/abi/preserved.md.
    """

    page_shift: int
    order_bit: int
    table_bits: int
    leaf_bits: int
    levels: int
    frames: bool = False

    @classmethod
    def of(cls, page_size: int, *, frames: bool = False) -> RadixGeometry:
        """The shape for a page size in bytes. frames: whether keys are page frame numbers."""
        shift = page_size.bit_length() - 1
        width, table, leaf = 64 - shift + 1, shift - 3, shift + 3
        return cls(shift, 64 - shift, table, leaf, -(-(width - leaf) // table), frames)

    def key(self, address: int, order: int) -> int:
        """Key of the block of 2^order pages at a physical address. The order of a page frame number is 0."""
        if self.frames:
            return address >> self.page_shift
        return 1 << (self.order_bit - order) | address >> (self.page_shift + order)

    def decode(self, key: int) -> tuple[int, int]:
        """(physical address, order) of a non-zero key, or of any page frame number."""
        if self.frames:
            return key << self.page_shift, 0
        order = self.order_bit - (key.bit_length() - 1)
        return (key << (self.page_shift + order)) & ((1 << 64) - 1), order

    def can_lead_to(self, prefix: int) -> bool:
        """Whether a leaf can be for pages of the page allocator: of at most MAX_PAGE_ORDER, below 2^52.

        No leaf can be in both forms of keys: an order up to MAX_PAGE_ORDER is a higher bit than any frame number has.

        prefix: of the keys of the leaf.
        """
        if not prefix and not self.frames:
            return False
        address, order = self.decode(prefix << self.leaf_bits)
        return 0 <= order <= MAX_PAGE_ORDER and address < 1 << 52
