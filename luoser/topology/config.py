# SPDX-License-Identifier: MIT
"""What the configuration space of a device says: its kind, its buses, bus mastering, its virtual functions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from luoser.topology.model import Device

__all__ = ["CONFIG_SIZE", "HEADER_SIZE", "Config", "fill", "parse_config"]

HEADER_SIZE, _CONVENTIONAL_SIZE, CONFIG_SIZE = 64, 256, 4096
_COMMAND, _STATUS, _CLASS, _HEADER_TYPE = 0x04, 0x06, 0x08, 0x0E
_SECONDARY, _SUBORDINATE = 0x19, 0x1A  # at the same place behind PCI and CardBus bridges
_CAPABILITIES = {0: 0x34, 1: 0x34, 2: 0x14}
_MASTER, _HAS_CAPABILITIES = 1 << 2, 1 << 4
_EXPRESS = 0x10
_SRIOV_ID, _VF_ENABLE = 0x0010, 1
_SRIOV = struct.Struct("<8xH6xH2xHH")
"""Control, number of VFs, offset to the first VF, stride."""
_ON_ROOT_BUS = (4, 9, 10)
"""Root ports, integrated endpoints and event collectors of the root complex."""
_NO_ID = 0xFFFF
_BDFS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """on_root_bus: the port type is one of those that sit on a root bus only. vfs: bdfs of the enabled VFs of a PF,
    empty where the bytes do not reach that far."""

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
    """The facts in 64, 256 or 4096 bytes. None where these are too few, or all ones: the device did not answer."""
    if len(data) < HEADER_SIZE or data.count(0xFF) == len(data):
        return None
    vendor, device, command = struct.unpack_from("<HHH", data)
    is_vf = vendor == device == _NO_ID  # a VF answers only through the ids of its PF
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
    """A device with what its configuration space adds; what the kernel said of it stays."""
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
    """Device/port type of the PCI Express capability, None where there is none in these bytes."""
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
    """The bdfs that the SR-IOV capability gives to the enabled VFs."""
    place = _sriov(data)
    if place is None:
        return ()
    control, number, offset, stride = _SRIOV.unpack_from(data, place)
    if not control & _VF_ENABLE or not number or not offset or (not stride and number > 1):
        return ()
    found = range(bdf + offset, bdf + offset + number * (stride or 1), stride or 1)
    return found if found[-1] < _BDFS else ()


def _sriov(data: bytes) -> int | None:
    """Where the SR-IOV capability is."""
    place, seen = _CONVENTIONAL_SIZE, set[int]()
    while _CONVENTIONAL_SIZE <= place <= len(data) - _SRIOV.size and place not in seen:
        seen.add(place)
        (header,) = struct.unpack_from("<I", data, place)
        if header & 0xFFFF == _SRIOV_ID:
            return place
        place = header >> 20 & ~3
    return None
