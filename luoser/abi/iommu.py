# SPDX-License-Identifier: MIT
"""IOMMU state and iommufd: five posted forms, each with a suffix; not merged up to 7.3.

a0: iommu-v1 of a development branch. a: iommu-v1 of February 2026. b: iommu-liveupdate-v1 of April 2026,
objects with a 5-byte header. c: the same string with an 8-byte header. d: iommu-liveupdate with a version
field; d_core are its structs without vendor data, d_later those of the newest branches.
Objects are in pages that iommu_array_hdr_ser links. An address of an object is its own, within a page.

Changes with it: the FLB's name; from form d on its version. (Form c did not change the name.)
"""

from __future__ import annotations

from luoser.abi.schema import Schema, array, bits, flex, handle, natural, packed, phys, raw, token, u8, u32, u64

__all__ = [
    "FLB_VERSION",
    "IOMMU_TYPES",
    "OBJECT_FLAGS",
    "array_capacity",
    "device_domain_iommu_ser_a",
    "device_domain_iommu_ser_a0",
    "device_ser_a",
    "device_ser_a0",
    "iommu_array_hdr_ser",
    "iommu_dev_map_ser",
    "iommu_device_intel_ser_c",
    "iommu_device_intel_ser_d_later",
    "iommu_device_ser_b",
    "iommu_device_ser_c",
    "iommu_device_ser_d_core",
    "iommu_device_ser_d_later",
    "iommu_domain_ser_a",
    "iommu_domain_ser_a0",
    "iommu_domain_ser_b",
    "iommu_domain_ser_cd",
    "iommu_domain_ser_d_later",
    "iommu_flb_ser_bc",
    "iommu_flb_ser_d",
    "iommu_hdr_ser_b",
    "iommu_hdr_ser_cd",
    "iommu_hw_ser_b",
    "iommu_hw_ser_cd",
    "iommu_hw_ser_d_core",
    "iommu_intel_ser",
    "iommu_lu_flb_ser_a",
    "iommu_master_smmuv3_ser",
    "iommu_obj_ser_a",
    "iommu_ser_a",
    "iommu_ser_a0",
    "iommu_smmuv3_hw_ser",
    "iommufd_hwpt_ser",
    "iommufd_ser",
]

FLB_VERSION = 1
"""Value of the member version in form d."""
IOMMU_TYPES = {0: "invalid", 1: "Intel", 2: "Arm SMMUv3"}
OBJECT_FLAGS = {1: "DELETED", 2: "INCOMING"}
"""Header flags of forms c and d. Older forms have the same two bits as bit-fields."""

_SEEN_A0 = "development branch before Feb 2026 posting"
_SEEN_A = "IOMMU live update, early 2026 posting"
_SEEN = "IOMMU live update series"
_SEEN_D = "IOMMU live update series, mid 2026"
_SEEN_BRANCH = "development branch, 2026"
_A0 = "iommu-v1 (earlier development form)"
_A = "iommu-v1"
_B = "iommu-liveupdate-v1 (bitfield header)"
_C_VTD = "iommu-liveupdate-v1 (flags header)"
_D_CORE = "iommu-liveupdate version 1, core patch only"

_REF_COUNT = "ref_count" / u32 * "users"
_OBJECT_BITS = "_bits" / bits(1, deleted=1, incoming=1) * "deleted: skip the object; incoming: from the previous kernel"
_TOP_LEVEL = "top_level" / u64 * "level of the top page table"
_VASZ = "vasz" / u32 * "address width"
_RESTORED = "restored_domain" / handle(u64) * "pointer of the kernel that restores, meaningless in an image"
_TOKEN = "token" / token(u64) * "identifies the IOMMU"
_TYPE = "type" / u64 * "0 invalid, 1 Intel, 2 Arm SMMUv3"
_TYPE_A = "type" / u32 * "0 invalid, 1 Intel"
_DEVID = "devid" / u32 * "bus, device and function"
_SEGMENT = "pci_domain_nr" / u32 * "PCI segment"
_SEGMENT_A = "pci_domain" / u32 * "PCI segment"


def array_capacity(page_size: int, object_size: int) -> int:
    """Number of objects that fit one array page.

    page_size:   bytes.
    object_size: bytes.

    Source: docs/abi/iommu.md.
    """
    return (page_size - iommu_array_hdr_ser.size) // object_size


iommu_array_hdr_ser = Schema(
    "iommu_array_hdr_ser",
    "iommu-liveupdate*",
    packed(
        "next_array_phys" / phys * "next page of the array, 0 ends it (next_objs in form a)",
        "nr_objects" / u64 * "objects in this page, deleted ones too",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="Head of a page of objects, the same in all forms.",
)

# Forms a0 and a

iommu_lu_flb_ser_a = Schema(
    "iommu_lu_flb_ser",
    _A,
    packed(
        "iommus_phys" / phys * "first page of iommu_ser",
        "nr_iommus" / u64 * "IOMMUs in all pages",
        "iommu_domains_phys" / phys * "first page of iommu_domain_ser",
        "nr_domains" / u64 * "domains in all pages",
        "devices_phys" / phys * "first page of device_ser",
        "nr_devices" / u64 * "devices in all pages",
    ),
    status="posted",
    seen_in=_SEEN_A,
    meaning="Data of the FLB iommu-v1.",
)
iommu_obj_ser_a = Schema(
    "iommu_obj_ser",
    _A,
    packed("idx" / u32 * "index in the array", _REF_COUNT, _OBJECT_BITS),
    status="posted",
    seen_in=_SEEN_A,
    meaning="Head of every object, 9 bytes; members after it are unaligned.",
)
_OBJ = "obj" / iommu_obj_ser_a * "head"
_TOP_TABLE_A = "top_table" / phys * "top page table"

iommu_domain_ser_a = Schema(
    "iommu_domain_ser",
    _A,
    packed(_OBJ, _TOP_TABLE_A, _TOP_LEVEL, _RESTORED),
    status="posted",
    seen_in=_SEEN_A,
    meaning="One domain.",
)
iommu_domain_ser_a0 = Schema(
    "iommu_domain_ser",
    _A0,
    packed(_OBJ, _TOP_TABLE_A, _TOP_LEVEL, "attach_count" / u64 * "attached devices", _RESTORED),
    status="development-branch",
    seen_in=_SEEN_A0,
    meaning="One domain, with a count of its attachments.",
)
_MAP_A = (
    "did" / u32 * "domain id",
    "domain_phys" / phys * "the iommu_domain_ser object",
    "iommu_phys" / phys * "the iommu_ser object",
)
device_domain_iommu_ser_a = Schema(
    "device_domain_iommu_ser",
    _A,
    packed(*_MAP_A),
    status="posted",
    seen_in=_SEEN_A,
    meaning="Domain and IOMMU of a device.",
)
device_domain_iommu_ser_a0 = Schema(
    "device_domain_iommu_ser",
    _A0,
    natural(*_MAP_A),
    status="development-branch",
    seen_in=_SEEN_A0,
    meaning="Domain and IOMMU of a device; not packed yet.",
)


def _device_a(mapping: Schema) -> Schema:
    own = "token" / token(u64) * "LUO token of the device"
    member = "domain_iommu_ser" / mapping * "its domain and IOMMU"
    return Schema(
        "device_ser",
        mapping.label,
        packed(_OBJ, own, _DEVID, _SEGMENT_A, member, _TYPE_A),
        status=mapping.status,
        seen_in=mapping.seen_in,
        meaning="One device.",
    )


device_ser_a = _device_a(device_domain_iommu_ser_a)
device_ser_a0 = _device_a(device_domain_iommu_ser_a0)

_intel_a = packed("phys_addr" / phys * "register base", "root_table" / phys * "root table")
_intel_a.name = "(unnamed)"
_INTEL_A = "intel" / _intel_a * "state of an Intel IOMMU"

iommu_ser_a = Schema(
    "iommu_ser",
    _A,
    packed(_OBJ, _TOKEN, _TYPE_A, _INTEL_A),
    status="posted",
    seen_in=_SEEN_A,
    meaning="One IOMMU.",
)
iommu_ser_a0 = Schema(
    "iommu_ser",
    _A0,
    natural(_OBJ, _TOKEN, _TYPE_A, _INTEL_A),
    status="development-branch",
    seen_in=_SEEN_A0,
    meaning="One IOMMU; only its Intel part is packed.",
)

# Forms b, c and d: roots and headers

_ROOTS = (
    "iommu_array_phys" / phys * "first page of iommu_hw_ser",
    "iommu_domain_array_phys" / phys * "first page of iommu_domain_ser",
    "device_array_phys" / phys * "first page of iommu_device_ser",
)
iommu_flb_ser_bc = Schema(
    "iommu_flb_ser",
    "iommu-liveupdate-v1",
    packed(*_ROOTS),
    status="posted",
    seen_in=_SEEN,
    meaning="Data of the FLB iommu-liveupdate-v1.",
)
iommu_flb_ser_d = Schema(
    "iommu_flb_ser",
    "iommu-liveupdate version 1",
    packed("version" / u64 * "1", *_ROOTS),
    status="posted",
    seen_in=_SEEN_D,
    meaning="Data of the FLB iommu-liveupdate.",
)
iommu_hdr_ser_b = Schema(
    "iommu_hdr_ser",
    _B,
    packed(_REF_COUNT, _OBJECT_BITS),
    status="posted",
    seen_in=_SEEN,
    meaning="Head of every object, 5 bytes; members after it are unaligned.",
)
iommu_hdr_ser_cd = Schema(
    "iommu_hdr_ser",
    "iommu-liveupdate-v1 (flags header), iommu-liveupdate version 1",
    packed(
        "ref_count" / u32 * "users, 0 for an unused object",
        "flags" / u32 * "1 deleted (skip it), 2 incoming (from the previous kernel)",
    ),
    status="posted",
    seen_in=_SEEN_D,
    meaning="Head of every object.",
)
_HDR_B = "hdr" / iommu_hdr_ser_b * "head"
_HDR = "hdr" / iommu_hdr_ser_cd * "head"

# Domains

_TOP_TABLE = "top_table_phys" / phys * "top page table"
_SIGN_EXTEND = "_bits" / bits(1, sign_extend=1) * "whether addresses are sign-extended; the container has one byte"

iommu_domain_ser_b = Schema(
    "iommu_domain_ser",
    _B,
    packed(_HDR_B, _TOP_TABLE, _TOP_LEVEL, _VASZ, _SIGN_EXTEND, _RESTORED),
    status="posted",
    seen_in=_SEEN,
    meaning="One domain.",
)
iommu_domain_ser_cd = Schema(
    "iommu_domain_ser",
    "iommu-liveupdate-v1 (flags header) and version 1, earlier (1-bit sign_extend)",
    packed(_HDR, _TOP_TABLE, _TOP_LEVEL, _VASZ, _SIGN_EXTEND, _RESTORED),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One domain; its last member is at 29.",
)
iommu_domain_ser_d_later = Schema(
    "iommu_domain_ser",
    "iommu-liveupdate version 1, later (u8 sign_extend)",
    packed(
        _HDR,
        _TOP_TABLE,
        _TOP_LEVEL,
        _VASZ,
        "sign_extend" / u8 * "1 if addresses are sign-extended",
        "padding" / raw(3) * "0",
        _RESTORED,
    ),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One domain, aligned.",
)

# Devices

iommu_dev_map_ser = Schema(
    "iommu_dev_map_ser",
    "iommu-liveupdate*",
    packed(
        "attachment_id" / handle(u64) * "domain id of the attachment",
        "domain_phys" / phys * "the iommu_domain_ser object",
        "iommu_phys" / phys * "the iommu_hw_ser object",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="Domain and IOMMU of a device.",
)
_MAP = "domain_iommu_ser" / iommu_dev_map_ser * "its domain and IOMMU"
_PASID = ("pasid_table" / phys * "PASID table", "max_pasid" / u64 * "limit of PASIDs")

iommu_device_intel_ser_c = Schema(
    "iommu_device_intel_ser",
    _C_VTD,
    packed(*_PASID),
    status="posted",
    seen_in=_SEEN_D,
    meaning="VT-d state of a device.",
)
iommu_device_intel_ser_d_later = Schema(
    "iommu_device_intel_ser",
    "iommu-liveupdate version 1, later",
    packed("restored" / u8 * "0 or 1", "padding" / raw(7) * "0", *_PASID),
    status="development-branch",
    seen_in=_SEEN_BRANCH,
    meaning="VT-d state of a device.",
)
iommu_master_smmuv3_ser = Schema(
    "iommu_master_smmuv3_ser",
    "iommu-liveupdate version 1, SMMUv3",
    packed(
        "l1_cdtab_lu_state" / u64 * "token of the context descriptor table",
        "num_l2_cdtables" / u32 * "second-level tables",
        "padding" / u32 * "0",
        "l2_cdtab_lu_states_phys" / phys * "a u64 for each second-level table, 0 if linear",
    ),
    status="development-branch",
    seen_in=_SEEN_BRANCH,
    meaning="SMMUv3 state of a device.",
)
iommu_device_ser_b = Schema(
    "iommu_device_ser",
    _B,
    packed(_HDR_B, _DEVID, _SEGMENT, _MAP),
    status="posted",
    seen_in=_SEEN,
    meaning="One device.",
)
iommu_device_ser_c = Schema(
    "iommu_device_ser",
    "iommu-liveupdate-v1 (flags header), with VT-d patch",
    packed(_HDR, _DEVID, _SEGMENT, _MAP, "intel" / iommu_device_intel_ser_c * "VT-d state"),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One device.",
)
iommu_device_ser_d_core = Schema(
    "iommu_device_ser",
    _D_CORE,
    packed(_HDR, _DEVID, _SEGMENT, _MAP),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One device.",
)
iommu_device_ser_d_later = Schema(
    "iommu_device_ser",
    "iommu-liveupdate version 1 with dma_owner_token and SMMUv3 union",
    packed(
        _HDR,
        _DEVID,
        _SEGMENT,
        "dma_owner_token" / token(u64) * "LUO token of the iommufd or vfio file that owns its DMA",
        _MAP,
        "intel_or_smmuv3" / raw(24) * "an iommu_device_intel_ser or an iommu_master_smmuv3_ser",
    ),
    status="development-branch",
    seen_in=_SEEN_BRANCH,
    meaning="One device with its owner.",
)

# IOMMUs

iommu_intel_ser = Schema(
    "iommu_intel_ser",
    "iommu-liveupdate-v1 (flags header), version 1",
    natural(
        "restored" / u8 * "0 or 1",
        "padding" / raw(7) * "0",
        "phys_addr" / phys * "register base",
        "root_table" / phys * "root table",
        "context_tables_bitmap" / array(8, u64) * "bitmap of the preserved ones of 512 context tables",
    ),
    status="posted",
    seen_in=_SEEN_D,
    meaning="State of an Intel IOMMU.",
)
iommu_smmuv3_hw_ser = Schema(
    "iommu_smmuv3_hw_ser",
    "iommu-liveupdate version 1, SMMUv3",
    packed(
        "phys_addr" / phys * "register base",
        "strtab_base_cfg" / u64 * "value of the register",
        "l1_strtab_lu_state" / u64 * "token of the stream table",
        "l2_strtab_lu_states_phys" / phys * "a u64 for each second-level table, 0 if linear",
    ),
    status="development-branch",
    seen_in=_SEEN_BRANCH,
    meaning="State of an Arm SMMUv3.",
)
iommu_hw_ser_b = Schema(
    "iommu_hw_ser",
    _B,
    packed(_HDR_B, _TOKEN, _TYPE),
    status="posted",
    seen_in=_SEEN,
    meaning="One IOMMU.",
)
iommu_hw_ser_d_core = Schema(
    "iommu_hw_ser",
    _D_CORE,
    packed(_HDR, _TOKEN, _TYPE),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One IOMMU.",
)
iommu_hw_ser_cd = Schema(
    "iommu_hw_ser",
    "iommu-liveupdate-v1 (flags header) / version 1 with union",
    packed(_HDR, _TOKEN, _TYPE, "intel_or_smmuv3" / raw(88) * "an iommu_intel_ser or an iommu_smmuv3_hw_ser"),
    status="posted",
    seen_in=_SEEN_D,
    meaning="One IOMMU with its state.",
)

# iommufd

iommufd_hwpt_ser = Schema(
    "iommufd_hwpt_ser",
    "iommufd-v1",
    packed(
        "domain_data" / phys * "the iommu_domain_ser object",
        "token" / token(u64) * "token of the page table, chosen by user space",
        "reclaimed" / u8 * "set by the new kernel",
        "padding" / raw(7) * "0; absent in the earliest postings (inferred)",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="One hardware page table of an iommufd.",
)
iommufd_ser = Schema(
    "iommufd_ser",
    "iommufd-v1",
    packed("nr_hwpts" / u64 * "entries", "hwpt_array" / flex(iommufd_hwpt_ser) * "hardware page tables"),
    status="posted",
    seen_in=_SEEN,
    meaning="A preserved iommufd.",
)
