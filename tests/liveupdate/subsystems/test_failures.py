# SPDX-License-Identifier: MIT
"""Every way in which a step of the series can fail, by what the ABI says comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.fdt import flatten
from luoser.liveupdate import Driver, Failure, Panic, SubsystemMachine, load_scenario, simulate
from luoser.liveupdate.memory import Place
from luoser.liveupdate.subsystems.luo import LuoState
from luoser.liveupdate.trace import Kind
from tests.liveupdate.machines import BRIDGE, FOLIO, VF, golden, run, switch

DEEP, SHALLOW = "0000:02:00.0", "0000:00:02.0"


def lab(until: str = "finish", *, fixed: bool = False, **more: Any) -> SubsystemMachine:
    return simulate(load_scenario(switch(**more)), until=until, is_fixed=fixed)


def calls(machine: SubsystemMachine, callback: str) -> list[str]:
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
        ({"series": "pci-lu-v2-06"}, "-EPERM"),
        ({"faults": [{"at": "prepare", "device": VF, "errno": "EBUSY"}]}, "-EBUSY"),
    ],
    ids=["no memory", "not preserved", "no driver", "no callbacks", "no callbacks of pcieport", "the driver's own"],
)
def test_prepare_fails(change: dict[str, Any], error: str) -> None:
    machine = run("prepare", **change)
    assert isinstance(machine.error, Failure)
    assert str(machine.error) == error
    assert machine.luo.state is LuoState.NORMAL
    assert machine.luo.handed_over == {}
    assert [folio.what for folio in machine.leaks() if folio.what != f"pci-lu-stub {VF}"] == ["LUO tree"]
    assert machine.tree.find(BRIDGE).flags == 0
    assert machine.pci.outgoing.preserved == []


@pytest.mark.parametrize(("name", "error"), [("", "-ENXIO"), ("x" * 63, "-ENOSPC")])
def test_prepare_refuses_a_driver_by_its_name(name: str, error: str) -> None:
    machine = run("prepare", own={VF: Driver(name)})
    assert str(machine.error) == error


def test_a_name_of_62_characters_is_taken() -> None:
    assert run("prepare", own={VF: Driver("x" * 62)}).error is None


def test_names_are_not_looked_at_before_patch_06() -> None:
    machine = run("prepare", series="lab", own={VF: Driver("x" * 63)})
    assert machine.error is None
    assert machine.series.form.record.size == 16


def test_a_failing_prepare_cancels_those_before_it_only() -> None:
    machine = lab("prepare", faults=[{"at": "prepare", "device": SHALLOW, "errno": "EBUSY"}])
    assert calls(machine, "prepare") == [DEEP, SHALLOW]
    assert calls(machine, "cancel") == [DEEP]
    assert [folio.what for folio in machine.leaks()] == ["LUO tree"]


def test_the_value_is_written_after_all_subsystems_prepared() -> None:
    machine = run("prepare", subsystems=["pci", "late"], places={"LUO tree": 0x2000000, "pci folio": FOLIO})
    texts = [event.text for event in machine.trace.events]
    written = [text for text in texts if "/subsystems" in text]
    assert written == [
        "write 0x2000000: LUO tree: /subsystems all values 0",
        "write 0x2000000: LUO tree: /subsystems pci = 0x1f1d28000, late = 0x2101000",
    ]
    assert texts.index("subsystem late prepare()") < texts.index(written[1])


def test_with_nothing_asked_for_an_empty_folio_is_handed_over() -> None:
    machine = run("freeze", requested=[])
    assert machine.luo.handed_over == {"pci": FOLIO}
    assert not any(machine.pages.folios[FOLIO].data)


# -- cancel


def test_cancel_undoes_everything() -> None:
    machine = lab("cancel")
    assert (machine.error, machine.leaks(), machine.pages.mistakes, machine.luo.fdt) == (None, [], [], 0)
    assert calls(machine, "cancel") == [DEEP, SHALLOW]


def test_subsystems_are_cancelled_in_the_order_in_which_they_registered() -> None:
    machine = run("cancel", subsystems=["early", "pci", "late"])
    texts = [event.text for event in machine.trace.events if " cancel" in event.text]
    words = ["subsystem early cancel(", "PCI liveupdate: cancel data[", "subsystem late cancel("]
    assert [word for text in texts for word in words if text.startswith(word)] == words


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
    assert machine.luo.handed_over == {"pci": machine.pci.outgoing.folio.address}
    assert [(folio.what, folio.place) for folio in machine.leaks()] == [
        ("LUO tree", Place.PRESERVED),
        ("pci folio", Place.PRESERVED),
    ]


def test_freeze_may_change_the_value() -> None:
    class Changes(Driver):
        def freeze(self, device: Any, data: int) -> int:
            return 0x1234

    machine = run("freeze", own={VF: Changes("mine")})
    assert machine.handed_list.entries()[0]["driver_data"] == 0x1234


def test_freeze_without_a_driver_panics() -> None:
    assert isinstance(run("freeze", changes=[{"before": "freeze", "unbind": VF}]).error, Panic)


# -- the next kernel


def test_registering_late_fails_hard_only_in_a_kernel_that_was_handed_state() -> None:
    machine = run("prepare", faults=[{"at": "register"}])
    assert machine.error is None
    machine = SubsystemMachine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.pci.outgoing.faults = {("register", "pci"): 5}
    with pytest.raises(Panic):
        machine.pci.register()


@pytest.mark.parametrize("value", [0, 0x5000])
def test_restore_without_a_value_or_a_folio_panics(value: int) -> None:
    machine = SubsystemMachine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.luo.values = {"pci": value}
    machine.pages.write(machine.luo.incoming, 0, flatten(machine.luo.tree()), "another value")
    with pytest.raises(
        Panic, match=r"get subsystem data: \[0\] ret: 0" if not value else "restore folio from 5000 fail"
    ):
        machine.step("restore")


def test_restore_without_a_property_panics() -> None:
    machine = SubsystemMachine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.luo.values = {}
    machine.pages.write(machine.luo.incoming, 0, flatten(machine.luo.tree()), "no value")
    with pytest.raises(Panic, match=r"get subsystem data: \[0\] ret: -2"):
        machine.step("restore")


def test_an_override_that_cannot_be_set_panics() -> None:
    assert isinstance(run(faults=[{"at": "override", "device": VF}]).error, Panic)


def test_bus_mastering_that_is_off_is_warned_of() -> None:
    machine = SubsystemMachine(load_scenario(golden()))
    machine.run(until="kexec")
    machine.pci.register()
    machine.tree.find(VF).busmaster = False
    machine.pci.incoming.restore()
    assert f"{VF}: WARN_ON: bus mastering is off" in machine.trace.of(Kind.CALL)


def test_driver_data_is_for_devices_of_the_list_in_a_kernel_that_was_handed_state() -> None:
    machine = run("prepare")
    with pytest.raises(Failure, match="-EINVAL"):
        machine.pci.incoming.driver_data(machine.tree.find(VF))
    machine = run("restore")
    with pytest.raises(Failure, match="-ENOENT"):
        machine.pci.incoming.driver_data(machine.tree.find("0000:05:00.0"))
    assert machine.pci.incoming.driver_data(machine.tree.find(VF)) == 0x1AC6F4000


def test_writes_to_the_bus_master_bit_are_suppressed_while_flags_are_set() -> None:
    machine = run("restore")
    machine.pci.incoming.set_busmaster(machine.tree.find(VF), False)
    machine.pci.incoming.set_busmaster(machine.tree.find("0000:05:00.0"), False)
    assert machine.tree.find(VF).busmaster
    assert not machine.tree.find("0000:05:00.0").busmaster


def test_finish_without_a_driver_panics() -> None:
    assert isinstance(run(changes=[{"before": "finish", "unbind": VF}]).error, Panic)


def test_finish_with_a_driver_without_callbacks_panics() -> None:
    assert isinstance(run(changes=[{"before": "finish", "bind": VF, "driver": "nvme"}]).error, Panic)


def test_finish_without_a_value_of_a_subsystem_panics() -> None:
    machine = SubsystemMachine(load_scenario(golden()))
    machine.run(until="restore")
    machine.luo.values = {}
    machine.pages.write(machine.luo.incoming, 0, flatten(machine.luo.tree()), "no value")
    with pytest.raises(Panic):
        machine.luo.finish()


@pytest.mark.parametrize(("step", "error", "is_logged"), [("allocate", "-ENOMEM", False), ("preserve", "-EIO", True)])
def test_only_preserving_the_folio_has_a_line_of_its_own(step: str, error: str, is_logged: bool) -> None:
    machine = run("prepare", faults=[{"at": step}])
    assert str(machine.error) == error
    line = "PCI liveupdate: liveupdate_preserve_folio failed"
    assert (line in machine.trace.of(Kind.LOG)) is is_logged
