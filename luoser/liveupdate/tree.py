# SPDX-License-Identifier: MIT
"""The PCI tree of a modelled kernel: host bridges, buses and devices, in the kernel's list order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from luoser.errors import UsageError
from luoser.text import bdf_text, parse_bdf

if TYPE_CHECKING:
    from luoser.liveupdate.drivers import Driver
    from luoser.topology import Device, Topology

__all__ = ["Bus", "HostBridge", "PciDevice", "Tree", "from_topology"]


@dataclass(slots=True, eq=False)
class HostBridge:
    """The parent of devices on a root bus. It is not a PCI device. flags: its LU_* bits."""

    name: str
    flags: int = 0


@dataclass(slots=True, eq=False)
class PciDevice:
    """A device of the running kernel.

    domain:      PCI domain.
    bdf:         bus << 8 | slot << 3 | function.
    bus:         the bus that it is on.
    parent:      as in struct device: the bridge above, or the host bridge.
    physfn:      the PF of a VF. None for other devices.
    secondary:   the bus below a bridge. None for other devices.
    driver:      bound driver. None if there is none.
    busmaster:   bus mastering is enabled.
    flags:       LU_* bits.
    entry:       index of its record in the list of the previous kernel. None if it has none.
    override:    name of the only driver that may bind. "" if any may.
    is_removed:  it was removed from the machine.
    members:     further members of struct pci_dev.
    resources:   BARs and windows by slot.
    acs_quirk:   its isolation depends on an ACS quirk.
    iommu_group: "": it is alone in its group.
    can_reset:   its function can be reset.
    num_vfs:     number of enabled VFs of a PF.
    """

    domain: int
    bdf: int
    bus: Bus
    parent: PciDevice | HostBridge
    physfn: PciDevice | None = None
    secondary: Bus | None = None
    driver: Driver | None = None
    busmaster: bool = True
    flags: int = 0
    entry: int | None = None
    override: str = ""
    is_removed: bool = False
    members: Mapping[str, int] = field(default_factory=dict)
    resources: tuple[Mapping[str, Any], ...] = ()
    acs_quirk: bool = False
    iommu_group: str = ""
    can_reset: bool = True
    num_vfs: int = 0

    @property
    def name(self) -> str:
        """`DDDD:BB:SS.F`."""
        return bdf_text(self.domain, self.bdf)

    @property
    def path(self) -> int:
        """domain << 16 | bdf, truncated to 32 bits as in the 2025 series."""
        return (self.domain << 16 | self.bdf) & 0xFFFFFFFF

    @property
    def label(self) -> str:
        """Prefix of the kernel's messages on this device."""
        return f"{self.driver.name if self.driver is not None else 'pci'} {self.name}:"

    @property
    def above(self) -> tuple[PciDevice, ...]:
        """The bridges above, the parent first."""
        found: list[PciDevice] = []
        parent = self.parent
        while isinstance(parent, PciDevice):
            found.append(parent)
            parent = parent.parent
        return tuple(found)


@dataclass(slots=True, eq=False)
class Bus:
    """A bus of the running kernel.

    domain:      PCI domain.
    number:      bus number.
    bridge:      the bridge above it. None for a root bus, and for a bus of VFs only.
    parent:      the bus above it. None for a root bus.
    devices:     on it, in list order.
    children:    buses below it, in list order.
    is_depended: its mark in v1 of the 2025 series.
    resources:   its windows.
    """

    domain: int
    number: int
    bridge: PciDevice | None = None
    parent: Bus | None = None
    devices: list[PciDevice] = field(default_factory=list)
    children: list[Bus] = field(default_factory=list)
    is_depended: bool = False
    resources: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """`DDDD:BB`."""
        return f"{self.domain:04x}:{self.number:02x}"

    @property
    def is_virtual(self) -> bool:
        """Whether the bus has VFs only."""
        return self.bridge is None and self.parent is not None


@dataclass(slots=True)
class Tree:
    """All devices of the running kernel.

    roots: root buses, in list order.
    hosts: host bridge by (domain, bus number).
    """

    roots: list[Bus]
    hosts: dict[tuple[int, int], HostBridge]
    _by_bdf: dict[int, list[PciDevice]] = field(default_factory=dict)

    def enumerate(self) -> Iterator[PciDevice]:
        """All devices in the order of enumeration: all devices of a bus, then those below its bridges."""
        waiting = list(reversed(self.roots))
        while waiting:
            bus = waiting.pop()
            yield from bus.devices
            waiting += reversed(bus.children)

    def find(self, name: str) -> PciDevice:
        """The device of this name. Raises UsageError if there is none."""
        try:
            address = parse_bdf(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
        for device in self.at(address[1]):
            if device.domain == address[0]:
                return device
        raise UsageError(f"no device {name} in this machine")

    def at(self, bdf: int) -> Sequence[PciDevice]:
        """The devices with a bdf, of all domains, in the order of enumeration."""
        if not self._by_bdf:
            for device in self.enumerate():
                self._by_bdf.setdefault(device.bdf, []).append(device)
        return self._by_bdf.get(bdf, ())

    def add(self, device: PciDevice) -> None:
        """Add a device at the end of its bus. It replaces one with the same address."""
        device.bus.devices = [*(one for one in device.bus.devices if one.bdf != device.bdf), device]
        self._by_bdf.clear()

    def below(self, device: PciDevice) -> list[PciDevice]:
        """The devices that are removed with a device: those below it, its VFs, and last the device itself."""
        found = [one for one in self.enumerate() if device in one.above or one.physfn is device]
        return [*reversed(found), device]

    def remove(self, device: PciDevice) -> None:
        """Remove a device, those below it and its VFs from the tree, but not from lists of a series."""
        for one in self.below(device):
            one.driver, one.is_removed = None, True
            one.bus.devices.remove(one)
            self._by_bdf.get(one.bdf, [one]).remove(one)
        if device.secondary is not None:
            device.bus.children.remove(device.secondary)

    def buses(self) -> Iterator[Bus]:
        """All buses in the order of the 2025 series, which uses a stack: last bus first, children before parents."""
        stack, visited = list(self.roots), set[int]()
        while stack:
            bus = stack[-1]
            if bus.children and id(bus) not in visited:
                visited.add(id(bus))
                stack += bus.children
            else:
                yield stack.pop()


def from_topology(topology: Topology) -> Tree:
    """The tree of a machine. Raises UsageError if the topology does not have the whole hierarchy."""
    tree = Tree(roots=[], hosts={})
    made: dict[tuple[int, int], PciDevice] = {}
    for device in topology.roots:
        if device.on_root_bus is not True:
            raise UsageError(f"{device.name}: its parent is not known; use a topology from sysfs")
        if device.physfn is None:
            _root_device(tree, device, made)
    functions = [device for device in topology.roots if device.physfn is not None]
    functions += _fill(topology, made)
    for device in functions:  # a kernel enables VFs after enumeration, so their buses are the last ones
        _virtual_function(device, made)
    return tree


def _root_device(tree: Tree, device: Device, made: dict[tuple[int, int], PciDevice]) -> None:
    place = (device.domain, device.bus)
    if place not in tree.hosts:
        tree.hosts[place] = HostBridge(f"pci{device.domain:04x}:{device.bus:02x}")
        tree.roots.append(Bus(device.domain, device.bus))
    bus = next(bus for bus in tree.roots if (bus.domain, bus.number) == place)
    _add(device, bus, tree.hosts[place], made)


def _add(device: Device, bus: Bus, parent: PciDevice | HostBridge, made: dict[tuple[int, int], PciDevice]) -> PciDevice:
    busmaster = device.busmaster is not False
    one = PciDevice(device.domain, device.bdf, bus, parent, busmaster=busmaster)
    bus.devices.append(one)
    made[device.address] = one
    return one


def _virtual_function(device: Device, made: dict[tuple[int, int], PciDevice]) -> None:
    """Add a VF. Its parent is that of its PF. If it has another bus number, its bus has no bridge."""
    physical = made.get(device.physfn) if device.physfn is not None else None
    if physical is None:
        raise UsageError(f"{device.name}: its physical function is not in this topology")
    bus = physical.bus
    if device.bus != bus.number:
        found = next((child for child in bus.children if child.number == device.bus), None)
        if found is None:
            found = Bus(device.domain, device.bus, parent=bus)
            bus.children.append(found)
        bus = found
    _add(device, bus, physical.parent, made).physfn = physical
    physical.num_vfs += 1


def _fill(topology: Topology, made: dict[tuple[int, int], PciDevice]) -> list[Device]:
    """Add the devices below bridges, from the root down, in the order of the bridges. Returns the VFs, not added."""
    waiting = list(made)
    functions: list[Device] = []
    while waiting:
        address = waiting.pop(0)
        above, device = made[address], topology.devices[address]
        plain = [child for child in topology.children(device) if child.physfn is None]
        functions += [child for child in topology.children(device) if child.physfn is not None]
        if plain:
            number = device.secondary_bus or min(child.bus for child in plain)
            above.secondary = Bus(device.domain, number, bridge=above, parent=above.bus)
            above.bus.children.append(above.secondary)
        for child in plain:
            assert above.secondary is not None
            _add(child, above.secondary, above, made)
            waiting.append(child.address)
    return functions
