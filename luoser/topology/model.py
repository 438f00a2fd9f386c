# SPDX-License-Identifier: MIT
"""Devices and the bridges above them. What an input does not tell is None, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.text import bdf_text

__all__ = ["BUSES", "Address", "Device", "Topology"]

Address = tuple[int, int]
"""(domain, bus << 8 | slot << 3 | function); domains above 0xffff are those of VMD."""

BUSES = 256
"""Bus numbers of a domain, and so more bridges than can be above one device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One function of a PCI device, as far as it is known.

    parent: the bridge right above. None with on_root_bus True: there is none; with False: there is one, which the
    input does not name; with None: not known. driver: the driver's name, "" where none is bound, None where that
    is not known. physfn: the PF of a VF. busmaster: whether bus mastering is enabled. secondary_bus,
    subordinate_bus: of a bridge, the first and the last bus below it as its registers say.
    """

    domain: int
    bdf: int
    parent: Address | None = None
    on_root_bus: bool | None = None
    is_bridge: bool | None = None
    class_code: int | None = None
    vendor: int | None = None
    device: int | None = None
    driver: str | None = None
    is_vf: bool | None = None
    physfn: Address | None = None
    busmaster: bool | None = None
    secondary_bus: int | None = None
    subordinate_bus: int | None = None

    @property
    def address(self) -> Address:
        return self.domain, self.bdf

    @property
    def name(self) -> str:
        """`DDDD:BB:SS.F`."""
        return bdf_text(self.domain, self.bdf)

    @property
    def bus(self) -> int:
        return self.bdf >> 8


_TOLD_BY = {
    "parent": "the hierarchy: it takes sysfs, or the bus numbers in config space (lspci -x)",
    "is_bridge": "which devices are bridges: it takes sysfs, lspci -nn or lspci -x",
    "class_code": "the class: it takes sysfs, lspci -vmmnn or lspci -x",
    "vendor": "vendor and device: it takes sysfs, lspci -nn or lspci -x",
    "driver": "the bound driver: it takes sysfs or lspci -k",
    "is_vf": "which devices are virtual functions: it takes sysfs or lspci -x",
    "busmaster": "whether bus mastering is on: it takes config space, of sysfs or lspci -x",
    "secondary_bus": "the bus numbers of bridges: it takes config space, of sysfs or lspci -x",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The PCI devices of a machine, sorted by address.

    source: what was read, as the user named it. form: what kind of input that was. unknown: members of Device
    that this input tells of no device, each with what it stands for and what would tell it; of a single device any
    member may be None besides. remarks: what was odd in the input, and what was left out for it.
    """

    devices: Mapping[Address, Device]
    source: str = ""
    form: str = ""
    remarks: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(init=False, compare=False)
    _below: Mapping[Address | None, tuple[Device, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        below: dict[Address | None, list[Device]] = {}
        for _, device in sorted(self.devices.items()):
            below.setdefault(device.parent, []).append(device)
        object.__setattr__(self, "unknown", {name: _TOLD_BY[name] for name in _TOLD_BY if not self._tells(name)})
        object.__setattr__(self, "_below", {address: tuple(devices) for address, devices in below.items()})

    def device(self, domain: int, bdf: int) -> Device | None:
        return self.devices.get((domain, bdf))

    @property
    def roots(self) -> tuple[Device, ...]:
        """The devices without a known parent."""
        return self._below.get(None, ())

    def children(self, device: Device) -> tuple[Device, ...]:
        """The devices right below a bridge."""
        return self._below.get(device.address, ())

    def ancestors(self, device: Device) -> tuple[Device, ...]:
        """The bridges above a device, from its parent up, as far as they are known; see `reaches_root`."""
        found: list[Device] = []
        while device.parent is not None and len(found) < BUSES:
            above = self.devices.get(device.parent)
            if above is None:
                break
            found.append(above)
            device = above
        return tuple(found)

    def reaches_root(self, device: Device) -> bool:
        """Whether `ancestors` are all bridges up to the root bus."""
        return ([device, *self.ancestors(device)][-1]).on_root_bus is True

    def _tells(self, name: str) -> bool:
        devices = self.devices.values()
        if name == "parent":
            return any(device.parent for device in devices) or all(device.on_root_bus for device in devices)
        if name == "secondary_bus" and all(device.is_bridge is False for device in devices):
            return True
        return any(getattr(device, name) is not None for device in devices)
