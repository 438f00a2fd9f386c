# SPDX-License-Identifier: MIT
"""KHO containers: records that lead to the root, strings of the root devicetree, scratch areas, devicetree headers.

Releases 6.16 to 7.3; the 48-byte kho_data is of the series of 2023 and 2024.

Changes with it: the root's string (root, map, kho_vmalloc, blocks). A kernel accepts only its own, so any change ends
live update between the two releases. Nothing versions setup_data, kho_data and kho_scratch: both kernels, and the x86
decompressor, have to change together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luoser.abi.schema import Schema, be32, be64, flex, in_bytes, natural, packed, phys, u8, u32, u64

__all__ = [
    "CHOSEN_FDT",
    "CHOSEN_SCRATCH",
    "COMPATIBLE_PREFIX",
    "EARLY_MEMORY",
    "FORMS",
    "MAP_PROPERTIES",
    "PAGE_STRUCT",
    "SCRATCH_UNIT",
    "SETUP_KEXEC_KHO",
    "SUBTREE_PROPERTIES",
    "SUBTREE_SIZE",
    "UNREAD_MAPS",
    "KhoForm",
    "fdt_header",
    "fdt_property_record",
    "fdt_reserve_entry",
    "kho_data",
    "kho_data_2023",
    "kho_mem",
    "kho_page_info",
    "kho_scratch",
    "memmap_of",
    "root_form",
    "setup_data",
]

COMPATIBLE_PREFIX = b"kho-v"
UNREAD_MAPS = {"preserved-order-table": "preserved-order-table, of RFCs of August and September 2025"}
"""Root properties for kho-v1 maps that luoser does not decode: name of the form by property."""
MAP_PROPERTIES = ("preserved-memory-map", "preserved-page-radix-tree")
"""Properties of the root for the physical address of the map; the second is of the October 2025 posting."""
SUBTREE_PROPERTIES = ("fdt", "preserved-data")
"""Properties of a sub-node for the physical address of its blob: v1 and early v2, then v2 of mainline to v4."""
SUBTREE_SIZE = "blob-size"
SETUP_KEXEC_KHO = 10
SCRATCH_UNIT = {4096: 4 << 20, 16384: 32 << 20, 65536: 512 << 20}
"""Bytes of the largest block of the buddy allocator by page size: alignment of scratch areas from 7.2 on."""
PAGE_STRUCT = 64
"""Bytes of a struct page. Source: include/linux/mm_types.h."""
EARLY_MEMORY = 4 << 20
"""Bytes of page tables, per-CPU areas and hash tables beside the memmap. Booted: 1 GiB with 16 MiB panics."""
CHOSEN_FDT = "linux,kho-fdt"
CHOSEN_SCRATCH = ("linux,kho-scratch", "linux,kho-bootmem")
"""Names of the property with the array of scratch areas; scratch is to be called bootmem from 7.4 on."""

_MERGED = {"status": "merged"}

setup_data = Schema(
    "setup_data",
    "x86-boot-setup-data",
    natural(
        "next" / phys * "next node of the boot protocol's list, 0 ends it",
        "type" / u32 * "10 (SETUP_KEXEC_KHO) for KHO; bit 31 marks an indirect entry",
        "len" / in_bytes(u32) * "bytes of data: 32 for KHO, 48 in the series of 2023",
        "data" / flex(u8) * "for KHO a struct kho_data",
    ),
    **_MERGED,
    seen_in="x86 boot protocol, 6.16..7.3",
    meaning="Node of the list whose head is boot_params.hdr.setup_data (offset 0x250).",
)
kho_data = Schema(
    "kho_data",
    "x86 SETUP_KEXEC_KHO=10",
    packed(
        "fdt_addr" / phys * "KHO root FDT page",
        "fdt_size" / in_bytes(u64) * "always one page, not the FDT's totalsize",
        "scratch_addr" / phys * "array of kho_scratch",
        "scratch_size" / in_bytes(u64) * "bytes of that array, 16 per area",
    ),
    **_MERGED,
    seen_in="6.16..7.3",
    meaning="Addresses of the handover for the next x86 kernel.",
)
kho_scratch = Schema(
    "kho_scratch",
    "kho-v1..kho-v4",
    natural(
        "addr" / phys * "start of a scratch area", "size" / in_bytes(u64) * "bytes, 0 for a NUMA node without memory"
    ),
    **_MERGED,
    seen_in="6.16..7.3",
    meaning="One area that the next kernel allocates from early in boot: low memory, global, then one per NUMA node.",
)
kho_data_2023 = Schema(
    "kho_data",
    "x86 SETUP_KEXEC_KHO=10, 2023-2024 series",
    packed(
        "dt_addr" / phys * "KHO devicetree",
        "dt_size" / in_bytes(u64) * "its bytes",
        "scratch_addr" / phys * "one scratch area, not an array",
        "scratch_size" / in_bytes(u64) * "its bytes",
        "mem_cache_addr" / phys * "array of kho_mem",
        "mem_cache_size" / in_bytes(u64) * "bytes of that array",
    ),
    status="posted",
    seen_in="KHO series of Dec 2023/Jan 2024 (A. Graf)",
    meaning="The longer record of the first KHO series, recognised by setup_data.len 48.",
)
kho_mem = Schema(
    "kho_mem",
    "KHO 2023-early 2025 series",
    natural("addr" / phys * "start of a range", "len" / in_bytes(u64) * "bytes (size in the revision of early 2025)"),
    status="posted",
    seen_in="KHO series 2023..early 2025",
    meaning="One range of the memory cache, which preceded the map.",
)
fdt_header = Schema(
    "fdt_header",
    "devicetree v17",
    natural(
        "magic" / be32 * "0xd00dfeed",
        "totalsize" / be32 * "bytes of the whole blob",
        "off_dt_struct" / be32 * "structure block",
        "off_dt_strings" / be32 * "strings block",
        "off_mem_rsvmap" / be32 * "reserve map: 48 as written in sequence, 40 after a repack",
        "version" / be32 * "17",
        "last_comp_version" / be32 * "16",
        "boot_cpuid_phys" / be32 * "0",
        "size_dt_strings" / be32 * "bytes of the strings block",
        "size_dt_struct" / be32 * "bytes of the structure block",
    ),
    **_MERGED,
    seen_in="all FDT forms",
    meaning="Head of a flattened devicetree.",
)
fdt_reserve_entry = Schema(
    "fdt_reserve_entry",
    "devicetree v17",
    natural("address" / be64 * "0 in KHO trees", "size" / be64 * "0 in KHO trees"),
    **_MERGED,
    seen_in="all FDT forms",
    meaning="Entry of the reserve map; KHO trees have the terminator only.",
)
fdt_property_record = Schema(
    "fdt_property_record",
    "devicetree v17",
    natural(
        "tag" / be32 * "3",
        "len" / be32 * "bytes of the value",
        "nameoff" / be32 * "offset of the name in the strings block",
        "data" / flex(u8) * "value, padded to 4 bytes; a u64 in it may be misaligned",
    ),
    **_MERGED,
    seen_in="all FDT forms",
    meaning="A property in the structure block.",
)
kho_page_info = Schema(
    "kho_page_info",
    "page->private, transient, not handed over",
    natural("order" / u32 * "order of the restored range", "magic" / u32 * "0x4b484f50; absent in 6.16"),
    **_MERGED,
    seen_in="6.18..7.3",
    meaning="Value of page->private in the next kernel until the owner restores the range.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KhoForm:
    """One version of the root.

    name:             compatible string.
    map:              form of the preserved map.
    subtree_property: property for the address of a sub-tree.
    has_blob_size:    whether a sub-tree has the property blob-size.
    has_map_at_boot:  whether the map exists from boot on; else its address is 0 until KHO is finalised.
    orders:           a block has an order below this, because kernels shift its size in 32 bits. None: no limit.
    """

    name: str
    map: Literal["chunks", "radix"]
    subtree_property: str
    has_blob_size: bool = True
    has_map_at_boot: bool = True
    orders: int | None = None


FORMS: tuple[KhoForm, ...] = (
    KhoForm(name="kho-v1", map="chunks", subtree_property="fdt", has_blob_size=False, has_map_at_boot=False, orders=19),
    KhoForm(name="kho-v2", map="radix", subtree_property="preserved-data", has_blob_size=False),
    KhoForm(name="kho-v3", map="radix", subtree_property="preserved-data", orders=19),
    KhoForm(name="kho-v4", map="radix", subtree_property="preserved-data"),
)
"""All versions, oldest first. `luoser.abi.release` has the versions by kernel release."""


def root_form(compatible: str) -> KhoForm | None:
    """The version of a root by its compatible string. The part after a `;` is ignored. None: not a known version."""
    name = compatible.split(";")[0]
    return next((entry for entry in FORMS if entry.name == name), None)


def memmap_of(scratch: int, page_size: int) -> int:
    """Bytes of RAM whose memmap some scratch holds at most, beside what else is allocated early. scratch: bytes."""
    return max(0, scratch - EARLY_MEMORY) // PAGE_STRUCT * page_size
