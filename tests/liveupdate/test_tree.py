# SPDX-License-Identifier: MIT
"""Trees out of topologies, and the order in which a kernel walks them."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.liveupdate import load_scenario
from luoser.liveupdate.tree import HostBridge, PciDevice, Tree, from_topology
from luoser.topology import Device, Topology, read_topology
from tests.real import REAL


def tree(*devices: dict[str, Any]) -> Tree:
    return from_topology(load_scenario({"devices": list(devices)}).topology)


TWO_ROOTS = (
    {"bdf": "0000:00:01.0"},
    {"bdf": "0000:00:02.0"},
    {"bdf": "0000:01:00.0", "parent": "0000:00:01.0"},
    {"bdf": "0000:02:00.0", "parent": "0000:00:02.0"},
    {"bdf": "0000:02:01.0", "parent": "0000:00:02.0"},
    {"bdf": "0000:40:00.0"},
)


def test_the_walk_takes_the_last_root_and_the_last_child_first() -> None:
    assert [bus.number for bus in tree(*TWO_ROOTS).buses()] == [0x40, 2, 1, 0]


def test_a_device_is_found_after_others_came_and_went() -> None:
    found = tree(*TWO_ROOTS, {"bdf": "0001:00:01.0"})
    first = found.find("0000:00:01.0")
    assert found.at(first.bdf) == [first, found.find("0001:00:01.0")]
    found.remove(first)
    assert [device.name for device in found.at(first.bdf)] == ["0001:00:01.0"]
    for name in ("0000:00:01.0", "0000:01:00.0"):
        with pytest.raises(UsageError):
            found.find(name)
    old = found.find("0000:00:02.0")
    new = PciDevice(old.domain, old.bdf, old.bus, old.parent)
    found.add(new)
    assert found.find("0000:00:02.0") is new
    assert list(found.enumerate()).count(old) == 0


def test_enumeration_takes_a_bus_before_what_is_below_it() -> None:
    assert [device.name for device in tree(*TWO_ROOTS).enumerate()] == [
        "0000:00:01.0",
        "0000:00:02.0",
        "0000:01:00.0",
        "0000:02:00.0",
        "0000:02:01.0",
        "0000:40:00.0",
    ]


def test_the_real_machine_has_two_root_buses() -> None:
    found = from_topology(read_topology(REAL / "7.3-a/topology.json"))
    assert [bus.number for bus in found.roots] == [0, 0x40]
    assert [bridge.name for bridge in found.find("0000:04:00.0").above] == [
        "0000:03:00.0",
        "0000:02:00.0",
        "0000:00:02.0",
    ]


def test_virtual_functions_have_the_parent_of_their_pf_and_maybe_a_bus_without_bridge() -> None:
    found = tree(
        {"bdf": "0000:00:01.0"},
        {"bdf": "0000:01:00.0", "parent": "0000:00:01.0"},
        {"bdf": "0000:01:00.1", "parent": "0000:00:01.0", "physfn": "0000:01:00.0"},
        {"bdf": "0000:02:00.0", "parent": "0000:00:01.0", "physfn": "0000:01:00.0"},
    )
    near, far = found.find("0000:01:00.1"), found.find("0000:02:00.0")
    assert near.parent is far.parent is found.find("0000:00:01.0")
    assert near.bus is found.find("0000:01:00.0").bus
    assert (far.bus.number, far.bus.bridge) == (2, None)
    assert [bus.number for bus in found.buses()] == [2, 1, 0]


def test_the_parent_of_a_device_on_a_root_bus_is_the_host_bridge() -> None:
    parent = tree({"bdf": "0001:40:01.0"}).find("0001:40:01.0").parent
    assert isinstance(parent, HostBridge)
    assert parent.name == "pci0001:40"


def test_what_is_below_a_removed_device_goes_with_it() -> None:
    found = tree(*TWO_ROOTS)
    found.remove(found.find("0000:00:02.0"))
    assert [device.name for device in found.enumerate()] == ["0000:00:01.0", "0000:01:00.0", "0000:40:00.0"]


def test_a_topology_without_its_hierarchy_is_refused() -> None:
    device = Device(domain=0, bdf=0x100)
    with pytest.raises(UsageError, match="its parent is not known; use a topology from sysfs"):
        from_topology(Topology(devices={device.address: device}))


def test_a_virtual_function_of_nothing_is_refused() -> None:
    device = Device(domain=0, bdf=0x100, on_root_bus=True, physfn=(0, 0x200))
    with pytest.raises(UsageError, match="physical function"):
        from_topology(Topology(devices={device.address: device}))


def test_a_device_that_is_not_there_is_a_usage_error() -> None:
    for name, words in (("0000:00:1e.0", "no device 0000:00:1e.0"), ("nvme0", "'nvme0' is not a PCI address")):
        with pytest.raises(UsageError, match=words):
            tree({"bdf": "00:01.0"}).find(name)
