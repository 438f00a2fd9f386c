# SPDX-License-Identifier: MIT
"""The known bugs of the series, by their number in the ABI's list A.9: with each, and without."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.liveupdate import Failure, Panic, SubsystemMachine, load_scenario, simulate
from luoser.liveupdate.drivers import LabDriver
from luoser.liveupdate.memory import Place
from luoser.liveupdate.subsystems.luo import LuoState
from tests.liveupdate.machines import BRIDGE, FOLIO, VF, golden, run, switch

DEEP, SHALLOW = "0000:02:00.0", "0000:00:02.0"


class Refuses(LabDriver):
    """Fails to freeze."""

    def freeze(self, device: Any, data: int) -> int:
        raise Failure(5)


def lab(until: str = "finish", *, fixed: bool = False, refuses: bool = False, **more: Any) -> SubsystemMachine:
    drivers = {DEEP: Refuses()} if refuses else None
    return simulate(load_scenario(switch(**more)), until=until, is_fixed=fixed, drivers=drivers)  # type: ignore[arg-type]


def test_1_only_the_direct_parent_is_marked() -> None:
    machine = run("prepare")
    assert [device.name for device in machine.pci.outgoing.preserved] == [VF, BRIDGE]
    assert 1 in machine.trace.bugs
    assert len(run("prepare", fixed=True).pci.outgoing.preserved) == 4


def test_2_the_host_bridge_is_marked_for_good() -> None:
    machine = lab("cancel")
    assert machine.flags_left() == ["pci0000:00 2"]
    assert 2 in machine.trace.bugs
    assert lab("cancel", fixed=True).flags_left() == []


@pytest.mark.parametrize("step", ["cancel", "freeze"])
def test_3_a_removed_device_stays_on_the_list(step: str) -> None:
    changes = [{"before": step, "remove": DEEP}]
    machine = lab(step, changes=changes)
    assert isinstance(machine.error, Panic)
    assert "use after free" in str(machine.error)
    assert 3 in machine.trace.bugs
    machine = lab(step, fixed=True, changes=changes)
    assert (machine.error, machine.pages.mistakes) == (None, [])


def test_3_without_it_on_the_list_all_that_follow_get_the_data_of_another() -> None:
    machine = lab("cancel", changes=[{"before": "cancel", "unlink": DEEP}])
    assert 3 in machine.trace.bugs
    assert [folio.what for folio in machine.leaks()] == [f"lab {DEEP}", f"lab {SHALLOW}"]
    assert machine.pages.mistakes[0] == "un-preserve 0x0, which this kernel never preserved"
    machine = lab("cancel", fixed=True, changes=[{"before": "cancel", "unlink": DEEP}])
    assert machine.leaks() == []


@pytest.mark.parametrize("step", ["cancel", "freeze", "finish"])
def test_4_a_device_without_its_driver_panics(step: str) -> None:
    changes = [{"before": step, "unbind": VF}]
    machine = run(step, changes=changes)
    assert isinstance(machine.error, Panic)
    assert 4 in machine.trace.bugs
    assert not isinstance(run(step, fixed=True, changes=changes).error, Panic)


def test_5_by_a_fault_of_a_scenario() -> None:
    machine = lab("freeze", faults=[{"at": "freeze", "device": SHALLOW, "errno": "EBUSY"}])
    assert str(machine.error) == "-EBUSY"
    assert {5, 7} <= machine.trace.bugs


def test_4_a_probe_that_fails_in_the_next_kernel_panics_at_finish() -> None:
    faults = [{"at": "probe", "device": VF}]
    assert isinstance(run(faults=faults).error, Panic)
    assert run(fixed=True, faults=faults).error is None


def test_5_a_failed_freeze_leaks_the_folio_and_leaves_the_old_value() -> None:
    machine = lab("freeze", refuses=True)
    first = machine.pci.outgoing.folio.address
    assert machine.luo.state is LuoState.NORMAL
    assert machine.luo.handed_over == {"pci": first}
    assert [folio.what for folio in machine.leaks()] == ["LUO tree", "pci folio"]
    machine.step("prepare")
    assert machine.pci.outgoing.folio.address != first
    assert machine.pages.folios[first].place is Place.PRESERVED
    machine = lab("freeze", refuses=True, fixed=True)
    assert (machine.leaks(), machine.luo.fdt) == ([], 0)


def test_6_a_driver_without_callbacks_is_called_at_freeze() -> None:
    changes = [{"before": "freeze", "bind": VF, "driver": "nvme"}]
    machine = run("freeze", changes=changes)
    assert isinstance(machine.error, Panic)
    assert 6 in machine.trace.bugs
    assert str(run("freeze", fixed=True, changes=changes).error) == "-EPERM"


def test_7_the_one_that_fails_to_freeze_and_those_behind_it_get_cancel() -> None:
    texts = [event.text for event in lab("freeze", refuses=True).trace.events if event.bug == 7]
    assert texts == [
        f"{DEEP} gets cancel for its own failed freeze",
        f"{SHALLOW} gets cancel without having been frozen",
    ]


def test_7_the_one_that_fails_to_prepare_gets_no_cancel() -> None:
    machine = lab("prepare", faults=[{"at": "prepare", "device": DEEP}])
    assert 7 in machine.trace.bugs


def test_8_finish_unpreserves_what_this_kernel_never_preserved() -> None:
    machine = run()
    assert machine.pages.mistakes == [f"un-preserve {FOLIO:#x}, which this kernel never preserved"]
    assert run(fixed=True).pages.mistakes == []


def test_8_and_frees_it_even_if_it_was_not_restored() -> None:
    def finish(fixed: bool) -> list[str]:
        machine = SubsystemMachine(load_scenario(golden(requested=[])), is_fixed=fixed)
        machine.run(until="kexec")
        machine.boot()
        machine.register()
        machine.luo.finish()
        return machine.pages.mistakes

    assert f"free {FOLIO:#x}, which was not restored" in finish(False)
    assert finish(True) == []


def test_9_what_is_not_enumerated_is_lost_silently() -> None:
    changes = [{"before": "restore", "remove": VF}]
    machine = run(changes=changes)
    assert machine.error is None
    assert 9 in machine.trace.bugs
    assert [folio.what for folio in machine.leaks()] == ["LUO tree", f"pci-lu-stub {VF}"]
    fixed = run(fixed=True, changes=changes)
    assert any(": no device matches" in str(event) for event in fixed.trace.events)
    assert 9 not in fixed.trace.bugs


def test_10_a_device_that_is_added_later_inherits_the_state() -> None:
    changes = [{"before": "finish", "add": VF, "driver": "nvme"}]
    machine = run(changes=changes)
    assert 10 in machine.trace.bugs
    assert len([device for device in machine.pci.incoming.probed if device.name == VF]) == 2
    fixed = run(fixed=True, changes=changes)
    assert 10 not in fixed.trace.bugs


def test_10_a_vmd_domain_is_taken_for_another() -> None:
    devices = [{"bdf": "10000:00:01.0", "driver": "lab"}, {"bdf": "0000:00:01.0", "driver": "nvme"}]
    asked = {"devices": devices, "requested": ["10000:00:01.0"]}
    machine = simulate(load_scenario(asked), until="restore")
    assert 10 in machine.trace.bugs
    assert machine.tree.find("0000:00:01.0").entry == 0
    assert str(simulate(load_scenario(asked), until="prepare", is_fixed=True).error) == "-EOVERFLOW"


def test_11_busmaster_stays_set_after_finish() -> None:
    machine = run()
    assert machine.flags_left() == [f"{VF} 1"]
    machine.pci.incoming.set_busmaster(machine.tree.find(VF), False)
    assert machine.tree.find(VF).busmaster
    machine = run(fixed=True)
    machine.pci.incoming.set_busmaster(machine.tree.find(VF), False)
    assert not machine.tree.find(VF).busmaster


def test_12_a_callback_that_iterates_over_buses_waits_for_itself() -> None:
    faults = [{"at": "walk", "device": VF}]
    machine = run("prepare", faults=faults)
    assert isinstance(machine.error, Panic)
    assert 12 in machine.trace.bugs
    assert run("prepare", fixed=True, faults=faults).error is None


def test_13_a_driver_of_another_name_cannot_take_over() -> None:
    machine = run(changes=[{"before": "restore", "bind": VF, "driver": "vfio-pci"}])
    assert {4, 13} <= machine.trace.bugs
    assert isinstance(machine.error, Panic)


def test_16_the_stub_drops_its_page_without_unpreserving_it() -> None:
    machine = run("cancel")
    assert 16 in machine.trace.bugs
    assert [folio.address for folio in machine.leaks()] == [0x1AC6F4000]
    assert run("cancel", fixed=True).leaks() == []
