# SPDX-License-Identifier: MIT
"""Every form of one real guest tells the same machine, each as far as it goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from luoser.topology import Topology, read_topology
from tests.topology.guest import GUEST, parents, said, unpack

BRIDGES = {
    "0000:00:01.0": (1, 1),
    "0000:00:02.0": (2, 4),
    "0000:00:03.0": (5, 5),
    "0000:00:04.0": (6, 6),
    "0000:02:00.0": (3, 4),
    "0000:03:00.0": (4, 4),
    "0000:40:00.0": (0x41, 0x41),
}
MASTERS = {"0000:00:01.0", "0000:00:02.0", "0000:00:03.0", "0000:00:1f.2", "0000:01:00.0", "0000:02:00.0",
           "0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:40:00.0", "0000:41:00.0"}  # fmt: skip
"""By BusMaster+ in what lspci -vvv made of it."""
PARENTS = {name: entry.parent for name, entry in said().items()}
PHYSFNS = {"0000:05:00.1": (0, 0x500), "0000:05:00.2": (0, 0x500)}
IDS = {"0000:05:00.0": (0x1B36, 0x0010, 0x010802), "0000:03:00.0": (0x104C, 0x8233, 0x060400)}


def sysfs(folder: Path, form: str) -> Path:
    """The guest's sysfs as people copy it."""
    match form:
        case "links" | "listing" | "devices":
            unpack(folder)
            return folder / {"links": "", "listing": "bus/pci/devices", "devices": "devices"}[form]
        case "no links":
            return unpack(folder, links=False)
        case "flat":  # the folders of the devices side by side
            for device in unpack(folder / "whole").glob("devices/**/config"):
                shutil.copytree(device.parent, folder / "flat" / device.parent.name, symlinks=True)
            for device in folder.glob("flat/*/0000:*"):
                shutil.rmtree(device)
            return folder / "flat"
    raise AssertionError(form)


SYSFS = ("links", "listing", "devices", "no links", "flat")
TEXTS = ("vmmnnDk", "vmmnD", "vmm", "x", "xxx", "xxxx", "nnvvvxxxx", "PP")


def read(form: str, folder: Path) -> Topology:
    if form in SYSFS:
        return read_topology(sysfs(folder, form))
    packed = GUEST / f"lspci-{form}.txt.xz"
    return read_topology(packed if packed.exists() else GUEST / f"lspci-{form}.txt")


def of(form: str, folder: Path) -> Topology:
    topology = read(form, folder)
    assert sorted(said()) == [device.name for device in topology.devices.values()]
    assert topology.remarks == ()
    return topology


each_form = pytest.mark.parametrize("form", [*SYSFS, *TEXTS])


@pytest.mark.parametrize("form", ["links", "listing", "devices", "no links", "flat", "xxx", "xxxx", "nnvvvxxxx"])
def test_parents_are_the_kernels(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    assert parents(topology) == PARENTS
    assert all(topology.reaches_root(device) for device in topology.devices.values())


@pytest.mark.parametrize("form", ["x", "PP"])
def test_a_root_bus_that_nothing_shows_to_be_one_is_not_taken_for_it(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    assert parents(topology) == PARENTS | {"0000:40:00.0": "?"}
    last = topology.devices[0, 0x4100]
    assert [bridge.name for bridge in topology.ancestors(last)] == ["0000:40:00.0"]
    assert not topology.reaches_root(last)


@pytest.mark.parametrize("form", ["vmmnnDk", "vmmnD", "vmm"])
def test_a_form_without_hierarchy_says_so(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    assert "parent" in topology.unknown and "lspci -x" in topology.unknown["parent"]
    assert parents(topology) == {name: "" if name.startswith("0000:00:") else "?" for name in PARENTS}


def test_the_chain_of_a_device_behind_a_switch(tmp_path: Path) -> None:
    topology = of("links", tmp_path)
    device = topology.device(0, 0x0400)
    assert device is not None
    assert [above.name for above in topology.ancestors(device)] == ["0000:03:00.0", "0000:02:00.0", "0000:00:02.0"]
    above = topology.ancestors(device)[0]
    assert topology.children(above) == (device,)
    assert topology.children(device) == ()


@each_form
def test_drivers(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    found = {device.name: device.driver for device in topology.devices.values()}
    if form in ("vmmnD", "vmm", "x", "xxx", "xxxx", "PP"):
        assert set(found.values()) == {None}
        assert "driver" in topology.unknown
    else:
        assert found == {name: entry.driver for name, entry in said().items()}
        assert "driver" not in topology.unknown


@each_form
def test_virtual_functions(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    if form in ("vmmnnDk", "vmmnD", "vmm", "PP"):
        assert {device.is_vf for device in topology.devices.values()} == {None}
        assert "is_vf" in topology.unknown
        return
    assert {device.name for device in topology.devices.values() if device.is_vf} == set(PHYSFNS)
    assert {device.name for device in topology.devices.values() if device.is_vf is None} == set()
    known = {device.name: device.physfn for device in topology.devices.values() if device.physfn}
    assert known == ({} if form in ("x", "xxx") else PHYSFNS)
    assert "is_vf" not in topology.unknown


@each_form
def test_bridges_and_their_buses(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    found = {device.name for device in topology.devices.values() if device.is_bridge}
    if form == "vmm":
        assert found == set() and "is_bridge" in topology.unknown
    elif form != "PP":
        assert found == set(BRIDGES)
    buses = {
        device.name: (device.secondary_bus, device.subordinate_bus)
        for device in topology.devices.values()
        if device.secondary_bus is not None
    }
    without = ("vmmnnDk", "vmmnD", "vmm", "PP")
    assert buses == ({} if form in without else BRIDGES)
    assert ("secondary_bus" in topology.unknown) == (form in without)


@each_form
def test_bus_mastering(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    if form in ("vmmnnDk", "vmmnD", "vmm", "PP"):
        assert {device.busmaster for device in topology.devices.values()} == {None}
        assert "busmaster" in topology.unknown
    else:
        assert {device.name for device in topology.devices.values() if device.busmaster} == MASTERS
        assert {device.name for device in topology.devices.values() if device.busmaster is False} == set(
            said()
        ) - MASTERS


@each_form
def test_ids_and_classes(form: str, tmp_path: Path) -> None:
    topology = of(form, tmp_path)
    for name, (vendor, device, class_code) in IDS.items():
        found = next(entry for entry in topology.devices.values() if entry.name == name)
        facts = (None, None, None) if form in ("vmm", "PP") else (vendor, device, class_code)
        assert (found.vendor, found.device, found.class_code) == facts
    assert ({"vendor", "class_code"} <= set(topology.unknown)) == (form in ("vmm", "PP"))


def test_a_vf_has_no_ids_of_its_own(tmp_path: Path) -> None:
    function = (0, 0x0501)
    assert of("xxxx", tmp_path).devices[function].vendor is None
    assert of("nnvvvxxxx", tmp_path).devices[function].vendor == 0x1B36  # lspci knows them of the kernel
    assert of("links", tmp_path).devices[function].vendor == 0x1B36


def test_links_that_lead_nowhere_still_tell_the_hierarchy(tmp_path: Path) -> None:
    """A copy of /sys/bus/pci/devices alone."""
    unpack(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole/bus/pci/devices", tmp_path / "links", symlinks=True)
    topology = read_topology(tmp_path / "links")
    assert parents(topology) == PARENTS
    assert {"driver", "busmaster", "class_code"} <= set(topology.unknown)
    assert any("lead" in remark for remark in topology.remarks)


def test_a_part_of_the_tree(tmp_path: Path) -> None:
    """The folder of a host bridge: the other one's devices are not there."""
    unpack(tmp_path)
    topology = read_topology(tmp_path / "devices/pci0000:40")
    assert parents(topology) == {"0000:40:00.0": "", "0000:41:00.0": "0000:40:00.0"}
    topology = read_topology(tmp_path / "devices/pci0000:00/0000:00:02.0/0000:02:00.0")
    assert parents(topology) == {name: PARENTS[name] for name in PARENTS if name[5:7] in ("02", "03", "04")} | {
        "0000:00:02.0": ""
    }
    assert [remark for remark in topology.remarks if "0000:00:02.0" in remark and "not listed" in remark]


def test_lspci_draws_the_same_tree() -> None:
    """The bridges that lspci -PP writes before a device are those that the hex dump leads to."""
    topology = read_topology(GUEST / "lspci-xxxx.txt.xz")
    for line in (GUEST / "lspci-PP.txt").read_text().splitlines():
        *above, name = [f"0000:{part}" for part in line.split(" ")[0].split("/")]
        device = next(entry for entry in topology.devices.values() if entry.name == name)
        assert [entry.name for entry in reversed(topology.ancestors(device))] == above
