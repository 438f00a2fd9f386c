# SPDX-License-Identifier: MIT
"""One thing is changed in a real handover: that is told, by its path, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import luoser
from luoser.diff import Change, Kind, compare
from luoser.state import State
from luoser.state.load import from_document
from tests import real
from tests.checks import mutants

FROZEN = "7.3-a/frozen"
Edit = Callable[[dict[str, Any]], None]


@cache
def _text() -> str:
    """With the first folios only of a file of 16,384, which would take most of the time of all that is done with it."""
    made: dict[str, Any] = json.loads(json.dumps(mutants.document(FROZEN)))
    for entry in made["handovers"][0]["luo"]["sessions"]:
        for file in entry["files"]:
            if file["memfd"] is not None and file["memfd"]["folios"]["count"] > 1024:
                file["memfd"]["folios"] |= {"count": 1024, "list": file["memfd"]["folios"]["list"][:1024]}
    return json.dumps(made)


def document() -> dict[str, Any]:
    """A real handover, to change as one likes."""
    made: dict[str, Any] = json.loads(_text())
    return made


@cache
def sound() -> State:
    return from_document(document())


def handover(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["handovers"][0]
    return found


def listed(values: dict[str, Any]) -> dict[str, Any]:
    """The list of family A, without what follows from its devices."""
    entry: dict[str, Any] = next(entry for entry in handover(values)["pci"] if entry["layout"] == "pci-lu-v2-03")
    entry.pop("slots", None)
    return entry


def session(values: dict[str, Any], name: str = "vm-web-01") -> dict[str, Any]:
    return next(entry for entry in handover(values)["luo"]["sessions"] if entry["name"] == name)


def device_added(values: dict[str, Any]) -> None:
    devices = listed(values)["devices"]
    devices.append({"index": len(devices), "bdf": "0000:99:00.0", "flags": 1, "driver_data": "0x0"})
    listed(values)["header"] = {}


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


def changed(path: list[str | int], value: Any) -> Edit:
    def edit(values: dict[str, Any]) -> None:
        here: Any = handover(values)
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return edit


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


def states(edit: Edit) -> tuple[State, State]:
    after = document()
    edit(after)
    return sound(), from_document(after)


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


def with_byte(address: int) -> tuple[Change, ...]:
    """What is told when one byte of memory is another."""
    memory = real.overlay(FROZEN)
    memory.write(address, bytes([memory.read(address, 1)[0] ^ 0xFF]))
    before, after = luoser.read(real.dump(FROZEN), contents=True), luoser.read(memory, contents=True)
    return compare(before, after, memories=(real.dump(FROZEN), memory), contents=True).changes


def test_a_byte_of_a_driver_page() -> None:
    (change,) = with_byte(0x1A96000 + 5)
    assert change.where == "pci/0000:41:00.0/driver_data/contents"
    assert "first differing byte 0x5" in change.note


def test_a_byte_of_a_folio() -> None:
    (change,) = with_byte(0x1D69000 + 0x10)
    assert change.where == "luo/sessions/vm-web-01/files/0x1b/folios/1/contents"
    assert change.before is not None and change.before.startswith("sha256 ")


def test_a_folio_that_two_paths_lead_to_is_one_change_that_names_both() -> None:
    values = document()
    memfd = session(values)["files"][1]["memfd"]
    memfd["folios"]["list"][2][1] = memfd["folios"]["list"][1][1]
    after = json.loads(json.dumps(values))
    session(after)["files"][1]["memfd"]["contents"][1]["bytes"] = "ff"
    (change,) = compare(from_document(values), from_document(after), contents=True).changes
    assert change.where.endswith("folios/1/contents")
    assert [path.endswith("folios/2/contents") for path in change.also] == [True]


def test_a_count_of_the_head_alone() -> None:
    memory = real.overlay(FROZEN)
    memory.write(0x1AD9000, (11).to_bytes(8, "little"))  # max_nr_devices of the list of family B
    found = compare(luoser.read(real.dump(FROZEN)), luoser.read(memory)).changes
    assert [change.where for change in found] == ["pci/flb:pci-v2/header/max_nr_devices"]
