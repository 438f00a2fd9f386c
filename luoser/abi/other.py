# SPDX-License-Identifier: MIT
"""Small records of postings and branches: hardware poison, pstore, eventfd, tmpfs, DMA allocations, CPUs.

The names of structs that were only described are ours; those of hardware poison and pstore are of their postings.

Changes with it: the name that leads to each; most have no other version.
"""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.schema import (
    Schema,
    boolean,
    char,
    flags,
    flex,
    handle,
    in_bytes,
    natural,
    packed,
    phys,
    s32,
    s64,
    token,
    u8,
    u16,
    u32,
    u64,
)
from luoser.abi.vmalloc import kho_vmalloc

__all__ = [
    "EVENTFD_FLAGS",
    "POISONED",
    "POISONED_TREE",
    "RECORD_VERSION",
    "TREES",
    "TreeForm",
    "cpu_fh_ser",
    "cpu_flb_ser",
    "dma_alloc_ser",
    "dma_alloc_ser_newer",
    "dmabuf_ser",
    "eventfd_ser",
    "kho_hwpoison_metadata",
    "pstore_kho_record",
    "pstore_ser",
    "tmpfs_file_ser",
    "tmpfs_mnt_ser",
]

RECORD_VERSION = 1
"""Value of the member version of kho_hwpoison_metadata and pstore_ser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeForm:
    """A devicetree of a sub-tree that has addresses.

    subtree:    name of the sub-tree.
    compatible: of its root.
    pages:      properties with the address of preserved memory, u64 each; the first is needed.
    counted:    property with the number of u64 at the last of these addresses, a u32. Empty: none.
    below:      whether the properties are those of nodes below the root.
    page_tree:  which of these addresses is that of a radix tree of pages. Empty: none.
    answer:     what the next kernel does without the needed one.

    Source: docs/abi/others.md.
    """

    subtree: str
    compatible: str
    pages: tuple[str, ...]
    counted: str = ""
    below: bool = False
    page_tree: str = ""
    answer: str


TREES: tuple[TreeForm, ...] = (
    TreeForm(
        subtree="mshv_prsv_pt", compatible="mshv_kho-v1", pages=("root_table", "partition_ids"),
        counted="nr_partition_ids", page_tree="root_table",
        answer="the next kernel panics: it cannot know the pages of the hypervisor",
    ),
    TreeForm(
        subtree="pstore-kho", compatible="pstore-kho-v1", pages=("pstore_kho_record",),
        answer="the record is lost",
    ),
    TreeForm(
        subtree="pcsc", compatible="pcsc-v1", pages=("da",), below=True, answer="the device is not restored",
    ),
)  # fmt: skip
"""Devicetrees with addresses whose meaning is known."""
POISONED, POISONED_TREE = "hwpoison", "hwpoison-v1"
"""Sub-tree with the list of pages with errors; compatible of its devicetree in the earlier form."""
EVENTFD_FLAGS = {1: "EFD_SEMAPHORE", 0x800: "EFD_NONBLOCK", 0x80000: "EFD_CLOEXEC"}
"""Source: include/uapi/linux/eventfd.h."""

_PSTORE = "pstore over KHO, 2026 (a485b526b2c0)"
_BRANCH, _BRANCH_SEEN = "development-branch", "development branch, 2026"

kho_hwpoison_metadata = Schema(
    "kho_hwpoison_metadata",
    "hwpoison",
    packed(
        "version" / u32 * "1",
        "_pad" / u32 * "0",
        "count" / u64 * "entries of the array",
        "pfns" / kho_vmalloc * "vmalloc area that holds the page frame numbers, u64 each",
    ),
    status="posted",
    seen_in="hwpoison over KHO v5, 15 Sep 2026",
    meaning="The pages with memory errors.",
)
pstore_kho_record = Schema(
    "pstore_kho_record",
    "pstore-kho",
    natural(
        "size" / s64 * "bytes of buf",
        "time_sec" / s64 * "time of the record, seconds",
        "time_nsec" / u32 * "and nanoseconds",
        "count" / s32 * "number of the record",
        "reason" / u32 * "reason of the dump (enum kmsg_dump_reason)",
        "part" / u32 * "part of the record",
        "compressed" / u32 * "1 if the record is compressed",
        "buf" / flex(u8) * "the record; it begins in the padding of the struct",
    ),
    status="posted",
    seen_in=_PSTORE,
    meaning="A pstore record.",
)
pstore_ser = Schema(
    "pstore_ser",
    "pstore-kho",
    natural("version" / u32 * "1", "record" / pstore_kho_record * "the record; size 0: none yet"),
    status="posted",
    seen_in=_PSTORE,
    meaning="The blob of pstore: one record, in 48 bytes and as many as a record can have.",
)
eventfd_ser = Schema(
    "eventfd_ser",
    "eventfd-v1",
    packed("count" / u64 * "value of the counter", "flags" / flags(u32, EVENTFD_FLAGS) * "flags of its creation"),
    status=_BRANCH,
    seen_in="development branch, 2026 (4db72369)",
    meaning="A preserved eventfd.",
)
tmpfs_file_ser = Schema(
    "tmpfs_file_ser",
    "tmpfs-file-v1",
    packed(
        "mnt_token" / token(u64) * "LUO token of the mount in the same session",
        "pos" / in_bytes(u64) * "file position",
        "size" / in_bytes(u64) * "file size",
        "mode" / u32 * "mode",
        "flags" / u32 * "flags",
        "nr_folios" / u64 * "entries of the folio array",
        "folios" / kho_vmalloc * "vmalloc area that holds the folio array",
        "name" / char(256) * "name in the mount",
    ),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="A preserved file of a tmpfs mount.",
)
cpu_flb_ser = Schema(
    "cpu_flb_ser",
    "cpu_flb_v1",
    packed(
        "text_pa" / phys * "code of the caretaker",
        "text_size" / in_bytes(u64) * "its size",
        "data_pa" / phys * "data of the caretaker",
        "data_size" / in_bytes(u64) * "its size",
        "cpus" / u64 * "CPUs",
        "arch_mode" / u64 * "mode of the machine",
    ),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="What all preserved CPUs share; newest of several layouts under this name.",
)
cpu_fh_ser = Schema(
    "cpu_fh_ser",
    "cpu_fh_v1",
    packed(
        "cpu" / u32 * "number of the CPU",
        "state" / u32 * "state",
        "stack_pa" / phys * "its stack",
        "session" / u64 * "session",
        "hwid" / u64 * "APIC ID or MPIDR",
        "next" / phys * "next CPU",
    ),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="A preserved CPU; newest of several layouts under this name.",
)
dma_alloc_ser_newer = Schema(
    "dma_alloc_ser",
    "dma-alloc, newer",
    natural(
        "page_phys" / phys * "first page",
        "size" / in_bytes(u64) * "bytes",
        "attrs" / u64 * "DMA attributes",
        "force_decrypted" / u8 * "1 if the memory is decrypted",
    ),
    status=_BRANCH,
    seen_in="development branch, 2026 (6ab4ff2b)",
    meaning="A preserved DMA allocation, in one piece.",
)

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
