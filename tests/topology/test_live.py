# SPDX-License-Identifier: MIT
"""The machine that the tests run on: sysfs against lspci."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from luoser.topology import SYSFS, Device, Topology, read_topology
from luoser.topology import sysfs as sysfs_module
from tests.topology.guest import parents

pytestmark = pytest.mark.skipif(
    not Path(SYSFS).is_dir() or not any(Path(SYSFS).iterdir()), reason="this machine shows no PCI devices"
)
LSPCI = shutil.which("lspci")
needs_lspci = pytest.mark.skipif(LSPCI is None, reason="no lspci here")


def lspci(*options: str, folder: Path) -> Topology:
    assert LSPCI is not None
    text = subprocess.run([LSPCI, *options], check=True, capture_output=True).stdout
    (folder / "text").write_bytes(text)
    return read_topology(folder / "text")


@needs_lspci
@pytest.mark.parametrize("options", [("-vmmnnD", "-k"), ("-D", "-x"), ("-xxxx",), ("-vvnn", "-xxx")], ids=" ".join)
def test_lspci_agrees_in_all_that_it_tells(options: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = read_topology(), lspci(*options, folder=tmp_path)
    assert ours.devices.keys() == theirs.devices.keys()
    for address, device in theirs.devices.items():
        for entry in fields(Device):
            value = getattr(device, entry.name)
            if value is not None:
                assert getattr(ours.devices[address], entry.name) == value, (device.name, entry.name)


def test_the_hierarchy_is_that_of_the_folders() -> None:
    for name, parent in parents(read_topology()).items():
        above = Path(SYSFS, name).resolve().parent.name
        assert parent == ("" if above.startswith("pci") else above)


def test_the_other_ways_into_sysfs_lead_to_the_same() -> None:
    ours = read_topology()
    assert read_topology("live:") == ours
    assert read_topology("/sys").devices == ours.devices
    assert read_topology("/sys/devices").devices == ours.devices


def test_the_running_machine_is_asked_for_no_more_than_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = os.read

    def spy(descriptor: int, size: int) -> bytes:
        asked.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), size))
        return plain(descriptor, size)

    monkeypatch.setattr(sysfs_module.os, "read", spy)
    assert read_topology().devices
    assert {size for name, size in asked if name.endswith("/config")} == {64}
