# SPDX-License-Identifier: MIT
"""vfio-pci files: the RFC of October 2025 to vfio-pci-v2; not merged up to 7.3.

Five layouts have the name vfio-pci-v1 (`VFIO_PCI_V1`). Each is in a page of zeros, so the bytes do not always show
which one it is. A bdf is bus << 8 | devfn.

Changes with it: the handler's string. (It often stayed when the layout changed.)
"""

from __future__ import annotations

from luoser.abi.schema import Schema, array, boolean, flex, packed, phys, raw, token, u8, u16, u32

__all__ = [
    "VFIO_PCI_V1",
    "pci_cap_saved_ser",
    "pci_saved_state_ser",
    "vfio_pci_core_device_ser_domain16",
    "vfio_pci_core_device_ser_domain16_iommufd",
    "vfio_pci_core_device_ser_domain16_reset",
    "vfio_pci_core_device_ser_domain32",
    "vfio_pci_core_device_ser_domain32_iommufd",
    "vfio_pci_core_device_ser_domain32_reset",
    "vfio_pci_core_device_ser_rfc",
    "vfio_pci_core_device_ser_rfc_config",
    "vfio_pci_core_device_ser_rfc_saved",
]

_NAME = "vfio_pci_core_device_ser"
_SEEN_RFC = "VFIO live update RFC, 18 Oct 2025"
_SEEN_16 = "vfio/pci live update v1..v3, Nov 2025-Mar 2026"
_SEEN_32 = "vfio/pci live update v4 11 May 2026, v5 14 Jul 2026"

_BDF = "bdf" / u16 * "bus, device and function"
_DOMAIN_16 = "domain" / u16 * "PCI domain, too narrow for those of VMD (0x10000 and up)"
_DOMAIN_32 = "domain" / u32 * "PCI domain"
_RESET = "reset_works" / u8 * "1 if the device can be reset"

_iommufd = packed("token" / token(u32) * "LUO token of the iommufd file in the same session")
_iommufd.name = "(unnamed)"
_IOMMUFD = "iommufd_ser" / _iommufd * "link to its iommufd"

vfio_pci_core_device_ser_rfc = Schema(
    _NAME,
    "vfio RFC Oct 2025, first patch",
    packed(_BDF),
    status="posted",
    seen_in=_SEEN_RFC,
    meaning="A preserved device, without a PCI domain.",
)
vfio_pci_core_device_ser_rfc_config = Schema(
    _NAME,
    "vfio RFC Oct 2025, last patch",
    packed(
        _BDF,
        "cfg_size" / u32 * "size of the configuration space",
        "pci_config_map" / raw(4096) * "owner of each configuration byte",
        "vconfig" / raw(4096) * "virtual configuration space",
        "rbar" / array(7, u32) * "BARs",
        _RESET,
    ),
    status="posted",
    seen_in=_SEEN_RFC,
    meaning="A preserved device with its configuration space.",
)
pci_saved_state_ser = Schema(
    "pci_saved_state_ser",
    "vfio RFC Oct 2025, patch 16",
    packed(
        "config_space" / array(16, u32) * "the first 64 bytes of the configuration space",
        "caps" / flex(u8) * "capabilities, each with a pci_cap_saved_ser; one of size 0 ends them",
    ),
    status="posted",
    seen_in=_SEEN_RFC,
    meaning="What pci_save_state() keeps of a device.",
)
pci_cap_saved_ser = Schema(
    "pci_cap_saved_ser",
    "vfio RFC Oct 2025, patch 16",
    packed(
        "cap_nr" / u16 * "number of the capability",
        "cap_extended" / boolean * "1 for an extended one",
        "size" / u32 * "bytes of its data, 0 ends the list",
        "data" / flex(u32) * "registers",
    ),
    status="posted",
    seen_in=_SEEN_RFC,
    meaning="One saved capability.",
)
vfio_pci_core_device_ser_rfc_saved = Schema(
    _NAME,
    "vfio RFC Oct 2025, patch 16",
    packed(
        _BDF,
        "cfg_size" / u32 * "size of the configuration space",
        "pci_config_map" / raw(4096) * "owner of each configuration byte",
        "vconfig" / raw(4096) * "virtual configuration space",
        "rbar" / array(7, u32) * "BARs",
        _RESET,
        "pci_saved_state_phys" / phys * "a pci_saved_state_ser",
    ),
    status="posted",
    seen_in=_SEEN_RFC,
    meaning="A preserved device with its configuration space, and what pci_save_state() keeps.",
)
vfio_pci_core_device_ser_domain16 = Schema(
    _NAME,
    "vfio-pci-v1 (v1..v3, first patch)",
    packed(_BDF, _DOMAIN_16),
    status="posted",
    seen_in=_SEEN_16,
    meaning="A preserved device, bdf first.",
)
vfio_pci_core_device_ser_domain16_reset = Schema(
    _NAME,
    "vfio-pci-v1 (v1..v3, reset_works patch)",
    packed(_BDF, _DOMAIN_16, _RESET),
    status="posted",
    seen_in=_SEEN_16,
    meaning="A preserved device, bdf first.",
)
vfio_pci_core_device_ser_domain16_iommufd = Schema(
    _NAME,
    "vfio-pci-v1 (IOMMU series on top of v1..v3)",
    packed(_BDF, _DOMAIN_16, _RESET, _IOMMUFD),
    status="posted",
    seen_in="IOMMU live update series",
    meaning="A preserved device, bdf first, attached to an iommufd.",
)
vfio_pci_core_device_ser_domain32 = Schema(
    _NAME,
    "vfio-pci-v1 (v4, v5, first patch)",
    packed(_DOMAIN_32, _BDF),
    status="posted",
    seen_in=_SEEN_32,
    meaning="A preserved device, domain first.",
)
vfio_pci_core_device_ser_domain32_reset = Schema(
    _NAME,
    "vfio-pci-v1 (v4, v5, reset_works patch)",
    packed(_DOMAIN_32, _BDF, _RESET),
    status="posted",
    seen_in=_SEEN_32,
    meaning="A preserved device, domain first.",
)
vfio_pci_core_device_ser_domain32_iommufd = Schema(
    _NAME,
    "vfio-pci-v2",
    packed(_DOMAIN_32, _BDF, _RESET, _IOMMUFD),
    status="posted",
    seen_in="IOMMU live update series, mid 2026",
    meaning="A preserved device, domain first, attached to an iommufd.",
)

VFIO_PCI_V1 = (
    vfio_pci_core_device_ser_domain16,
    vfio_pci_core_device_ser_domain16_reset,
    vfio_pci_core_device_ser_domain16_iommufd,
    vfio_pci_core_device_ser_domain32,
    vfio_pci_core_device_ser_domain32_reset,
)
"""All layouts of a file with the handler vfio-pci-v1."""
