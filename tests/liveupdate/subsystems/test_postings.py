# SPDX-License-Identifier: MIT
"""The patch states of both postings of the 2025 series: what each writes, marks, restores and checks."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.liveupdate import Driver, Panic, SubsystemMachine, load_scenario, simulate
from luoser.liveupdate.subsystems.series import SERIES, Series
from luoser.liveupdate.trace import Kind
from tests.liveupdate.images import image

PORT, PF, VF = "0000:04:01.0", "0000:05:00.1", "0000:09:00.0"
LETTER: dict[str, Any] = {
    "devices": [
        {"bdf": PORT, "driver": "pcieport"},
        {"bdf": PF, "parent": PORT, "driver": "pci-lu-stub-pf"},
        {"bdf": VF, "parent": PORT, "physfn": PF, "driver": "pci-lu-stub"},
        *({"bdf": f"0000:09:00.{n}", "parent": PORT, "physfn": PF, "driver": ""} for n in (1, 2, 3)),
    ],
    "requested": [VF],
    "places": {"pci folio": 0x23654A000, f"pci-lu-stub {VF}": 0x1EAF1C000, f"pci-lu-stub-pf {PF}": 0x1A2ABE000},
}
"""The machine of the v1 cover letter's log: bus 04 is a root bus there, bus 09 one of virtual functions only."""
FLAT = {
    "devices": [
        {"bdf": "0000:00:01.0", "driver": "lab"},
        {"bdf": "0000:00:02.0", "driver": "lab"},
    ],
    "requested": ["0000:00:02.0"],
}


def run(until: str = "finish", **values: Any) -> SubsystemMachine:
    machine = simulate(load_scenario(values), until=until)
    assert isinstance(machine, SubsystemMachine)
    return machine


def states(posting: int) -> list[str]:
    return [name for name in SERIES if name.startswith(f"pci-lu-v{posting}-")]


# -- the cover letter of v1


def test_the_log_is_that_of_the_v1_cover_letter() -> None:
    """But for the lines of freeze and of the stubs' probes, and a word of the mark, which the log has otherwise."""
    lines = [line for line in run(**LETTER, series="pci-lu-v1").trace.of(Kind.LOG) if "freeze" not in line]
    assert [line for line in lines if "probe" not in line and "[frozen]" not in line] == [
        f"pci-lu-stub {VF}: Marking device as liveupdate requested",
        f"pci-lu-stub {VF}: PCI liveupdate: collect liveupdate device: [requested]",
        "pci_bus 0000:09: PCI liveupdate: collect liveupdate bus 0000:09",
        f"pci-lu-stub-pf {PF}: PCI liveupdate: collect liveupdate device: [depended]",
        "pci_bus 0000:05: PCI liveupdate: collect liveupdate bus 0000:05",
        f"pcieport {PORT}: PCI liveupdate: collect liveupdate device: [depended]",
        "pci_bus 0000:04: PCI liveupdate: collect liveupdate bus 0000:04",
        f"pci-lu-stub {VF}: pci_lu_stub_prepare(): data: 0x1eaf1c000",
        f"pci-lu-stub-pf {PF}: pci_lu_stub_prepare(): data: 0x1a2abe000",
        "PCI liveupdate: prepare data[23654a000]",
        "luo_core: Switched from [normal] to [prepared] state",
        f"pci {PORT}: PCI liveupdate: liveupdate restore [depended] driver: pcieport data: [0] num_vfs: 0",
        f"pci {PF}: PCI liveupdate: liveupdate restore [depended] driver: pci-lu-stub-pf data: [1a2abe000] num_vfs: 4",
        f"pci {VF}: PCI liveupdate: liveupdate restore [requested] driver: pci-lu-stub data: [1eaf1c000] num_vfs: 0",
        "PCI liveupdate: finish data[23654a000]",
        f"pci-lu-stub-pf {PF}: pci_lu_stub_finish(): data: 0x1a2abe000",
        f"pci-lu-stub {VF}: pci_lu_stub_finish(): data: 0x1eaf1c000",
        "luo_core: Switched from [updated] to [normal] state",
    ]


def test_the_list_of_the_v1_cover_letter() -> None:
    """8 + 3 * 1721 + 3 * 396 bytes are a folio of order 1."""
    machine = run("freeze", **LETTER, series="pci-lu-v1")
    assert machine.pages.folios[0x23654A000].order == 1
    found = machine.handed_list
    assert found is not None
    names = ("number", "parent_number", "bridge_type")
    assert [tuple(bus[name] for name in names) for bus in found.buses()] == [(9, 5, 0), (5, 4, 2), (4, 0, 1)]
    (entry,) = image(machine).handovers[0].pci
    assert entry.layout == "pci-lu-v1-22-iov"
    assert [device.name for device in entry.devices] == [VF, PF, PORT]
    assert len(entry.buses) == 3


# -- what each state writes


@pytest.mark.parametrize("series", [*states(1), *states(2)])
def test_every_state_goes_there_and_back(series: str) -> None:
    machine = run("freeze", **FLAT, series=series)
    assert machine.error is None
    lists = image(machine).handovers[0].pci
    form = SERIES[series].form
    assert len(lists) == (form is not None)
    if form is not None:
        assert form.name in lists[0].candidates  # one entry without VFs or resources has the bytes of other forms, too
        assert [device.name for device in lists[0].devices] == ["0000:00:02.0"]


LAYOUTS = {
    1: [(1, 3, None), (4, 6, "04"), (7, 8, "07"), (9, 11, "09"), (12, 18, "12"), (19, 20, "19"),
        (21, 21, "19-resources"), (22, 25, "22")],
    2: [(1, 2, None), (3, 5, "03"), (6, 10, "06")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("posting", "first", "last", "name"), [(p, *row) for p, rows in LAYOUTS.items() for row in rows]
)
def test_which_patches_write_which_form(posting: int, first: int, last: int, name: str | None) -> None:
    for patch in range(first, last + 1):
        form = Series(posting=posting, patch=patch, has_iov=False).form
        assert (form and form.name) == (name and f"pci-lu-v{posting}-{name}")


@pytest.mark.parametrize(("has_iov", "size"), [(True, 1721), (False, 1145)])
def test_sr_iov_makes_entries_longer(has_iov: bool, size: int) -> None:
    found = run("freeze", **FLAT, series="pci-lu-v1", has_iov=has_iov).handed_list
    assert found is not None
    assert found.form.record.size == size


@pytest.mark.parametrize(("posting", "patch"), [(1, 7), (2, 6)])
def test_below_a_port_nothing_can_be_prepared_before_pcieport_takes_part(posting: int, patch: int) -> None:
    for number, error in ((patch, "-EPERM"), (patch + 1, None)):
        machine = run("prepare", **{**LETTER, "drivers": {PF: "lab"}}, series=f"pci-lu-v{posting}-{number:02}")
        assert (str(machine.error) if machine.error else None) == error


# -- members and resources of v1

TRAITS = {
    "0000:00:02.0": {
        "current_state": 3,
        "pm_cap": 0x40,
        "pme_poll": 1,
        "pref_64_window": 1,
        "resource": [{"start": 0xF000, "end": 0xF0FF, "flags": 0x200}, {}, {"name": "a BAR", "start": 1, "end": 2}],
    }
}


def test_members_of_the_device_are_saved() -> None:
    found = run("freeze", **FLAT, traits=TRAITS, series="pci-lu-v1-12").handed_list
    assert found is not None
    (entry,) = found.entries()
    names = ("devfn", "current_state", "pm_cap", "pme_poll", "no_d3cold", "pref_64_window", "requested")
    assert [entry[name] for name in names] == [0x10, 3, 0x40, 1, 0, 1, 1]


@pytest.mark.parametrize(("patch", "names"), [(21, ["", "", "0000:00:02.0"]), (22, ["", "", "a BAR"])])
def test_only_resources_with_a_name_are_saved(patch: int, names: list[str]) -> None:
    found = run("freeze", **FLAT, traits=TRAITS, series=f"pci-lu-v1-{patch}").handed_list
    assert found is not None
    (entry,) = found.entries()
    assert [slot["name"] for slot in entry["resource"][:3]] == names
    assert [slot["start"] for slot in entry["resource"][:3]] == [0, 0, 1]


def test_virtual_functions_have_no_resources() -> None:
    traits = {VF: {"resource": [{"name": "x", "start": 1}]}, PF: {"resource": [{"name": "y", "start": 2}]}}
    found = run("freeze", **LETTER, traits=traits, series="pci-lu-v1").handed_list
    assert found is not None
    assert [entry["resource"][0]["start"] for entry in found.entries()] == [0, 2, 0]


@pytest.mark.parametrize(("patch", "windows"), [(22, [0, 0, 7]), (23, [0, 9, 7])])
def test_windows_of_buses(patch: int, windows: list[int]) -> None:
    """Patch 22 saves those of root buses, 23 those of all buses that have some."""
    traits = {PORT: {"resource": [*({},) * 13, {"name": "PCI Bus 0000:05", "start": 9}]}}
    buses = [{"bus": "0000:04", "resource": [{"name": "PCI Bus 0000:04", "start": 7}]}]
    found = run("freeze", **LETTER, traits=traits, buses=buses, series=f"pci-lu-v1-{patch}").handed_list
    assert found is not None
    assert [bus["resource"][0]["start"] for bus in found.buses()] == windows


# -- marks


def test_v1_marks_all_bridges_and_the_pf_and_v2_the_bridge_above_only() -> None:
    devices = [{"bdf": "0000:00:01.0", "driver": "pcieport"}, {**LETTER["devices"][0], "parent": "0000:00:01.0"}]
    values = {**LETTER, "devices": [*devices, *LETTER["devices"][1:]], "places": {}}
    wanted = {"pci-lu-v1": [VF, PF, PORT, "0000:00:01.0"], "pci-lu-v2": [VF, PORT]}
    for series, names in wanted.items():
        machine = run("prepare", **values, series=series)
        assert [device.name for device in machine.pci.outgoing.preserved] == names
        assert (1 in machine.trace.bugs) is (series == "pci-lu-v2")


@pytest.mark.parametrize(("patch", "error"), [(23, None), (24, "-EINVAL")])
def test_from_patch_24_on_the_stubs_look_at_their_marks(patch: int, error: str | None) -> None:
    machine = run("prepare", **{**LETTER, "drivers": {PF: "pci-lu-stub"}}, series=f"pci-lu-v1-{patch}")
    assert (str(machine.error) if machine.error else None) == error


def test_a_freeze_that_fails_leaves_the_buses_marked() -> None:
    machine = run("freeze", **LETTER, series="pci-lu-v1", faults=[{"at": "freeze", "device": VF}])
    assert machine.flags_left() == ["pci0000:04 2", "bus 0000:09", "bus 0000:05", "bus 0000:04"]
    assert run("cancel", **LETTER, series="pci-lu-v1").flags_left() == ["pci0000:04 2"]


# -- the next kernel


@pytest.mark.parametrize(
    ("patch", "taken"),
    [
        (13, None),
        (14, "current_state 3"),
        (15, "current_state 3, pm_cap 64, skip_bus_pm 0, wakeup_prepared 0"),
        (16, "current_state 3, pm_cap 64, pme_poll 1, skip_bus_pm 0, wakeup_prepared 0"),
    ],
)
def test_what_the_next_kernel_takes_over(patch: int, taken: str | None) -> None:
    calls = run("restore", **FLAT, traits=TRAITS, series=f"pci-lu-v1-{patch}").trace.of(Kind.CALL)
    found = [call.split("taken over: ")[1] for call in calls if "taken over" in call]
    assert found == ([taken] if taken else [])


def test_a_requested_device_is_in_d0_from_patch_20_on() -> None:
    machine = run("restore", **FLAT, traits=TRAITS, series="pci-lu-v1-20")
    members = machine.tree.find("0000:00:02.0").members
    assert (members["current_state"], members["pme_poll"]) == (0, 1)
    assert "0000:00:02.0: config writes are skipped until finish" in machine.trace.of(Kind.CALL)


@pytest.mark.parametrize(("patch", "names"), [(17, []), (18, [PORT, VF]), (19, [PORT, VF]), (20, [PORT])])
def test_a_requested_device_does_not_take_over_pref_64_window_from_patch_20_on(patch: int, names: list[str]) -> None:
    traits = {PORT: {"pref_64_window": 1}, VF: {"pref_64_window": 1}}
    calls = run("restore", **LETTER, traits=traits, series=f"pci-lu-v1-{patch}").trace.of(Kind.CALL)
    assert [call.split(": taken over")[0] for call in calls if "pref_64_window 1" in call] == names


def test_windows_of_bridges_are_not_taken_over_by_their_own_name() -> None:
    """From patch 22 on they are saved as `PCI Bus ...`, and the next kernel looks for the device's name."""
    traits = {"0000:00:02.0": {"resource": [{"name": "0000:00:02.0", "start": 1}, {"name": "PCI Bus 0000:05"}]}}
    for patch, slots in ((21, "slots 0, 1"), (22, "slots 0")):
        calls = run("restore", **FLAT, traits=traits, series=f"pci-lu-v1-{patch}").trace.of(Kind.CALL)
        assert f"0000:00:02.0: resources taken over: {slots}" in calls


@pytest.mark.parametrize(
    ("offset", "data", "word"),
    [
        (0, b"\x05\x00\x33", "The bus of PCI device 0000:04:01.0 was not preserved by Liveupdate"),
        (8, b"\x02", "bridge type (PCI_BUS_SER_PCI_HOST_BRIDGE) of PCI device (0000:04:01.0) is changed"),
    ],
)
def test_a_bus_that_is_not_as_it_was_panics_from_patch_23_on(offset: int, data: bytes, word: str) -> None:
    for patch, panics in ((22, False), (23, True)):
        machine = run("kexec", **LETTER, series=f"pci-lu-v1-{patch}")
        found = machine.handed_list
        assert found is not None
        machine.pages.write(found.address, 8 + 3 * 1721 + 2 * 396 + offset, data, "another bus 04")
        if panics:
            with pytest.raises(Panic) as caught:
                machine.step("restore")
            assert word in str(caught.value)
        else:
            machine.step("restore")


def test_another_parent_bus_panics() -> None:
    machine = run("kexec", **LETTER, series="pci-lu-v1")
    found = machine.handed_list
    assert found is not None
    machine.pages.write(found.address, 8 + 3 * 1721 + 396 + 6, b"\x07", "another parent of bus 05")
    with pytest.raises(Panic, match=r"The parent bus \(0000:04\) of PCI device \(0000:05:00.1\) is changed"):
        machine.step("restore")


@pytest.mark.parametrize(("posting", "patch"), [(1, 5), (2, 4)])
def test_before_the_patch_that_forwards_finish_nothing_is_released(posting: int, patch: int) -> None:
    machine = run(**FLAT, series=f"pci-lu-v{posting}-{patch:02}")
    assert {folio.what for folio in machine.leaks()} == {"LUO tree", "pci folio", "lab 0000:00:02.0"}
    machine = run(**FLAT, series=f"pci-lu-v{posting}-{patch + 1:02}")
    assert {folio.what for folio in machine.leaks()} == {"LUO tree"}


def test_a_driver_gets_its_value_from_the_patch_on_that_lets_it_ask() -> None:
    class Asks(Driver):
        asked: list[int] = []  # noqa: RUF012

        def probe(self, device: Any, data: int) -> None:
            self.asked.append(data)

    for patch, count in ((7, 0), (8, 1)):
        Asks.asked = []
        simulate(load_scenario({**FLAT, "series": f"pci-lu-v2-{patch:02}"}), drivers={"0000:00:02.0": Asks("asks")})
        assert len(Asks.asked) == count
