# SPDX-License-Identifier: MIT
"""PCI devices and the bridges above them. A fact that is not in the input is None, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.text import bdf_text

__all__ = ["BUSES", "Address", "Device", "Topology"]

Address = tuple[int, int]
"""(domain, bus << 8 | slot << 3 | function). Domains above 0xffff are those of VMD controllers."""

BUSES = 256
"""Number of buses in a domain, which bounds the number of bridges above one device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One function of a PCI device. None means not known.

    domain:          PCI domain (segment).
    bdf:             bus << 8 | slot << 3 | function.
    parent:          the bridge right above. None also if there is none: see on_root_bus.
    on_root_bus:     True: no bridge above. False: a bridge above, even if `parent` is None.
    class_code:      24 bits: base class, sub-class, programming interface.
    driver:          name of the bound driver, "" if none is bound.
    physfn:          the PF of a VF.
    busmaster:       bus mastering is enabled.
    secondary_bus:   of a bridge, the bus right below it.
    subordinate_bus: of a bridge, the last bus below it.
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
        """(domain, bdf), the key in `Topology.devices`."""
        return self.domain, self.bdf

    @property
    def name(self) -> str:
        """`DDDD:BB:SS.F`."""
        return bdf_text(self.domain, self.bdf)

    @property
    def bus(self) -> int:
        """The bus number within the domain."""
        return self.bdf >> 8


_SOURCES = {
    "parent": "the hierarchy (needs sysfs, or bus numbers from config space: lspci -x)",
    "is_bridge": "which devices are bridges (needs sysfs, lspci -nn or lspci -x)",
    "class_code": "the class (needs sysfs, lspci -vmmnn or lspci -x)",
    "vendor": "vendor and device ids (needs sysfs, lspci -nn or lspci -x)",
    "driver": "the bound driver (needs sysfs or lspci -k)",
    "is_vf": "which devices are virtual functions (needs sysfs or lspci -x)",
    "busmaster": "whether bus mastering is enabled (needs config space: sysfs or lspci -x)",
    "secondary_bus": "the bus numbers of bridges (needs config space: sysfs or lspci -x)",
}
"""What each member of a device means, and which inputs have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The PCI devices of a machine.

    devices: by address, ascending.
    source:  what was read, as the user gave it.
    form:    kind of input, in words.
    remarks: what was wrong in the input and what was therefore ignored, in words.
    unknown: names of members of Device that the input has for no device; each with its meaning and the inputs that
             have it, in words. Other members can still be None for some devices.
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
        object.__setattr__(self, "unknown", {name: _SOURCES[name] for name in _SOURCES if not self._knows(name)})
        object.__setattr__(self, "_below", {address: tuple(devices) for address, devices in below.items()})

    def device(self, domain: int, bdf: int) -> Device | None:
        """The device at an address. bdf: bus << 8 | slot << 3 | function. None if it is not in the topology."""
        return self.devices.get((domain, bdf))

    @property
    def roots(self) -> tuple[Device, ...]:
        """The devices without a known parent, ascending."""
        return self._below.get(None, ())

    def children(self, device: Device) -> tuple[Device, ...]:
        """The devices right below a bridge, ascending."""
        return self._below.get(device.address, ())

    def ancestors(self, device: Device) -> tuple[Device, ...]:
        """The known bridges above a device, its parent first. `reaches_root` says whether these are all."""
        found: list[Device] = []
        while device.parent is not None and len(found) < BUSES:
            above = self.devices.get(device.parent)
            if above is None:
                break
            found.append(above)
            device = above
        return tuple(found)

    def reaches_root(self, device: Device) -> bool:
        """Whether `ancestors` has all bridges up to the root bus."""
        return ([device, *self.ancestors(device)][-1]).on_root_bus is True

    def _knows(self, name: str) -> bool:
        """Whether the input has this member for any device, or no device needs it."""
        devices = self.devices.values()
        if name == "parent":
            return any(device.parent for device in devices) or all(device.on_root_bus for device in devices)
        if name == "secondary_bus" and all(device.is_bridge is False for device in devices):
            return True
        return any(getattr(device, name) is not None for device in devices)
