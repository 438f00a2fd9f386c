# SPDX-License-Identifier: MIT
"""The PCI tree as a kernel keeps it: host bridges, buses in lists, devices on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """The parent of what is on a root bus; no PCI device itself. flags: its LU_* bits."""

    name: str
    flags: int = 0


@dataclass(slots=True, eq=False)
class PciDevice:
    """A device of the running kernel.

    parent: what struct device calls so: the bridge above, or the host bridge. flags: its LU_* bits. entry: index
    of its record in the list of the kernel before. override: the only driver that may bind. members, resources:
    what struct pci_dev holds besides, its BARs and windows by slot. acs_quirk: whether isolating it takes a quirk.
    iommu_group: "" is one of its own. can_reset: whether its function can be reset.
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
        return bdf_text(self.domain, self.bdf)

    @property
    def path(self) -> int:
        """domain << 16 | bdf as it fits 32 bits."""
        return (self.domain << 16 | self.bdf) & 0xFFFFFFFF

    @property
    def label(self) -> str:
        """What the kernel's log says before a message on this device."""
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
    """bridge: None for a root bus and for one that only has virtual functions. is_depended: its mark in v1 of the 2025
    series. resources: its windows.
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
        return f"{self.domain:04x}:{self.number:02x}"

    @property
    def is_virtual(self) -> bool:
        return self.bridge is None and self.parent is not None


@dataclass(slots=True)
class Tree:
    """roots: the root buses in list order."""

    roots: list[Bus]
    hosts: dict[tuple[int, int], HostBridge]

    def enumerate(self) -> Iterator[PciDevice]:
        """In the order in which a kernel finds them: all of a bus, then what is below its bridges."""
        waiting = list(reversed(self.roots))
        while waiting:
            bus = waiting.pop()
            yield from bus.devices
            waiting += reversed(bus.children)

    def find(self, name: str) -> PciDevice:
        """Raises UsageError."""
        try:
            address = parse_bdf(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
        for device in self.enumerate():
            if (device.domain, device.bdf) == address:
                return device
        raise UsageError(f"no device {name} in this machine")

    def below(self, device: PciDevice) -> list[PciDevice]:
        """A device, and what goes with it when it is removed: what is below it, virtual functions; the device last."""
        found = [one for one in self.enumerate() if device in one.above or one.physfn is device]
        return [*reversed(found), device]

    def remove(self, device: PciDevice) -> None:
        """Take a device, and what goes with it, off the tree. A list that it is on still has it."""
        for one in self.below(device):
            one.driver, one.is_removed = None, True
            one.bus.devices.remove(one)
        if device.secondary is not None:
            device.bus.children.remove(device.secondary)

    def buses(self) -> Iterator[Bus]:
        """In the order of the walk over a stack that the series uses: the last bus first, children before parents."""
        stack, visited = list(self.roots), set[int]()
        while stack:
            bus = stack[-1]
            if bus.children and id(bus) not in visited:
                visited.add(id(bus))
                stack += bus.children
            else:
                yield stack.pop()


def from_topology(topology: Topology) -> Tree:
    """The tree of a machine. Raises UsageError where the topology does not tell the hierarchy."""
    tree = Tree(roots=[], hosts={})
    made: dict[tuple[int, int], PciDevice] = {}
    for device in topology.roots:
        if device.on_root_bus is not True:
            raise UsageError(f"{device.name}: what is above it is not known; take the topology from sysfs")
        if device.physfn is None:
            _root_device(tree, device, made)
    functions = [device for device in topology.roots if device.physfn is not None]
    functions += _fill(topology, made)
    for device in functions:  # enabled when all buses are there, so their buses come last
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
    """A VF has its PF's parent; a bus number beyond the PF's is a bus without bridge below the PF's bus."""
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
    """What is below bridges, from the root down; children lists are in the order of the bridges. VFs are given back."""
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
