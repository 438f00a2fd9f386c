# SPDX-License-Identifier: MIT
"""One thing is changed in a real handover: that is told, by its path, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

import luoser
from luoser.changes import Kind, compare
from tests import real
from tests.changes.helpers import Edit, changed, handover, listed, session, states


def device_added(values: dict[str, Any]) -> None:
    devices = listed(values)["devices"]
    devices.append({"index": len(devices), "bdf": "0000:99:00.0", "flags": 1, "driver_data": "0x0"})
    listed(values)["header"]["count"] = len(devices)


def device_added_in_front(values: dict[str, Any]) -> None:
    devices = listed(values)["devices"]
    devices.insert(0, {"bdf": "0000:99:00.0", "flags": 1, "driver_data": "0x0"})
    for place, device in enumerate(devices):
        device["index"] = place


def device_removed(values: dict[str, Any]) -> None:
    del listed(values)["devices"][3]
    for place, device in enumerate(listed(values)["devices"]):
        device["index"] = place


def devices_swapped(values: dict[str, Any]) -> None:
    devices = listed(values)["devices"]
    devices[1], devices[2] = devices[2], devices[1]
    devices[1]["index"], devices[2]["index"] = 1, 2


def extent_dropped(values: dict[str, Any]) -> None:
    preserved = handover(values)["preserved"]
    assert preserved["extents"].pop(0) == ["0x19a000", 0, 2]
    preserved["entries"] = preserved["pages"] = None


EDITS: dict[str, tuple[Edit, Kind, str]] = {
    "device added": (device_added, Kind.ADDED, "pci/0000:99:00.0"),
    "device added in front": (device_added_in_front, Kind.ADDED, "pci/0000:99:00.0"),
    "device removed": (device_removed, Kind.REMOVED, "pci/0000:04:00.0"),
    "devices swapped": (devices_swapped, Kind.CHANGED, "pci/order"),
    "flag flipped": (lambda v: listed(v)["devices"][0].update(flags=3), Kind.CHANGED, "pci/0000:41:00.0/flags"),
    "driver_data changed": (
        lambda v: listed(v)["devices"][0].update(driver_data="0x1234000"),
        Kind.CHANGED,
        "pci/0000:41:00.0/driver_data",
    ),
    "token changed": (
        lambda v: session(v)["files"][1].update(token="0x77"),
        Kind.CHANGED,
        "luo/sessions/vm-web-01/files/0x1b/token",
    ),
    "file gone": (lambda v: session(v)["files"].pop(2), Kind.REMOVED, "luo/sessions/vm-web-01/files/0x1c"),
    "session renamed": (lambda v: session(v).update(name="vm-web-02"), Kind.CHANGED, "luo/sessions/vm-web-01/name"),
    "seals changed": (
        lambda v: session(v)["files"][0]["memfd"].update(seals=8),
        Kind.CHANGED,
        "luo/sessions/vm-web-01/files/0x1a/seals",
    ),
    "folio elsewhere": (
        lambda v: session(v)["files"][1]["memfd"]["folios"]["list"][3].__setitem__(1, "0x2222000"),
        Kind.CHANGED,
        "luo/sessions/vm-web-01/files/0x1b/folios/3/address",
    ),
    "extent dropped": (extent_dropped, Kind.REMOVED, "preserved/0x19a000"),
    "FLB count": (lambda v: handover(v)["luo"]["flbs"][0].update(count=63), Kind.CHANGED,
                  "luo/flbs/liveupdate-test-flb-v0/count"),
    "number": (changed(["luo", "liveupdate_number"], 2), Kind.CHANGED, "luo/number"),
    "reservation moved": (
        changed(["memblock", "reservations", 0, "start"], "0x3f000000"), Kind.CHANGED, "memblock/labmem/start"
    ),
    "kexec count": (changed(["kexec_metadata", "kexec_count"], 9), Kind.CHANGED, "kexec_metadata/kexec_count"),
    "sub-tree gone": (
        lambda v: handover(v)["subtrees"].pop(0), Kind.REMOVED, "subtrees/pci-luo-lab"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_one_change_is_told_by_its_path_and_nothing_else(name: str) -> None:
    edit, kind, where = EDITS[name]
    found = compare(*states(edit), contents=True).changes
    assert [(change.kind, change.where) for change in found] == [(kind, where)]


@pytest.mark.parametrize("name", EDITS)
def test_the_other_way_round_it_is_one_change_too(name: str) -> None:
    before, after = states(EDITS[name][0])
    assert len(compare(after, before, contents=True).changes) == 1


@pytest.mark.parametrize("name", real.DUMPS)
def test_a_state_does_not_differ_from_itself(name: str) -> None:
    state = luoser.read(real.dump(name), contents=True)
    assert compare(state, state, memories=(real.dump(name), real.dump(name)), contents=True).changes == ()
