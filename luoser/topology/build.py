# SPDX-License-Identifier: MIT
"""Makes a topology from the facts about each device in an input: parents, virtual functions, inconsistencies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from luoser.errors import FormatError, TooLargeError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import bdf_text, parse_bdf
from luoser.topology.config import Config
from luoser.topology.model import BUSES, Address, Device, Topology

__all__ = ["Found", "Remarks", "address_of", "build", "parse_path"]

_HOST = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_BRIDGE_CLASSES = (0x0604, 0x0607, 0x0609)
"""PCI-to-PCI, CardBus, semi-transparent PCI-to-PCI. Host and ISA bridges are not parents of PCI devices."""

_REMARK_SIZE = 1000


class Remarks(list[str]):
    """Remarks on an input, safe to print. Their number and size are bounded."""

    _seen = 0

    def add(self, sentence: str) -> None:
        """Append a remark, if there is room.

        Raises FormatError after too many calls: then almost all of the input is malformed, and reading is slow.
        """
        self._seen += 1
        if self._seen > LIMITS.topology_errors:
            text = f"more than {LIMITS.topology_errors} errors; the last one is {sentence[:_REMARK_SIZE]}"
            raise FormatError(f"{text}; {how_to_raise('topology_errors')}")
        if len(self) < LIMITS.topology_remarks:
            self.append(sentence[:_REMARK_SIZE])
        elif len(self) == LIMITS.topology_remarks:
            self.append(f"further remarks are omitted; {how_to_raise('topology_remarks')}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The facts about one device in an input.

    place:     where it is in the input, for remarks.
    above:     the bridges above it according to its path, the topmost first.
    is_rooted: that path begins at a host bridge, so no bridge is missing.
    config:    facts from its configuration space. None if it is not in the input.
    """

    device: Device
    place: str
    above: tuple[Address, ...] = ()
    is_rooted: bool = False
    config: Config | None = None


def address_of(name: str) -> Address | None:
    """The address in a name DDDD:BB:SS.F of sysfs. None for any other name."""
    try:
        return parse_bdf(name) if name.count(":") == 2 else None
    except ValueError:
        return None


def parse_path(path: str) -> tuple[tuple[Address, ...], bool]:
    """(addresses at the end of a sysfs path, the device itself last; whether they begin at a host bridge)."""
    found: list[Address] = []
    names = path.rstrip("/").split("/")
    while names and len(found) <= BUSES and (address := address_of(names[-1])) is not None:
        found.append(address)
        names.pop()
    return tuple(reversed(found)), bool(names and _HOST.fullmatch(names[-1]))


def build(found: Iterable[Found], *, source: str, form: str, remarks: Remarks, infer: bool = True) -> Topology:
    """The topology of the devices in an input.

    source:  what was read, as the user gave it.
    form:    kind of input, in words.
    remarks: those on the input so far. Further ones are added.
    infer:   without a path, derive parents from bus numbers, and PFs from SR-IOV capabilities.

    Raises FormatError for an input that is almost entirely malformed, TooLargeError for too many devices.
    """
    listed = _listed(found, remarks)
    devices = {address: entry.device for address, entry in listed.items()}
    _follow_paths(devices, listed, remarks)
    if infer:
        _follow_bus_numbers(devices, listed, remarks)
        _find_functions(devices, listed, remarks)
    _check_functions(devices, remarks)
    _check_parents(devices, remarks)
    _cut_loops(devices, remarks)
    return Topology(
        devices=dict(sorted(devices.items())), source=source, form=form, remarks=tuple(dict.fromkeys(remarks))
    )


def _listed(found: Iterable[Found], remarks: Remarks) -> dict[Address, Found]:
    listed: dict[Address, Found] = {}
    for entry in found:
        first = listed.get(entry.device.address)
        if first is not None:
            remarks.add(f"{entry.place}: {entry.device.name} is a duplicate of the one at {first.place}; ignored")
        elif len(listed) == LIMITS.pci_devices:
            text = f"more than {LIMITS.pci_devices} devices; {how_to_raise('pci_devices')}"
            raise TooLargeError(f"{entry.place}: {text}")  # without the rest, rules would judge what is not so
        else:
            listed[entry.device.address] = replace(entry, device=_classed(entry.device))
    return listed


def _classed(device: Device) -> Device:
    if device.is_bridge is None and device.class_code is not None:
        return replace(device, is_bridge=device.class_code >> 8 in _BRIDGE_CLASSES)
    return device


def _follow_paths(devices: dict[Address, Device], listed: dict[Address, Found], remarks: Remarks) -> None:
    """Set parents from the paths. Adds devices for bridges that are in a path only."""
    for address, entry in listed.items():
        parent: Address | None = None
        for bridge in entry.above:
            if bridge not in devices:
                remarks.add(f"{entry.place}: {bdf_text(*bridge)} is in the path of {entry.device.name}, but not listed")
                device = Device(domain=bridge[0], bdf=bridge[1], is_bridge=True)
                devices[bridge] = _below(device, parent, entry.is_rooted)
            parent = bridge
        devices[address] = _below(devices[address], parent, entry.is_rooted)


def _below(device: Device, parent: Address | None, is_rooted: bool) -> Device:
    if parent is not None:
        return replace(device, parent=parent, on_root_bus=False)
    return replace(device, on_root_bus=True) if is_rooted else device


def _follow_bus_numbers(devices: dict[Address, Device], listed: dict[Address, Found], remarks: Remarks) -> None:
    """Set parents from the bus numbers of bridges, for devices without a path."""
    above, below = _buses(devices, remarks)
    rooted = {(address[0], address[1] >> 8) for address, entry in listed.items() if _is_rooted(entry)}
    for address, device in devices.items():
        if device.parent is not None or device.on_root_bus is not None:
            continue
        bus = (device.domain, device.bus)
        if above.get(bus) is not None:
            devices[address] = replace(device, parent=above[bus], on_root_bus=False)
        elif below.get(device.domain, 0) >> device.bus & 1:
            devices[address] = replace(device, on_root_bus=False)
        elif device.bus == 0 or bus in rooted:
            devices[address] = replace(device, on_root_bus=True)


def _is_rooted(entry: Found) -> bool:
    return entry.config is not None and entry.config.on_root_bus


def _buses(
    devices: dict[Address, Device], remarks: Remarks
) -> tuple[dict[tuple[int, int], Address | None], dict[int, int]]:
    """Two mappings: the parent bridge by (domain, bus), and the buses below any bridge by domain, one bit for each bus.

    The parent is None if several bridges have the same secondary bus.
    """
    above: dict[tuple[int, int], Address | None] = {}
    below: dict[int, int] = {}
    for address, device in devices.items():
        first, last = device.secondary_bus, device.subordinate_bus
        if not first or last is None:  # 0: the bus has no number yet
            continue
        if first > last or first <= device.bus <= last:
            remarks.add(
                f"{device.name}: buses {first:02x} to {last:02x} are impossible below a bridge on bus {device.bus:02x}"
            )
            continue
        bus = (device.domain, first)
        if bus in above:
            remarks.add(f"{device.name}: another bridge has the same secondary bus {first:02x}")
        above[bus] = None if bus in above else address
        below[device.domain] = below.get(device.domain, 0) | (2 << last) - (1 << first)
    return above, below


def _find_functions(devices: dict[Address, Device], listed: dict[Address, Found], remarks: Remarks) -> None:
    """Set the PF of each VF from SR-IOV capabilities, and its parent: that of the PF, as its bus may have no bridge."""
    steps = 0
    for address, entry in listed.items():
        for bdf in entry.config.vfs if entry.config is not None else ():
            steps += 1
            if steps > LIMITS.pci_devices:
                text = f"more than {LIMITS.pci_devices} virtual functions; {how_to_raise('pci_devices')}"
                raise TooLargeError(f"{entry.place}: {text}")
            device = devices.get((address[0], bdf))
            if device is not None and device.is_vf is not False and device.physfn is None:
                devices[device.address] = replace(device, is_vf=True, physfn=address)
    for address, device in devices.items():
        physical = devices.get(device.physfn) if device.physfn is not None else None
        if physical is not None and device.parent is None and device.on_root_bus is not True:
            devices[address] = replace(device, parent=physical.parent, on_root_bus=physical.on_root_bus)


def _check_functions(devices: dict[Address, Device], remarks: Remarks) -> None:
    """A PF is another device of the same domain, and its VF is not known to be something else."""
    for address, device in devices.items():
        if device.physfn is None:
            continue
        if device.physfn[0] != device.domain or device.physfn == address or device.is_vf is False:
            remarks.add(f"{device.name} cannot be a virtual function of {bdf_text(*device.physfn)}")
            devices[address] = replace(device, physfn=None)
        elif device.is_vf is None:
            devices[address] = replace(device, is_vf=True)


def _check_parents(devices: dict[Address, Device], remarks: Remarks) -> None:
    """A parent is a bridge of the same domain."""
    for address in devices:
        device = devices[address]  # read again: an earlier child may have changed it
        if device.parent is None:
            continue
        above = devices.get(device.parent)
        if device.parent[0] != device.domain or above is None:
            remarks.add(f"{device.name}: {bdf_text(*device.parent)} cannot be above it")
            devices[address] = replace(device, parent=None, on_root_bus=None)
        elif not above.is_bridge:
            if above.is_bridge is False:
                remarks.add(f"{above.name} has {device.name} below it, but its header or class is not that of a bridge")
            devices[device.parent] = replace(above, is_bridge=True)


def _cut_loops(devices: dict[Address, Device], remarks: Remarks) -> None:
    """Remove the parents of devices that are not reachable from a root."""
    below: dict[Address | None, list[Address]] = {}
    for address, device in devices.items():
        below.setdefault(device.parent, []).append(address)
    level, reached = below.get(None, []), set[Address]()
    for _ in range(BUSES):
        reached.update(level)
        level = [child for address in level for child in below.get(address, ())]
    for address in sorted(devices.keys() - reached):
        remarks.add(f"{devices[address].name}: the bridges above it form a loop")
        devices[address] = replace(devices[address], parent=None, on_root_bus=None)
