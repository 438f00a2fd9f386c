# SPDX-License-Identifier: MIT
"""All layouts by name, with their provenance.

A name is lower case: family or compatible string, posting, patch or form. One compatible string can mean
several layouts; each has its own name here, and the label of the ABI catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from luoser.abi import (
    block,
    guest,
    hugetlb,
    iommu,
    kexec_metadata,
    kho,
    luo,
    memfd,
    other,
    pci,
    preserved,
    uapi,
    vfio,
    vmalloc,
)
from luoser.abi.schema import Schema
from luoser.arguments import need_names
from luoser.errors import UsageError
from luoser.text import did_you_mean

__all__ = ["Layout", "layout", "layouts", "schemas", "unknown_layout", "usable_layouts"]


_PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A named layout.

    name:    in the registry.
    subject: kho, luo, memfd, pci, …
    kind:    `struct`: plain structs. `list`: a header with records, of subject pci. `fdt`: a devicetree.
    summary: one line.
    status:  merged, queued (linux-next), posted or development-branch.
    seen_in: kernel releases, or the series and its date.
    schemas: the head, then structs that it holds or leads to. Empty: a devicetree.
    handler: compatible string, FLB or sub-tree name that leads to it. Empty: none.
    count:   member of the head with the number of records (schemas[1]) right after it. Empty: no records.
    """

    name: str
    subject: str
    kind: Literal["struct", "list", "fdt"]
    summary: str
    status: str
    seen_in: str
    schemas: tuple[Schema, ...] = ()
    handler: str = ""
    count: str = ""

    @property
    def label(self) -> str:
        """Label of the head in the catalogue; of a devicetree its name."""
        return self.schemas[0].label if self.schemas else self.name

    @property
    def page_size(self) -> int | None:
        """Bytes of a page in a kernel that has the struct in this size. None: any kernel has it."""
        return self.schemas[0].size if self.schemas and self.schemas[0].size == _PAGE else None


def _struct(name: str, subject: str, head: Schema, *rest: Schema, handler: str = "", count: str = "") -> Layout:
    return Layout(
        name=name, subject=subject, kind="struct", summary=head.meaning, status=head.status,
        seen_in=head.seen_in, schemas=(head, *rest), handler=handler, count=count,
    )  # fmt: skip


def _fdt(name: str, subject: str, summary: str, seen_in: str, status: str = "merged") -> Layout:
    return Layout(name=name, subject=subject, kind="fdt", summary=summary, status=status, seen_in=seen_in, handler=name)


def _list(entry: pci.PciLayout) -> Layout:
    rest = (entry.record,) if entry.bus is None else (entry.record, entry.bus)
    names = ", ".join(entry.flb_names) or "subsystem pci"
    return Layout(
        name=entry.name, subject="pci", kind="list", summary=entry.summary, status=entry.header.status,
        seen_in=entry.header.seen_in, schemas=(entry.header, *rest), handler=names,
    )  # fmt: skip


_TREES = (
    _fdt("kho-v1", "kho", "KHO root, map in chunks of bitmaps", "6.16..7.0"),
    _fdt("kho-v2", "kho", "KHO root, radix tree; never in a release", "7.1 cycle, posting of Oct 2025", "posted"),
    _fdt("kho-v3", "kho", "KHO root, radix tree, blobs with a size", "7.1"),
    _fdt("kho-v4", "kho", "KHO root, as v3; blocks are part of the version", "7.2..7.3"),
    _fdt("luo-v1", "luo", "LUO root as a devicetree", "6.19..7.1; subsystems form posted in 2025"),
    _fdt("luo-v2-fdt", "luo", "LUO root that points to a 24-byte luo_ser", "7.2-cycle series only", "posted"),
    _fdt("file-descriptors-v1", "luo", "preserved files of the LUO of 2025", "LUO v2, v3 (Jul-Aug 2025)", "posted"),
    _fdt("memblock-v1", "memblock", "reserve_mem areas", "6.16..7.3"),
    _fdt("kho-test-v1", "kho", "KHO self-test", "6.17..7.3"),
    _fdt("hwpoison-v1", "other", "pages with memory errors, before hwpoison", "posted 2026", "posted"),
    _fdt("pstore-kho-v1", "other", "address of a pstore record, before pstore-kho", "posted 2026", "posted"),
    _fdt("mshv-kho-v1", "other", "partitions of the Microsoft hypervisor", "posted 28 May 2026", "posted"),
    _fdt("pcsc-v1", "other", "cached configuration of PCI devices", "posted 2025", "posted"),
    Layout(name="devicetree", subject="kho", kind="fdt", summary="any other devicetree", status="merged",
           seen_in="6.16..7.3"),
)  # fmt: skip

_STRUCTS = (
    _struct("setup-data", "kho", kho.setup_data),
    _struct("kho-data", "kho", kho.kho_data),
    _struct("kho-data-2023", "kho", kho.kho_data_2023),
    _struct("kho-mem", "kho", kho.kho_mem),
    _struct("kho-scratch", "kho", kho.kho_scratch),
    _struct("kho-page-info", "kho", kho.kho_page_info),
    _struct("fdt-header", "kho", kho.fdt_header, kho.fdt_reserve_entry, kho.fdt_property_record),
    _struct("kexec-metadata-v1", "kho", kexec_metadata.kho_kexec_metadata, handler="kexec-metadata"),
    _struct("kho-chunk", "preserved", preserved.khoser_mem_chunk, preserved.khoser_mem_chunk_hdr,
            preserved.khoser_mem_bitmap_ptr),
    _struct("kho-bitmap-512", "preserved", preserved.kho_mem_phys_bits_512),
    _struct("kho-bitmap-page", "preserved", preserved.kho_mem_phys_bits_page),
    _struct("kho-radix-node", "preserved", preserved.kho_radix_node),
    _struct("kho-radix-leaf", "preserved", preserved.kho_radix_leaf),
    _struct("kho-vmalloc", "vmalloc", vmalloc.kho_vmalloc),
    _struct("kho-vmalloc-chunk", "vmalloc", vmalloc.kho_vmalloc_chunk, vmalloc.kho_vmalloc_hdr),
    _struct("kho-block", "block", block.kho_block_header_ser),
    _struct("kho-block-sessions", "block", block.kho_block_header_ser, luo.luo_session_ser, count="count"),
    _struct("kho-block-files", "block", block.kho_block_header_ser, luo.luo_file_ser, count="count"),
    _struct("kho-block-pci", "block", block.kho_block_header_ser, pci.pci_dev_ser_b_refcount, count="count"),
    _struct("luo-v5", "luo", luo.luo_ser, handler="LUO"),
    _struct("luo-v2", "luo", luo.luo_ser_v2, handler="LUO"),
    _struct("luo-composed", "luo", luo.luo_ser_composed, handler="LUO"),
    _struct("luo-features", "luo", luo.luo_ser_features, luo.luo_feature_hdr, luo.luo_file_ser_features, handler="LUO"),
    _struct("luo-session-v2", "luo", luo.luo_session_header_ser, luo.luo_session_ser, luo.luo_file_set_ser,
            count="count"),
    _struct("luo-session-v1", "luo", luo.luo_session_header_ser_pgcnt, luo.luo_session_ser_pgcnt, count="count"),
    _struct("luo-session", "luo", luo.luo_session_ser, luo.luo_file_set_ser),
    _struct("luo-file", "luo", luo.luo_file_ser),
    _struct("luo-flb-v1", "luo", luo.luo_flb_header_ser, luo.luo_flb_ser, count="count"),
    _struct("memfd-v1", "memfd", memfd.memfd_luo_ser_v1, handler="memfd-v1"),
    _struct("memfd-v2", "memfd", memfd.memfd_luo_ser_v2, handler="memfd-v2"),
    _struct("memfd-v2-draft", "memfd", memfd.memfd_luo_ser_v2_draft, handler="memfd-v2"),
    _struct("memfd-features", "memfd", memfd.memfd_luo_ser_features, handler="memfd"),
    _struct("memfd-folio", "memfd", memfd.memfd_luo_folio_ser),
    _struct("memfd-folio-pre-merge", "memfd", memfd.memfd_luo_preserved_folio),
    _struct("hugetlb-v1", "hugetlb", hugetlb.hugetlb_ser, hugetlb.hugetlb_hstate_ser, handler="hugetlb-v1"),
    _struct("huge-memfd-v1", "hugetlb", hugetlb.hugemfd_ser, hugetlb.hugemfd_folio_ser, handler="huge-memfd-v1"),
    _struct("guest-memfd-v1", "guest", guest.guest_memfd_luo_ser, guest.guest_memfd_luo_folio_ser,
            handler="guest_memfd_luo_v1"),
    _struct("kvm-vm-rfc", "guest", guest.kvm_luo_ser_mem_attrs, guest.kvm_luo_mem_attr, handler="kvm_vm_luo_v1"),
    _struct("kvm-vm-v1", "guest", guest.kvm_luo_ser_kho_folios, guest.kvm_kho_folios_ser, handler="kvm_vm_luo_v1"),
    _struct("kvm-vm-v1-type", "guest", guest.kvm_luo_ser_type, handler="kvm_vm_luo_v1"),
    _struct("kvm-vm-arch", "guest", guest.kvm_luo_ser_arch),
    _struct("kvm-vcpu-v1", "guest", guest.kvm_vcpu_ser, guest.kvm_caretaker_cb_ser, handler="kvm_vcpu_luo_v1"),
    _struct("iommu-v1", "iommu", iommu.iommu_lu_flb_ser_a, iommu.iommu_obj_ser_a, iommu.iommu_domain_ser_a,
            iommu.device_ser_a, iommu.device_domain_iommu_ser_a, iommu.iommu_ser_a, handler="iommu-v1"),
    _struct("iommu-v1-early", "iommu", iommu.iommu_domain_ser_a0, iommu.device_ser_a0, iommu.device_domain_iommu_ser_a0,
            iommu.iommu_ser_a0),
    _struct("iommu-liveupdate-v1", "iommu", iommu.iommu_flb_ser_bc, iommu.iommu_hdr_ser_b, iommu.iommu_domain_ser_b,
            iommu.iommu_device_ser_b, iommu.iommu_hw_ser_b, handler="iommu-liveupdate-v1"),
    _struct("iommu-liveupdate-v1-objects", "iommu", iommu.iommu_device_ser_c, iommu.iommu_device_intel_ser_c),
    _struct("iommu-liveupdate-1", "iommu", iommu.iommu_flb_ser_d, iommu.iommu_array_hdr_ser, iommu.iommu_hdr_ser_cd,
            iommu.iommu_domain_ser_cd, iommu.iommu_domain_ser_d_later, iommu.iommu_dev_map_ser,
            iommu.iommu_device_ser_d_core, iommu.iommu_device_ser_d_later, iommu.iommu_device_intel_ser_d_later,
            iommu.iommu_master_smmuv3_ser, iommu.iommu_hw_ser_d_core, iommu.iommu_hw_ser_cd, iommu.iommu_intel_ser,
            iommu.iommu_smmuv3_hw_ser, handler="iommu-liveupdate"),
    _struct("iommufd-v1", "iommu", iommu.iommufd_ser, iommu.iommufd_hwpt_ser, handler="iommufd-v1", count="nr_hwpts"),
    _struct("vfio-pci-rfc", "vfio", vfio.vfio_pci_core_device_ser_rfc),
    _struct("vfio-pci-rfc-config", "vfio", vfio.vfio_pci_core_device_ser_rfc_config),
    _struct("vfio-pci-rfc-saved", "vfio", vfio.vfio_pci_core_device_ser_rfc_saved, vfio.pci_saved_state_ser,
            vfio.pci_cap_saved_ser),
    _struct("vfio-pci-v1-domain16", "vfio", vfio.vfio_pci_core_device_ser_domain16, handler="vfio-pci-v1"),
    _struct("vfio-pci-v1-domain16-reset", "vfio", vfio.vfio_pci_core_device_ser_domain16_reset, handler="vfio-pci-v1"),
    _struct("vfio-pci-v1-domain16-iommufd", "vfio", vfio.vfio_pci_core_device_ser_domain16_iommufd,
            handler="vfio-pci-v1"),
    _struct("vfio-pci-v1-domain32", "vfio", vfio.vfio_pci_core_device_ser_domain32, handler="vfio-pci-v1"),
    _struct("vfio-pci-v1-domain32-reset", "vfio", vfio.vfio_pci_core_device_ser_domain32_reset, handler="vfio-pci-v1"),
    _struct("vfio-pci-v2", "vfio", vfio.vfio_pci_core_device_ser_domain32_iommufd, handler="vfio-pci-v2"),
    _struct("hwpoison", "other", other.kho_hwpoison_metadata, handler="hwpoison"),
    _struct("pstore-kho", "other", other.pstore_ser, handler="pstore-kho"),
    _struct("eventfd-v1", "other", other.eventfd_ser, handler="eventfd-v1"),
    _struct("tmpfs-file-v1", "other", other.tmpfs_file_ser, handler="tmpfs-file-v1"),
    _struct("cpu-flb-v1", "other", other.cpu_flb_ser, handler="cpu_flb_v1"),
    _struct("cpu-fh-v1", "other", other.cpu_fh_ser, handler="cpu_fh_v1"),
    _struct("dma-alloc", "other", other.dma_alloc_ser),
    _struct("dma-alloc-newer", "other", other.dma_alloc_ser_newer),
    _struct("dmabuf-v1", "other", other.dmabuf_ser, handler="dmabuf-v1"),
    _struct("tmpfs-mnt-v1", "other", other.tmpfs_mnt_ser, handler="tmpfs-mnt-v1"),
    _struct("pci-lu-stub", "pci", pci.pci_lu_stub_ser),
    _struct("pci-resource", "pci", pci.pci_resource_ser),
    _struct("uapi-create-session", "uapi", uapi.liveupdate_ioctl_create_session),
    _struct("uapi-preserve-fd", "uapi", uapi.liveupdate_session_preserve_fd),
    _struct("uapi-finish", "uapi", uapi.liveupdate_session_finish),
    _struct("uapi-get-name", "uapi", uapi.liveupdate_session_get_name),
    _struct("uapi-fd-2025", "uapi", uapi.liveupdate_fd),
    _struct("liveupdate-features", "uapi", uapi.liveupdate_ver_hdr, uapi.liveupdate_feature_entry),
)  # fmt: skip

_LAYOUTS = (*_TREES, *_STRUCTS, *(_list(entry) for entry in pci.LAYOUTS))
_BY_NAME = {entry.name: entry for entry in _LAYOUTS}


def layouts() -> tuple[Layout, ...]:
    """All layouts, devicetrees first, PCI lists last."""
    return _LAYOUTS


def layout(name: str) -> Layout | None:
    """The layout of that name. None: unknown."""
    return _BY_NAME.get(name)


def unknown_layout(name: str, *, kind: str | None = None) -> UsageError:
    """The error for a name that no layout has. kind: of the layouts that are expected. None: any."""
    near = did_you_mean(name, [entry.name for entry in _LAYOUTS if kind in (None, entry.kind)])
    what = "device list layout" if kind == "list" else "layout"
    return UsageError(f"unknown {what} {name!r}{near}; `luoser abi list` lists all")


def usable_layouts(names: Sequence[str]) -> tuple[str, ...]:
    """The names. Raises UsageError for an unknown layout, or one that need not be selected.

    names: of layouts.
    """
    need_names(layout=names)
    for name in names:
        found = layout(name)
        if found is None:
            raise unknown_layout(name)
        if (found.kind != "list" and not found.handler) or found.kind == "fdt":
            raise UsageError(
                f"layout {name}: not needed, as its string identifies it; --layout is for device lists and structs of "
                "file handlers"
            )
    return tuple(names)


def schemas() -> tuple[Schema, ...]:
    """All structs of all layouts, each once."""
    return tuple(_unique(schema for entry in _LAYOUTS for schema in entry.schemas))


def _unique(found: Iterable[Schema]) -> Iterable[Schema]:
    return {id(schema): schema for schema in found}.values()
