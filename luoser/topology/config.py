# SPDX-License-Identifier: MIT
"""Facts from the configuration space of a PCI device: kind, bus numbers, bus mastering, virtual functions.

Source: include/uapi/linux/pci_regs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from luoser.topology.model import Device

__all__ = ["CONFIG_SIZE", "HEADER_SIZE", "Config", "fill", "parse_config"]

HEADER_SIZE, _CONVENTIONAL_SIZE, CONFIG_SIZE = 64, 256, 4096
_COMMAND, _STATUS, _CLASS, _HEADER_TYPE = 0x04, 0x06, 0x08, 0x0E
_SECONDARY, _SUBORDINATE = 0x19, 0x1A  # at the same offset for PCI and CardBus bridges
_CAPABILITIES = {0: 0x34, 1: 0x34, 2: 0x14}
_MASTER, _HAS_CAPABILITIES = 1 << 2, 1 << 4
_EXPRESS = 0x10
_SRIOV_ID, _VF_ENABLE = 0x0010, 1
_SRIOV = struct.Struct("<8xH6xH2xHH")
"""Control, number of VFs, offset of the first VF, stride."""
_ON_ROOT_BUS = (4, 9, 10)
"""Port types: root port, root complex integrated endpoint, root complex event collector."""
_NO_ID = 0xFFFF
_BDFS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Facts from the configuration space of one device. None means not known.

    class_code:      24 bits: base class, sub-class, programming interface.
    busmaster:       bus mastering is enabled.
    secondary_bus:   of a bridge, the bus right below it.
    subordinate_bus: of a bridge, the last bus below it.
    on_root_bus:     the port type exists on a root bus only.
    vfs:             bdfs of the enabled VFs of a PF. Empty also if the bytes do not include the capability.
    """

    vendor: int | None
    device: int | None
    class_code: int
    is_bridge: bool | None
    is_vf: bool
    busmaster: bool
    secondary_bus: int | None
    subordinate_bus: int | None
    on_root_bus: bool
    vfs: Sequence[int]


def parse_config(data: bytes, bdf: int) -> Config | None:
    """The facts in the first bytes of a configuration space.

    data: 64, 256 or 4096 bytes.
    bdf:  of the device, 16 bits.

    None if there are fewer bytes, or all are 0xff: then the device did not answer.
    """
    if len(data) < HEADER_SIZE or data.count(0xFF) == len(data):
        return None
    vendor, device, command = struct.unpack_from("<HHH", data)
    is_vf = vendor == device == _NO_ID  # a VF has no ids of its own, the kernel takes those of the PF
    kind = data[_HEADER_TYPE] & 0x7F
    is_bridge = kind in (1, 2) if kind in _CAPABILITIES else None
    return Config(
        vendor=None if is_vf else vendor,
        device=None if is_vf else device,
        class_code=int.from_bytes(data[_CLASS + 1 : _CLASS + 4], "little"),
        is_bridge=is_bridge,
        is_vf=is_vf,
        busmaster=bool(command & _MASTER),
        secondary_bus=data[_SECONDARY] if is_bridge else None,
        subordinate_bus=data[_SUBORDINATE] if is_bridge else None,
        on_root_bus=_port_type(data, kind) in _ON_ROOT_BUS,
        vfs=_virtual_functions(data, bdf),
    )


def fill(device: Device, config: Config) -> Device:
    """The device with the facts from its configuration space. Ids, class and is_vf of the kernel are kept."""
    return replace(
        device,
        is_bridge=device.is_bridge if config.is_bridge is None else config.is_bridge,
        class_code=config.class_code if device.class_code is None else device.class_code,
        vendor=config.vendor if device.vendor is None else device.vendor,
        device=config.device if device.device is None else device.device,
        is_vf=config.is_vf if device.is_vf is None else device.is_vf,
        busmaster=config.busmaster,
        secondary_bus=config.secondary_bus,
        subordinate_bus=config.subordinate_bus,
    )


def _port_type(data: bytes, kind: int) -> int | None:
    """Device/port type of the PCI Express capability. None if it is not in these bytes."""
    if kind not in _CAPABILITIES or not data[_STATUS] & _HAS_CAPABILITIES:
        return None
    place, seen = data[_CAPABILITIES[kind]] & ~3, set[int]()
    while HEADER_SIZE <= place <= min(len(data), _CONVENTIONAL_SIZE) - 4 and place not in seen:
        seen.add(place)
        if data[place] == _EXPRESS:
            return data[place + 2] >> 4
        place = data[place + 1] & ~3
    return None


def _virtual_functions(data: bytes, bdf: int) -> Sequence[int]:
    """The bdfs of the enabled VFs according to the SR-IOV capability."""
    place = _sriov(data)
    if place is None:
        return ()
    control, number, offset, stride = _SRIOV.unpack_from(data, place)
    if not control & _VF_ENABLE or not number or not offset or (not stride and number > 1):
        return ()
    found = range(bdf + offset, bdf + offset + number * (stride or 1), stride or 1)
    return found if found[-1] < _BDFS else ()


def _sriov(data: bytes) -> int | None:
    """Offset of the SR-IOV capability. None if it is not in these bytes."""
    place, seen = _CONVENTIONAL_SIZE, set[int]()
    while _CONVENTIONAL_SIZE <= place <= len(data) - _SRIOV.size and place not in seen:
        seen.add(place)
        (header,) = struct.unpack_from("<I", data, place)
        if header & 0xFFFF == _SRIOV_ID:
            return place
        place = header >> 20 & ~3
    return None
