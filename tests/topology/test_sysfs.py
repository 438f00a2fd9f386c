# SPDX-License-Identifier: MIT
"""Copies of sysfs that somebody made to harm, or badly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from luoser.errors import SourceError
from luoser.limits import Limits, limited
from luoser.topology import Device, read_topology
from luoser.topology import sysfs as sysfs_module
from tests.topology.guest import config, parents

ADDRESS = (0, 0x100)
PLACE = "devices/pci0000:00/0000:00:01.0/0000:01:00.0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copied /sys of one endpoint behind one bridge."""
    for place, kind in ((PLACE, "0x020000\n"), (str(Path(PLACE).parent), "0x060400\n")):
        folder = tmp_path / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "class").write_text(kind)
        (folder / "vendor").write_text("0x8086\n")
        (folder / "uevent").write_text("DRIVER=some\nPCI_CLASS=20000\n")
    (tmp_path / PLACE / "config").write_bytes(config(command=4))
    return tmp_path


def link(tree: Path, target: str | None = None) -> None:
    listing = tree / "bus/pci/devices"
    listing.mkdir(parents=True)
    (listing / "0000:01:00.0").symlink_to(target or f"../../../{PLACE}")
    (listing / "0000:00:01.0").symlink_to("../../../devices/pci0000:00/0000:00:01.0")


def device(tree: Path) -> Device:
    return read_topology(tree).devices[ADDRESS]


def test_the_tree_is_sound(tree: Path) -> None:
    topology = read_topology(tree)
    assert parents(topology) == {"0000:00:01.0": "", "0000:01:00.0": "0000:00:01.0"}
    assert (device(tree).driver, device(tree).busmaster, topology.remarks) == ("some", True, ())


def special_file(place: Path) -> None:
    os.mkfifo(place)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a link to a secret": lambda place: place.symlink_to("/etc/passwd"),
    "a link to endless bytes": lambda place: place.symlink_to("/dev/zero"),
    "a link to itself": lambda place: place.symlink_to(place.name),
    "a folder": lambda place: place.mkdir(),
    "a pipe": special_file,
    "rubbish": lambda place: place.write_bytes(b"\x1b[2J" * 4096),
    "nothing": lambda place: place.write_bytes(b""),
}


@pytest.mark.parametrize("name", ["class", "vendor", "device", "config"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_an_attribute_that_is_none_is_not_known(tree: Path, name: str, kind: str) -> None:
    place = tree / PLACE / name
    place.unlink(missing_ok=True)
    HOSTILE[kind](place)
    if name != "config":
        (tree / PLACE / "config").unlink()
    topology = read_topology(tree)
    found = topology.devices[ADDRESS]
    if (name, kind) != ("config", "rubbish"):  # any bytes are a configuration space
        assert getattr(found, {"class": "class_code", "config": "busmaster"}.get(name, name)) is None
        assert topology.remarks
    assert not any("\x1b" in remark or "root:" in remark for remark in topology.remarks)


@pytest.mark.parametrize("text", ["0x", "0x1000000", "twelve", "-1", "0x02 0x03", "020000"])
def test_a_class_that_is_no_number(tree: Path, text: str) -> None:
    (tree / PLACE / "class").write_text(text)
    (tree / PLACE / "config").unlink()
    assert device(tree).class_code is None
    assert "class: expected a hex number up to 0xffffff" in read_topology(tree).remarks[0]


def test_a_short_config_is_told(tree: Path) -> None:
    (tree / PLACE / "config").write_bytes(bytes(63))
    assert device(tree).busmaster is None
    assert "63 bytes" in read_topology(tree).remarks[0]


def test_a_link_that_leads_out_of_the_tree_is_not_followed(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "pci0000:00/0000:01:00.0"
    outside.mkdir(parents=True)
    (outside / "class").write_text("0x123456")
    link(tree, str(outside))
    topology = read_topology(tree)
    assert topology.devices[ADDRESS].class_code is None
    assert "its link points outside" in topology.remarks[0]
    assert parents(topology)["0000:01:00.0"] == ""


def test_a_link_to_itself_is_told(tree: Path) -> None:
    link(tree, "0000:01:00.0")
    topology = read_topology(tree)
    assert topology.devices[ADDRESS].class_code is None
    assert "its link is broken" in topology.remarks[0]


def test_a_link_to_another_device_has_no_place(tree: Path) -> None:
    link(tree, "../../../devices/pci0000:00/0000:00:01.0")
    topology = read_topology(tree)
    assert "expected a path that ends in its address" in topology.remarks[0]
    assert topology.devices[ADDRESS].parent is None


def test_a_walk_follows_no_links(tree: Path) -> None:
    (tree / PLACE / "0000:02:00.0").symlink_to(tree / "devices/pci0000:00")
    (tree / "devices/again").symlink_to(tree)
    assert list(read_topology(tree).devices) == [(0, 8), ADDRESS]


def test_a_walk_looks_into_devices_for_devices_only(tree: Path) -> None:
    (tree / PLACE / "net/eth0/0000:03:00.0").mkdir(parents=True)
    (tree / PLACE / "pci10000:00/10000:00:00.0").mkdir(parents=True)
    topology = read_topology(tree)
    assert parents(topology) == {"0000:00:01.0": "", "0000:01:00.0": "0000:00:01.0", "10000:00:00.0": ""}


def test_a_walk_has_an_end(tree: Path) -> None:
    with limited(Limits(sysfs_entries=5)), pytest.raises(SourceError, match="folders; --limit sysfs_entries=N"):
        read_topology(tree)


def test_a_deep_tree(tmp_path: Path) -> None:
    folder = tmp_path / "devices/pci0000:00"
    for bus in range(200):
        folder /= f"0000:{bus:02x}:00.0"
    folder.mkdir(parents=True)
    topology = read_topology(tmp_path)
    assert len(topology.ancestors(topology.devices[0, 199 << 8])) == 199


def test_a_driver_by_its_link_and_by_its_uevent(tree: Path) -> None:
    (tree / PLACE / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    assert device(tree).driver == "vfio-pci"
    (tree / PLACE / "driver").unlink()
    (tree / PLACE / "uevent").write_text("PCI_CLASS=20000\n")
    assert device(tree).driver == ""
    (tree / PLACE / "uevent").unlink()
    assert device(tree).driver is None
    (tree / PLACE / "subsystem").symlink_to("../../../../bus/pci")
    assert device(tree).driver == ""


@pytest.mark.parametrize("has_links", [True, False])
def test_only_a_copy_is_read_beyond_the_header(tree: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its links it may be the running machine, under whatever name that is mounted."""
    (tree / PLACE / "config").write_bytes(config(sriov=(1, 1, 1)))
    if has_links:
        (tree / PLACE / "subsystem").symlink_to("../../../../bus/pci")
    asked = []
    plain = os.read

    def spy(descriptor: int, size: int) -> bytes:
        asked.append(data := plain(descriptor, size))
        return data

    monkeypatch.setattr(sysfs_module.os, "read", spy)
    read_topology(tree)
    assert max(map(len, asked)) == (64 if has_links else 4096)


def test_a_physfn_that_is_no_device(tree: Path) -> None:
    (tree / PLACE / "physfn").symlink_to("../\x1b[2J")
    assert (device(tree).is_vf, device(tree).physfn) == (True, None)
    assert "physfn" in read_topology(tree).remarks[0] and "\x1b" not in read_topology(tree).remarks[0]


def test_a_folder_without_devices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no PCI device"):
        read_topology(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read_topology(tmp_path / "nothing")


def test_listing_that_is_a_link_out_of_the_copy_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/pci/devices/0000:00:01.0").mkdir(parents=True)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/bus").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="outside of the folder; not read"):
        read_topology(tmp_path / "copy")
