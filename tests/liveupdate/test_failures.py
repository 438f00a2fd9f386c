# SPDX-License-Identifier: MIT
"""Every way in which a step of the series can fail, by what the ABI says comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.liveupdate import Driver, Failure, Machine, Panic, load_scenario, simulate
from luoser.liveupdate.luo import LuoState
from luoser.liveupdate.memory import Place
from luoser.liveupdate.trace import Kind
from tests.liveupdate.machines import BRIDGE, FOLIO, VF, golden, run, switch

DEEP, SHALLOW = "0000:02:00.0", "0000:00:02.0"


def lab(until: str = "finish", *, fixed: bool = False, **more: Any) -> Machine:
    return simulate(load_scenario(switch(**more)), until=until, is_fixed=fixed)


def calls(machine: Machine, callback: str) -> list[str]:
    """The devices whose callback ran, in order."""
    found = [text for text in machine.trace.of(Kind.CALL) if f" {callback}(" in text]
    return [text.split("(")[1].split(",")[0].rstrip(")") for text in found]


# -- prepare: -ENOMEM, preserving fails, no driver, no callbacks, names, the driver's own


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"faults": [{"at": "allocate", "errno": "ENOMEM"}]}, "-ENOMEM"),
        ({"faults": [{"at": "preserve", "errno": "EINVAL"}]}, "-EINVAL"),
        ({"drivers": {VF: ""}}, "-ENOENT"),
        ({"drivers": {VF: "nvme"}}, "-EPERM"),
        ({"series": "v2-06"}, "-EPERM"),
        ({"faults": [{"at": "prepare", "device": VF, "errno": "EBUSY"}]}, "-EBUSY"),
    ],
    ids=["no memory", "not preserved", "no driver", "no callbacks", "no callbacks of pcieport", "the driver's own"],
)
def test_prepare_fails(change: dict[str, Any], error: str) -> None:
    machine = run("prepare", **change)
    assert isinstance(machine.error, Failure)
    assert str(machine.error) == error
    assert machine.luo.state is LuoState.NORMAL
    assert machine.luo.tree is None
    assert [folio for folio in machine.leaks() if folio.address == FOLIO] == []
    assert machine.tree.find(BRIDGE).flags == 0
    assert machine.pci.preserved == []


@pytest.mark.parametrize(("name", "error"), [("", "-ENXIO"), ("x" * 63, "-ENOSPC")])
def test_prepare_refuses_a_driver_by_its_name(name: str, error: str) -> None:
    machine = run("prepare", own={VF: Driver(name)})
    assert str(machine.error) == error


def test_a_name_of_62_characters_is_taken() -> None:
    assert run("prepare", own={VF: Driver("x" * 62)}).error is None


def test_names_are_not_looked_at_before_patch_06() -> None:
    machine = run("prepare", series="lab", own={VF: Driver("x" * 63)})
    assert machine.error is None
    assert machine.pci.form.record.size == 16


def test_a_failing_prepare_cancels_those_before_it_only() -> None:
    machine = lab("prepare", faults=[{"at": "prepare", "device": SHALLOW, "errno": "EBUSY"}])
    assert calls(machine, "prepare") == [DEEP, SHALLOW]
    assert calls(machine, "cancel") == [DEEP]
    assert machine.leaks() == []


def test_the_value_is_written_after_all_subsystems_prepared() -> None:
    texts = [event.text for event in run("prepare").trace.events]
    assert texts.index("PCI liveupdate: prepare data[1f1d28000]") < texts.index(
        "LUO: write /subsystems pci = 0x1f1d28000"
    )


def test_with_nothing_asked_for_an_empty_folio_is_handed_over() -> None:
    machine = run("freeze", requested=[])
    assert machine.luo.tree == {"pci": FOLIO}
    assert not any(machine.pages.folios[FOLIO].data)


# -- cancel


def test_cancel_undoes_everything() -> None:
    machine = lab("cancel")
    assert (machine.error, machine.leaks(), machine.pages.mistakes, machine.luo.tree) == (None, [], [], None)
    assert calls(machine, "cancel") == [DEEP, SHALLOW]


def test_cancel_without_a_driver_panics() -> None:
    assert isinstance(run("cancel", changes=[{"before": "cancel", "unbind": VF}]).error, Panic)


def test_cancel_with_a_driver_without_callbacks_panics() -> None:
    assert isinstance(run("cancel", changes=[{"before": "cancel", "bind": VF, "driver": "nvme"}]).error, Panic)


# -- freeze


def test_a_failing_freeze_cancels_all_and_leaves_the_folio() -> None:
    class Frozen(Driver):
        def freeze(self, device: Any, data: int) -> int:
            raise Failure(5)

    machine = simulate(load_scenario(switch()), until="freeze", drivers={SHALLOW: Frozen("mine")})
    assert str(machine.error) == "-EIO"
    assert machine.luo.state is LuoState.NORMAL
    assert calls(machine, "cancel") == [DEEP]  # Frozen has no cancel
    address = machine.pci.folio
    assert address is not None
    assert machine.luo.tree == {"pci": address}
    assert [folio.place for folio in machine.leaks()] == [Place.PRESERVED]


def test_freeze_may_change_the_value() -> None:
    class Changes(Driver):
        def freeze(self, device: Any, data: int) -> int:
            return 0x1234

    machine = run("freeze", own={VF: Changes("mine")})
    assert machine.pci.entries(FOLIO)[0].driver_data == 0x1234


def test_freeze_without_a_driver_panics() -> None:
    assert isinstance(run("freeze", changes=[{"before": "freeze", "unbind": VF}]).error, Panic)


# -- the next kernel


def test_registering_late_fails_hard_only_in_a_kernel_that_was_handed_state() -> None:
    machine = run("prepare", faults=[{"at": "register"}])
    assert machine.error is None
    machine = Machine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.pci.faults = {("register", "pci"): 5}
    with pytest.raises(Panic):
        machine.pci.register()


@pytest.mark.parametrize("value", [0, 0x5000])
def test_restore_without_a_value_or_a_folio_panics(value: int) -> None:
    machine = Machine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.luo.incoming = {"pci": value} if value else {}
    with pytest.raises(Panic):
        machine.step("restore")


def test_an_override_that_cannot_be_set_panics() -> None:
    assert isinstance(run(faults=[{"at": "override", "device": VF}]).error, Panic)


def test_bus_mastering_that_is_off_is_warned_of() -> None:
    machine = Machine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.pci.register()
    machine.tree.find(VF).busmaster = False
    machine.pci.restore()
    assert [text for text in machine.trace.of(Kind.LOG) if "WARNING" in text] == [
        f"pci {VF}: WARNING: bus mastering is off"
    ]


def test_driver_data_is_for_devices_of_the_list_in_a_kernel_that_was_handed_state() -> None:
    machine = run("prepare")
    with pytest.raises(Failure, match="-EINVAL"):
        machine.pci.driver_data(machine.tree.find(VF))
    machine = run("restore")
    with pytest.raises(Failure, match="-ENOENT"):
        machine.pci.driver_data(machine.tree.find("0000:05:00.0"))
    assert machine.pci.driver_data(machine.tree.find(VF)) == 0x1AC6F4000


def test_writes_to_the_bus_master_bit_are_suppressed_while_flags_are_set() -> None:
    machine = run("restore")
    machine.pci.set_busmaster(machine.tree.find(VF), False)
    machine.pci.set_busmaster(machine.tree.find("0000:05:00.0"), False)
    assert machine.tree.find(VF).busmaster
    assert not machine.tree.find("0000:05:00.0").busmaster


def test_finish_without_a_driver_panics() -> None:
    assert isinstance(run(changes=[{"before": "finish", "unbind": VF}]).error, Panic)


def test_finish_with_a_driver_without_callbacks_panics() -> None:
    assert isinstance(run(changes=[{"before": "finish", "bind": VF, "driver": "nvme"}]).error, Panic)


def test_finish_without_a_value_of_a_subsystem_panics() -> None:
    machine = Machine(load_scenario(golden()))
    machine.run(until="restore")
    machine.luo.incoming = {}
    with pytest.raises(Panic):
        machine.luo.finish()
