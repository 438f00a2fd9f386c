# SPDX-License-Identifier: MIT
"""KVM and guest_memfd: VM, vCPU and guest memory files of the 2026 postings; not merged up to 7.3.

Changes with it: the handlers guest_memfd_luo_v1, kvm_vm_luo_v1 and kvm_vcpu_luo_v1.
"""

from __future__ import annotations

from luoser.abi.memfd import PFN_BITS
from luoser.abi.schema import Schema, bits, flags, flex, handle, in_bytes, packed, phys, token, u32, u64
from luoser.abi.vmalloc import kho_vmalloc

__all__ = [
    "GUEST_FLAGS",
    "GUEST_FOLIO_FLAGS",
    "TELEMETRY_COUNTERS",
    "guest_memfd_luo_folio_ser",
    "guest_memfd_luo_ser",
    "kvm_caretaker_cb_ser",
    "kvm_kho_folios_ser",
    "kvm_luo_mem_attr",
    "kvm_luo_ser_arch",
    "kvm_luo_ser_kho_folios",
    "kvm_luo_ser_mem_attrs",
    "kvm_luo_ser_type",
    "kvm_vcpu_ser",
]

GUEST_FLAGS = {1: "MMAP", 2: "INIT_SHARED"}
GUEST_FOLIO_FLAGS = {1: "UPTODATE"}
"""Not those of memfd, where 1 is DIRTY."""
TELEMETRY_COUNTERS = 7
"""u64 counters at the address kvm_caretaker_cb_ser.telemetry."""

_BRANCH, _BRANCH_SEEN = "development-branch", "development branch"
_TYPE = "type" / u64 * "VM type"

kvm_luo_mem_attr = Schema(
    "kvm_luo_mem_attr",
    "kvm RFC",
    packed("gfn" / handle(u64) * "guest frame number", "attributes" / u64 * "memory attributes of that frame"),
    status="posted",
    seen_in="guest_memfd preservation RFC, 2026",
    meaning="Attributes of one guest frame.",
)
kvm_luo_ser_mem_attrs = Schema(
    "kvm_luo_ser (mem_attrs form)",
    "kvm RFC",
    packed(
        _TYPE,
        "nr_mem_attrs" / u64 * "entries of the attribute array",
        "mem_attrs" / kho_vmalloc * "vmalloc area that holds the kvm_luo_mem_attr",
    ),
    status="posted",
    seen_in="guest_memfd preservation RFC, 2026",
    meaning="A preserved VM with its memory attributes.",
)
kvm_luo_ser_kho_folios = Schema(
    "kvm_luo_ser (kho_folios form)",
    "kvm_vm_luo_v1",
    packed(_TYPE, "kho_folios" / phys * "a kvm_kho_folios_ser or 0"),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="A preserved VM.",
)
kvm_luo_ser_type = Schema(
    "kvm_luo_ser (type only)",
    "kvm_vm_luo_v1",
    packed(_TYPE),
    status="posted",
    seen_in="kvm live update v3 (67596237533), v4 28 Jul 2026",
    meaning="A preserved VM, without anything else of it.",
)
kvm_luo_ser_arch = Schema(
    "kvm_luo_ser (arch_state form)",
    "kvm with arch state",
    packed(_TYPE, "arch_state" / phys * "architecture state"),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="A preserved VM with architecture state.",
)
kvm_kho_folios_ser = Schema(
    "kvm_kho_folios_ser",
    "kvm_vm_luo_v1",
    packed("nr" / u64 * "entries", "pa" / flex(phys) * "addresses of the folios"),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="List of the folios of a VM.",
)
kvm_caretaker_cb_ser = Schema(
    "kvm_caretaker_cb_ser",
    "kvm caretaker",
    packed(
        "state" / u32 * "state",
        "pcpu_id" / u32 * "physical CPU",
        "vcpu_id" / u32 * "vCPU",
        "reserved" / u32 * "0",
        "telemetry" / phys * "seven u64 counters",
    ),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="Control block of a vCPU with a caretaker.",
)
kvm_vcpu_ser = Schema(
    "kvm_vcpu_ser",
    "kvm_vcpu_luo_v1",
    packed(
        "vcpu_id" / u32 * "number of the vCPU",
        "flags" / u32 * "flags",
        "vm_token" / token(u64) * "LUO token of its VM",
        "arch_state" / phys * "architecture state",
        "cb" / phys * "a kvm_caretaker_cb_ser",
    ),
    status=_BRANCH,
    seen_in=_BRANCH_SEEN,
    meaning="A preserved vCPU.",
)
guest_memfd_luo_folio_ser = Schema(
    "guest_memfd_luo_folio_ser",
    "guest_memfd_luo_v1",
    packed(
        "_bits" / bits(8, pfn=PFN_BITS, flags=12) * "frame number; flags 1 up to date",
        "index" / u64 * "page offset in the file",
    ),
    status="posted",
    seen_in="guest_memfd preservation series, 2026",
    meaning="One folio of guest memory.",
)
guest_memfd_luo_ser = Schema(
    "guest_memfd_luo_ser",
    "guest_memfd_luo_v1",
    packed(
        "size" / in_bytes(u64) * "file size in bytes",
        "flags" / flags(u64, GUEST_FLAGS) * "flags of its creation: 1 MMAP, 2 INIT_SHARED",
        "nr_folios" / u64 * "entries of the folio array",
        "vm_token" / token(u64) * "LUO token of the VM it belongs to",
        "folios" / kho_vmalloc * "vmalloc area that holds the guest_memfd_luo_folio_ser",
    ),
    status="posted",
    seen_in="guest_memfd preservation series, 2026",
    meaning="A preserved guest_memfd.",
)
