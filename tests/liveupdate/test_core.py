# SPDX-License-Identifier: MIT
"""The PCI core as queued for 7.4, under the orchestrator of today."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

import luoser
from luoser.checks import Severity, check
from luoser.errors import UsageError
from luoser.liveupdate import CoreMachine, Failure, Panic, load_scenario
from luoser.state import State
from luoser.state.load import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from tests import golden
from tests.liveupdate.test_machine import scenarios

ROOT, UP, LEFT, RIGHT, ONE, TWO = (
    f"0000:{bdf}" for bdf in ("00:01.0", "01:00.0", "02:00.0", "02:01.0", "03:00.0", "04:00.0")
)
VF = "0000:04:00.1"


def switch(**more: Any) -> dict[str, Any]:
    devices = [
        {"bdf": ROOT, "driver": "pcieport"},
        {"bdf": UP, "parent": ROOT, "driver": "pcieport"},
        {"bdf": LEFT, "parent": UP, "driver": "pcieport"},
        {"bdf": RIGHT, "parent": UP, "driver": "pcieport"},
        {"bdf": ONE, "parent": LEFT, "driver": "vfio-pci"},
        {"bdf": TWO, "parent": RIGHT, "driver": "vfio-pci"},
        {"bdf": VF, "parent": RIGHT, "driver": "vfio-pci", "physfn": TWO},
    ]
    return {"series": "core-2", "devices": devices, "requested": [ONE, TWO], **more}


def run(until: str = "finish", **more: Any) -> CoreMachine:
    machine = CoreMachine(load_scenario(switch(**more)))
    machine.run(until=until)
    return machine


def refcounts(machine: CoreMachine) -> dict[str, int]:
    names = {(device.domain, device.bdf): device.name for device in machine.tree.enumerate()}
    return {names[row[0], row[1]]: row[2] for row in machine.core.records() if row[2]}


def image(machine: CoreMachine) -> State:
    """The state that is read back, after a look at the bytes of every folio."""
    made = write(from_document(complete(machine.document(), kernel="7.3")))
    for folio in machine.pages.preserved():
        assert made.read(folio.address, len(folio.data)) == folio.data
    return luoser.read(made.memory())


def test_the_golden_list() -> None:
    places = {"pci_ser": 0x1F1D28000, "pci block 0": 0x1F1D29000}
    devices = [
        {"bdf": "0000:04:01.0", "driver": "pcieport"},
        {"bdf": "0000:05:00.1", "parent": "0000:04:01.0", "driver": "vfio-pci"},
    ]
    machine = run("freeze", devices=devices, requested=["0000:05:00.1"], places=places)
    assert machine.pages.folios[0x1F1D28000].data[:16] == (golden.GOLDEN / "pci-version-2.bin").read_bytes()
    assert machine.pages.folios[0x1F1D29000].data == (golden.GOLDEN / "pci-version-2.block.bin").read_bytes()


def test_bridges_count_what_is_preserved_below_them() -> None:
    assert refcounts(run("freeze")) == {ONE: 1, LEFT: 1, UP: 2, ROOT: 2, TWO: 1, RIGHT: 1}


def test_version_1_has_endpoints_only() -> None:
    machine = run("freeze", series="core-1")
    assert refcounts(machine) == {ONE: 1, TWO: 1}
    assert image(machine).handovers[0].pci[0].layout == "pci-version-1"


def test_after_unpreserving_one_there_are_holes() -> None:
    machine = run("prepare")
    session = machine.sessions.sessions[0]
    machine.sessions.unpreserve(session, session.files[0])
    assert refcounts(machine) == {TWO: 1, RIGHT: 1, UP: 1, ROOT: 1}
    assert machine.core.records()[:2] == [(0, 0, 0), (0, 0, 0)]
    assert machine.core.head()[1] == 4
    machine.step("freeze")
    assert len(image(machine).handovers[0].pci[0].devices) == 4


def test_the_flb_lives_as_long_as_files_depend_on_it() -> None:
    machine = run("prepare")
    assert machine.sessions.flb is not None
    assert machine.sessions.flb.count == 2
    machine.step("cancel")
    assert machine.sessions.flb is None
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_all_of_it() -> None:
    machine = run()
    assert (machine.error, machine.leaks(), machine.pages.mistakes) == (None, [], [])
    assert machine.core.incoming == [ROOT, UP, LEFT, RIGHT, ONE, TWO]


def test_another_version_panics() -> None:
    machine = run(next_series="core-1")
    assert isinstance(machine.error, Panic)
    assert "version 2 was handed over, 1 is expected" in str(machine.error)


def test_devices_that_are_left_at_the_end_panic() -> None:
    machine = run("restore")
    machine.core.preserve(machine.tree.find(UP))
    with pytest.raises(Panic, match="still preserved"):
        machine.step("finish")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"requested": [ONE, VF]}, "-EINVAL"),
        ({"requested": [ONE, ONE]}, "-EBUSY"),
        ({"drivers": {TWO: "nvme"}}, "-ENOENT"),
        ({"faults": [{"at": "prepare", "device": TWO, "errno": "ENOSPC"}]}, "-ENOSPC"),
        ({"faults": [{"at": "allocate", "folio": "pci_ser", "errno": "ENOMEM"}]}, "-ENOMEM"),
        ({"faults": [{"at": "preserve", "folio": "pci_ser"}]}, "-EIO"),
        ({"faults": [{"at": "allocate", "folio": "pci block 0", "errno": "ENOMEM"}]}, "-ENOMEM"),
        ({"faults": [{"at": "preserve", "folio": "pci block 0"}]}, "-EIO"),
        ({"faults": [{"at": "allocate", "folio": f"vfio-pci {TWO}", "errno": "ENOMEM"}]}, "-ENOMEM"),
        ({"faults": [{"at": "preserve", "folio": f"vfio-pci {TWO}"}]}, "-EIO"),
    ],
)
def test_preserving_fails_and_leaves_nothing(change: dict[str, Any], error: str) -> None:
    machine = run(**change)
    assert str(machine.error) == error
    assert (machine.leaks(), machine.pages.mistakes, machine.sessions.flb) == ([], [], None)


def test_a_freeze_that_fails_leaves_the_session_usable() -> None:
    machine = run(faults=[{"at": "freeze", "device": TWO, "errno": "EBUSY"}])
    assert str(machine.error) == "-EBUSY"
    assert [str(event) for event in machine.trace.events][-1] == f"    - vfio-pci-v1 unfreeze({ONE}, 0x2002000)"
    with pytest.raises(UsageError, match="nothing is serialised"):
        machine.document()
    machine.step("cancel")
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_nothing_changes_after_the_freeze() -> None:
    machine = run("freeze")
    with pytest.raises(Failure, match="-EBUSY"):
        machine.sessions.create("other")


def test_names_and_tokens_are_unique() -> None:
    machine = run("prepare")
    with pytest.raises(Failure, match="-EEXIST"):
        machine.sessions.create("vm")
    with pytest.raises(Failure, match="-EEXIST"):
        machine.sessions.preserve(machine.sessions.sessions[0], 1, TWO)


def test_more_devices_than_a_block_holds() -> None:
    devices = [{"bdf": f"0000:{bus:02x}:{slot:02x}.0", "driver": "vfio-pci"} for bus in range(17) for slot in range(32)]
    asked = [device["bdf"] for device in devices][:511]
    machine = run("freeze", devices=devices, requested=asked)
    assert len(machine.core.blocks()) == 2
    assert len(image(machine).handovers[0].pci[0].devices) == 511


@pytest.mark.parametrize(
    "more", [{"changes": [{"before": "freeze", "unbind": ONE}]}, {"faults": [{"at": "walk", "device": ONE}]}]
)
def test_what_belongs_to_the_other_series_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="for the series v2"):
        run(**more)


@settings(max_examples=60)
@given(values=scenarios())
def test_any_tree_goes_there_and_back_and_check_finds_nothing(values: dict[str, Any]) -> None:
    asked = [device["bdf"] for device in values["devices"] if device["driver"] == "vfio-pci"]
    scenario = load_scenario({**values, "series": "core-2", "requested": asked, "faults": []})
    machine = CoreMachine(scenario)
    machine.run(until="freeze")
    assert machine.error is None
    found = check(image(machine), topology=scenario.topology).findings
    assert [one for one in found if one.severity is not Severity.INFO] == []
    for step in ("kexec", "restore", "finish"):
        machine.step(step)
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])
