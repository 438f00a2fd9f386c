# SPDX-License-Identifier: MIT
"""The PCI core's list over its postings: where entries go, what is refused, what the next kernel makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.liveupdate import Failure, Panic, SessionMachine
from luoser.liveupdate.sessions.series import SERIES
from luoser.liveupdate.trace import Kind
from tests import golden
from tests.liveupdate.images import image
from tests.liveupdate.machines import sessions

ROOT, UP, LEFT, RIGHT, ONE, TWO, VF, PLAIN = (
    f"0000:{bdf}" for bdf in ("00:01.0", "01:00.0", "02:00.0", "02:01.0", "03:00.0", "04:00.0", "04:00.1", "00:02.0")
)
WITH_BRIDGES = ["pci-core-branch", "pci-core-v4", "pci-core-v5", "pci-core-v6", "pci-core-v7", "pci-core-v8"]
ENDPOINTS = ["pci-core-v1", "pci-core-v2", "pci-core-v3", "pci-core-v6-05", "pci-core-v7-05"]


def flat(count: int) -> list[dict[str, str]]:
    """So many devices on root buses."""
    return [{"bdf": f"0000:{n >> 5:02x}:{n & 31:02x}.0", "driver": "vfio-pci"} for n in range(count)]


def names(machine: SessionMachine) -> list[str]:
    """The devices in the order of their slots, "" for a hole."""
    known = {(device.domain, device.bdf): device.name for device in machine.tree.enumerate()}
    table = machine.core.table or machine.core.handed
    assert table is not None
    return [known[row[0], row[1]] if row[2] else "" for row in table.rows()]


def refcounts(machine: SessionMachine) -> dict[str, int]:
    table = machine.core.table
    assert table is not None
    return {name: row[2] for name, row in zip(names(machine), table.rows(), strict=True) if name}


def log(machine: SessionMachine) -> str:
    return "\n".join(machine.trace.of(Kind.LOG))


# -- what is written


def test_the_golden_list() -> None:
    places = {"pci_ser": 0x1F1D28000, "pci block 0": 0x1F1D29000}
    devices = [
        {"bdf": "0000:04:01.0", "driver": "pcieport"},
        {"bdf": "0000:05:00.1", "parent": "0000:04:01.0", "driver": "vfio-pci"},
    ]
    machine = sessions("freeze", devices=devices, requested=["0000:05:00.1"], places=places)
    assert machine.pages.folios[0x1F1D28000].data[:16] == (golden.GOLDEN / "pci-version-2.bin").read_bytes()
    assert machine.pages.folios[0x1F1D29000].data == (golden.GOLDEN / "pci-version-2.block.bin").read_bytes()


@pytest.mark.parametrize("series", [*WITH_BRIDGES, "pci-core-v9"])
def test_bridges_count_what_is_preserved_below_them(series: str) -> None:
    machine = sessions("freeze", series=series, traits={})
    if "pf" in SERIES[series].checks:
        machine = sessions("freeze", series=series, requested=[ONE, PLAIN])
        assert refcounts(machine) == {PLAIN: 1, ROOT: 1, UP: 1, LEFT: 1, ONE: 1}
        return
    assert refcounts(machine) == {ONE: 1, LEFT: 1, UP: 2, ROOT: 2, TWO: 1, RIGHT: 1}


def test_in_v4_the_path_goes_down_and_from_v5_on_up() -> None:
    assert names(sessions("freeze", series="pci-core-v4", requested=[ONE]))[:4] == [ROOT, UP, LEFT, ONE]
    assert names(sessions("freeze", series="pci-core-v5", requested=[ONE]))[:4] == [ONE, LEFT, UP, ROOT]


@pytest.mark.parametrize("series", ENDPOINTS)
def test_endpoints_only(series: str) -> None:
    machine = sessions("freeze", series=series, requested=[ONE, PLAIN])
    assert sorted(refcounts(machine)) == [PLAIN, ONE]


def test_sorted_lists_ascend() -> None:
    assert names(sessions("freeze", series="pci-core-v2", requested=[TWO, ONE, PLAIN])) == [PLAIN, ONE, TWO]


def test_domains_of_16_bits_are_sorted_with_a_sign_and_cut() -> None:
    devices = [{"bdf": f"{domain}:00:01.0", "driver": "vfio-pci"} for domain in ("8000", "0001", "10000")]
    asked = [device["bdf"] for device in devices]
    machine = sessions("freeze", series="pci-core-v2", devices=devices, requested=asked)
    table = machine.core.table
    assert table is not None
    assert [row[0] for row in table.rows()] == [0x8000, 0, 1]


def test_version_1_takes_devices_on_root_buses_only() -> None:
    machine = sessions("prepare", series="pci-core-v9-04", requested=[PLAIN, ONE])
    assert str(machine.error) == "-EINVAL"
    assert f"vfio-pci {ONE}: Cannot preserve devices behind bridges" in log(machine)
    state = image(sessions("freeze", series="pci-core-v9-04", requested=[PLAIN]))
    assert state.handovers[0].pci[0].layout == "pci-version-1"


@pytest.mark.parametrize("series", SERIES)
def test_every_form_is_read_back_as_what_it_is(series: str) -> None:
    found = image(sessions("freeze", series=series, requested=[PLAIN])).handovers[0].pci[0]
    assert found.layout == SERIES[series].layout
    assert found.via == (f"flb:{SERIES[series].flb}",)
    assert [device.name for device in found.devices] == [PLAIN]


def test_more_devices_than_a_block_holds() -> None:
    devices = flat(512)
    machine = sessions("freeze", devices=devices, requested=[device["bdf"] for device in devices[:511]])
    assert machine.core.table is not None
    assert len(machine.core.table.blocks.blocks) == 2
    assert len(image(machine).handovers[0].pci[0].devices) == 511


# -- taking back


def close_first(machine: SessionMachine) -> None:
    machine.luo.close(machine.luo.outgoing[0])


TWO_SESSIONS = [{"name": "a", "files": [{"device": ONE}]}, {"name": "b", "files": [{"device": TWO}]}]


def test_holes_are_taken_again_from_v7_on() -> None:
    machine = sessions("prepare", sessions=TWO_SESSIONS)
    close_first(machine)
    assert names(machine) == ["", "", UP, ROOT, TWO, RIGHT]
    machine.core.preserve(machine.tree.find(PLAIN))
    assert names(machine) == [PLAIN, "", UP, ROOT, TWO, RIGHT]
    assert refcounts(machine)[UP] == 1


def test_from_v4_to_v6_the_search_for_a_slot_starts_at_the_number_of_devices() -> None:
    devices = flat(6)
    asked = [device["bdf"] for device in devices]
    wanted = [{"name": name, "files": [{"device": name}]} for name in asked[:4]]
    machine = sessions("prepare", series="pci-core-v6", devices=devices, sessions=wanted)
    machine.luo.close(machine.luo.session(asked[1]))
    machine.core.preserve(machine.tree.find(asked[4]))
    assert names(machine) == [asked[0], "", asked[2], asked[3], asked[4], ""]
    machine.core.preserve(machine.tree.find(asked[5]))
    assert names(machine)[5] == asked[5]
    machine.core.preserve(machine.tree.find(asked[1]))
    assert names(machine)[1] == asked[1]
    assert machine.luo.serialize() is None
    assert len(image(machine).handovers[0].pci[0].devices) == 6


@pytest.mark.parametrize("series", ["pci-core-v1", "pci-core-v2", "pci-core-v3"])
def test_sorted_lists_close_up_and_leave_the_last_slot_as_it_was(series: str) -> None:
    wanted = [{"name": name, "files": [{"device": name}]} for name in (PLAIN, ONE, VF[:-1] + "0")]
    if series == "pci-core-v3":
        wanted = wanted[:2]
    machine = sessions("prepare", series=series, sessions=wanted)
    table = machine.core.table
    assert table is not None
    last = table.row(table.count - 1)
    close_first(machine)
    assert names(machine)[0] == ONE
    assert table.row(table.count) == last
    machine.step("freeze")
    state = image(machine, has_old_bytes=True)
    assert len(state.handovers[0].pci[0].devices) == len(wanted) - 1
    assert state.problems == ()


@pytest.mark.parametrize("series", SERIES)
def test_closing_everything_leaves_nothing(series: str) -> None:
    machine = sessions("cancel", series=series, requested=[PLAIN])
    assert (machine.error, machine.leaks(), machine.pages.mistakes) == (None, [], [])
    assert machine.core.outgoing == {}
    assert [flb.count for flb in machine.luo.flbs] == [0]


# -- what is refused


@pytest.mark.parametrize(
    ("series", "change", "error", "word"),
    [
        ("pci-core-v9", {"requested": [ONE, VF]}, "-ENOENT", None),
        ("pci-core-v7", {"requested": [ONE, VF]}, "-ENOENT", None),
        ("pci-core-v6", {"requested": [ONE, VF]}, "-EINVAL", None),
        ("pci-core-v3", {"requested": [ONE, TWO]}, "-EINVAL", None),
        ("pci-core-v3", {"traits": {ONE: {"iommu_group": "7"}, PLAIN: {"iommu_group": "7"}}, "requested": [ONE]},
         "-EINVAL", f"vfio-pci {ONE}: Live Update preserved devices must be in singleton iommu groups!"),
        ("pci-core-v4", {"traits": {ONE: {"iommu_group": "7"}, PLAIN: {"iommu_group": "7"}}},
         "-EINVAL", "Device preservation limited to immutable singleton iommu groups"),
        ("pci-core-v9", {"traits": {ONE: {"acs_quirk": True}}}, "-EINVAL",
         f"vfio-pci {ONE}: Refusing to preserve device that relies on ACS quirks"),
        ("pci-core-v9", {"traits": {UP: {"acs_quirk": True}}}, "-EINVAL",
         f"pcieport {UP}: Refusing to preserve device that relies on ACS quirks"),
        ("pci-core-v5", {"traits": {ROOT: {"acs_quirk": True}}}, "-EINVAL",
         f"pcieport {ROOT}: Refusing to preserve device that relies on ACS quirks"),
        ("pci-core-v9", {"drivers": {TWO: "nvme"}}, "-ENOENT", None),
        ("pci-core-v9", {"faults": [{"at": "preserve", "device": TWO, "errno": "ENOSPC"}]}, "-ENOSPC", None),
        ("pci-core-v9", {"faults": [{"at": "allocate", "folio": "pci_ser", "errno": "ENOMEM"}]}, "-ENOMEM", None),
        ("pci-core-v9", {"faults": [{"at": "preserve", "folio": "pci_ser"}]}, "-EIO", None),
        ("pci-core-v9", {"faults": [{"at": "allocate", "folio": "pci block 0", "errno": "ENOMEM"}]}, "-ENOMEM", None),
        ("pci-core-v9", {"faults": [{"at": "preserve", "folio": "pci block 0"}]}, "-EIO", None),
        ("pci-core-v9", {"faults": [{"at": "allocate", "folio": f"vfio-pci {TWO}", "errno": "ENOMEM"}]}, "-ENOMEM",
         None),
        ("pci-core-v9", {"faults": [{"at": "preserve", "folio": f"vfio-pci {TWO}"}]}, "-EIO", None),
    ],
)  # fmt: skip
def test_what_cannot_be_preserved_leaves_nothing(
    series: str, change: dict[str, Any], error: str, word: str | None
) -> None:
    machine = sessions(series=series, **change)
    assert str(machine.error) == error
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])
    assert machine.core.outgoing == {}
    assert [flb.count for flb in machine.luo.flbs] == [0]
    if word is not None:
        assert word in log(machine) or word in "\n".join(machine.trace.of(Kind.CALL))


@pytest.mark.parametrize(
    ("series", "error"), [("pci-core-v2", "-EBUSY"), ("pci-core-v4", "-EBUSY"), ("pci-core-v9", "-EBUSY")]
)
def test_a_device_is_preserved_once(series: str, error: str) -> None:
    machine = sessions("prepare", series=series, requested=[ONE])
    with pytest.raises(Failure, match=error):
        machine.core.preserve(machine.tree.find(ONE))
    assert refcounts(machine)[ONE] == 1


def test_a_bridge_may_be_preserved_in_its_own_right_more_than_once_from_v5_on() -> None:
    machine = sessions("prepare", requested=[ONE])
    for _ in range(2):
        machine.core.preserve(machine.tree.find(LEFT))
    assert refcounts(machine) == {ONE: 1, LEFT: 3, UP: 3, ROOT: 3}
    machine = sessions("prepare", series="pci-core-v4", requested=[ONE])
    with pytest.raises(Failure, match="-EBUSY"):
        machine.core.preserve(machine.tree.find(LEFT))


def test_v1_takes_a_twin_for_done_and_moves_what_is_behind_it() -> None:
    machine = sessions("prepare", series="pci-core-v1", requested=[PLAIN, ONE, TWO])
    machine.core.preserve(machine.tree.find(ONE))
    assert names(machine) == [PLAIN, ONE, TWO]
    table = machine.core.table
    assert table is not None
    assert table.row(3) == table.row(2)
    machine.core.preserve(machine.tree.find(PLAIN))
    assert names(machine) == [PLAIN, ONE, ONE]  # TWO is lost behind the end


@pytest.mark.parametrize(
    ("series", "error"), [("pci-core-v2", "-E2BIG"), ("pci-core-v4", "-ENOSPC"), ("pci-core-v9", None)]
)
def test_a_list_has_room_for_the_devices_that_were_there_first(series: str, error: str | None) -> None:
    devices = flat(3)
    machine = sessions("prepare", series=series, devices=devices, requested=[device["bdf"] for device in devices])
    change = {"before": "freeze", "add": "0000:00:1f.0", "driver": "vfio-pci"}
    machine = sessions(
        "prepare", series=series, devices=devices, requested=[device["bdf"] for device in devices], changes=[change]
    )
    machine.change(machine.scenario.changes[0])
    device = machine.tree.find("0000:00:1f.0")
    if error is None:
        machine.core.preserve(device)
    else:
        with pytest.raises(Failure, match=error):
            machine.core.preserve(device)


@pytest.mark.parametrize("series", ["pci-core-v1", "pci-core-v2"])
def test_vfio_ignores_an_error_of_the_core_before_v3(series: str) -> None:
    machine = sessions("freeze", series=series, requested=[ONE, VF])
    assert machine.error is None
    assert names(machine) == [ONE]
    assert len(machine.luo.outgoing[0].files) == 2
    assert any("but vfio-pci ignores that" in event.text for event in machine.trace.events)


def test_nothing_is_preserved_without_the_flb() -> None:
    machine = sessions("prepare", requested=[])
    with pytest.raises(Failure, match="-ENOENT"):
        machine.core.preserve(machine.tree.find(ONE))


def test_frozen_devices_stay_as_they_are() -> None:
    machine = sessions("freeze", requested=[ONE])
    with pytest.raises(Failure, match="-EINVAL"):
        machine.core.preserve(machine.tree.find(PLAIN))
    machine.core.unpreserve(machine.tree.find(ONE))
    assert refcounts(machine)[ONE] == 1
    assert "Cannot unpreserve device after it is frozen!" in log(machine)


def test_unpreserving_what_is_not_preserved_is_a_warning() -> None:
    machine = sessions("prepare", requested=[ONE])
    machine.core.unpreserve(machine.tree.find(TWO))
    assert f"vfio-pci {TWO}: Cannot unpreserve device that is not preserved" in log(machine)


def test_bus_mastering_stays_on_for_bridges_and_vfio_ends_it_for_devices() -> None:
    machine = sessions("freeze", requested=[ONE])
    assert [device.name for device in machine.tree.enumerate() if device.busmaster] == [ROOT, UP, LEFT]
    machine = sessions("freeze", series="pci-core-v3", requested=[ONE])
    assert [device.name for device in machine.tree.enumerate() if device.busmaster] == []


# -- the next kernel


def test_devices_are_found_and_finished() -> None:
    machine = sessions()
    assert (machine.error, machine.leaks(), machine.pages.mistakes) == (None, [], [])
    lines = machine.trace.of(Kind.LOG)
    found = [line for line in lines if "was preserved by previous kernel" in line]
    assert found == [
        f"pci {name}: Device was preserved by previous kernel across Live Update"
        for name in (ROOT, UP, LEFT, RIGHT, ONE, TWO)
    ]
    done = [line.split()[1] for line in lines if "finished participating" in line]
    assert done == [f"{name}:" for name in (TWO, RIGHT, ONE, LEFT, UP, ROOT)]


@pytest.mark.parametrize("series", SERIES)
def test_all_of_it_in_every_posting(series: str) -> None:
    machine = sessions(series=series, requested=[PLAIN])
    assert (machine.error, machine.leaks(), machine.pages.mistakes) == (None, [], [])


@pytest.mark.parametrize(
    ("series", "left", "count"), [("pci-core-v1", [], 0), ("pci-core-v3", [PLAIN], 1), ("pci-core-v5", [""], 1)]
)
def test_what_finish_does_to_the_list(series: str, left: list[str], count: int) -> None:
    """In v5 the refcount goes down, and nr_devices does not."""
    machine = sessions("restore", series=series, requested=[PLAIN])
    machine.core.finish(machine.tree.find(PLAIN))
    assert names(machine)[:1] == left
    assert machine.core.handed is not None
    assert machine.core.handed.count == count


def test_finished_entries_keep_their_address() -> None:
    machine = sessions("restore", requested=[ONE])
    machine.core.finish(machine.tree.find(ONE))
    assert machine.core.handed is not None
    rows = list(machine.core.handed.rows())
    assert [row[2] for row in rows] == [0, 0, 0, 0]
    assert all(row[1] for row in rows)


@pytest.mark.parametrize(
    ("series", "following", "word"),
    [
        ("pci-core-v9", "pci-core-v9-04", r"Incoming PCI FLB version \(v2\) is incompatible with this kernel \(v1\)"),
        ("pci-core-v9", "pci-core-v8-05", r"Failed to retrieve incoming FLB data \(-22\)"),
        ("pci-core-v4", "pci-core-v7", r"Failed to retrieve incoming FLB data \(-22\)"),
    ],
)
def test_a_list_of_another_form_panics(series: str, following: str, word: str) -> None:
    machine = sessions(series=series, next_series=following, requested=[PLAIN])
    assert isinstance(machine.error, Panic)
    assert machine.error.args[0].startswith(word.replace("\\", ""))


def test_v8_logs_the_version_that_it_does_not_take_and_v9_panics_with_it() -> None:
    line = "PCI: liveupdate: Incoming PCI FLB version (v2) is incompatible with this kernel (v1)"
    for series, following, count in (("pci-core-v8", "pci-core-v8-05", 1), ("pci-core-v9", "pci-core-v9-04", 0)):
        machine = sessions(series=series, next_series=following, requested=[PLAIN])
        assert machine.trace.of(Kind.LOG).count(line) == count


def test_a_list_of_another_name_is_not_looked_at() -> None:
    machine = sessions("restore", series="pci-core-v7", next_series="pci-core-v9", requested=[PLAIN])
    assert machine.core.incoming == {}
    machine.step("finish")
    assert f"vfio-pci {PLAIN}: Cannot finish preserving device without incoming FLB" in log(machine)
    assert "pci_ser" in {folio.what for folio in machine.leaks()}
    assert any("FLB pci was never retrieved" in event.text for event in machine.trace.events)


def test_devices_that_are_left_at_the_end_panic() -> None:
    machine = sessions("restore", requested=[PLAIN, ONE])
    machine.core.handed.set_count(9)  # type: ignore[union-attr]
    with pytest.raises(Panic, match=r"4 preserved device\(s\) were never finished!"):
        machine.step("finish")


def test_v9_names_devices_that_never_came_and_v8_does_not() -> None:
    for series, is_named in (("pci-core-v9", True), ("pci-core-v8", False)):
        machine = sessions("restore", series=series, requested=[PLAIN, ONE])
        table = machine.core.handed
        assert table is not None
        slot = names(machine).index(LEFT)
        table.write(slot, (*table.row(slot)[:2], 2), LEFT)
        with pytest.raises(Panic):
            machine.step("finish")
        assert (f"PCI: liveupdate: {LEFT} was never finished!" in log(machine)) is is_named
        assert (f"{LEFT}: Preserved device was never finished!" in log(machine)) is not is_named


def test_a_device_that_comes_back_after_its_finish_is_new() -> None:
    machine = sessions("restore", requested=[PLAIN])
    device = machine.tree.find(PLAIN)
    machine.core.finish(device)
    machine.core.set_up(device)
    assert device not in machine.core.incoming


def test_a_device_that_is_gone_cannot_be_retrieved_nor_its_session_finished() -> None:
    machine = sessions("restore", requested=[PLAIN, ONE], changes=[{"before": "restore", "remove": PLAIN}])
    assert str(machine.error) == "-ENODEV"
    with pytest.raises(Failure, match="-EBUSY"):
        machine.step("finish")
    assert len(machine.luo.incoming) == 1


def test_removing_a_preserved_device_is_warned_of() -> None:
    machine = sessions("freeze", requested=[PLAIN], changes=[{"before": "freeze", "remove": PLAIN}])
    assert f"{PLAIN}: WARNING: Destroying outgoing-preserved device!" in log(machine)


@pytest.mark.parametrize("series", ["pci-core-v6", "pci-core-v6-05"])
def test_v6_lets_go_of_a_preserved_device_that_is_removed(series: str) -> None:
    changes = [{"before": "freeze", "remove": PLAIN}]
    machine = sessions("freeze", series=series, requested=[PLAIN], changes=changes)
    assert machine.core.table is not None
    assert machine.core.table.count == 0
    assert "Destroying outgoing-preserved device!" in log(machine)


def test_in_v4_bridges_keep_references_of_the_flb_for_ever() -> None:
    machine = sessions(series="pci-core-v4", requested=[ONE])
    assert "FLB pci-v2 finish" not in "\n".join(machine.trace.of(Kind.CALL))
    assert [folio.what for folio in machine.leaks()] == ["pci_ser"]
    machine = sessions(series="pci-core-v4", requested=[PLAIN])
    assert machine.leaks() == []


@pytest.mark.parametrize("following", ["pci-core-v2", "pci-core-v3"])
def test_a_list_of_v1_is_no_list_of_a_later_posting(following: str) -> None:
    machine = sessions("restore", series="pci-core-v1", next_series=following, requested=[ONE, PLAIN])
    assert machine.core.handed is None
    assert any("is not valid, and the kernel continues" in text for text in machine.trace.of(Kind.BUG))


@pytest.mark.parametrize(
    ("series", "following", "line"),
    [
        ("pci-core-v6", "pci-core-v7", "PCI: liveupdate: No incoming FLB matched pci-v2"),
        ("pci-core-v9", "pci-core-v7", "PCI: liveupdate: No incoming FLB matched pci-v2"),
        ("pci-core-v7", "pci-core-v8", ""),
    ],
)
def test_a_list_of_another_name_is_told_of_once_from_v4_to_v7(series: str, following: str, line: str) -> None:
    machine = sessions(series=series, next_series=following, kernel="7.3", requested=[PLAIN])
    lines = [text for text in machine.trace.of(Kind.LOG) if "No incoming FLB" in text]
    assert lines == ([line] if line else [])


@pytest.mark.parametrize(
    ("series", "line"),
    [
        ("pci-core-v3", "WARNING: PCI: Failed to retrieve incoming FLB data during Live Update"),
        ("pci-core-v6", "WARNING: Failed to retrieve incoming FLB data"),
    ],
)
def test_words_for_a_list_that_cannot_be_taken_over(series: str, line: str) -> None:
    machine = sessions("kexec", series=series, requested=[PLAIN])
    assert machine.core.table is not None
    address, form = machine.core.table.address, machine.core.table.form
    place = form.header.offset(form.capacity or "")
    machine.pages.write(address, place, bytes([0xFF] * 4), "")
    machine.step("restore")
    assert line in log(machine)


def test_the_core_itself_refuses_virtual_functions_with_a_word() -> None:
    machine = sessions("prepare")
    with pytest.raises(Failure, match="EINVAL"):
        machine.core.preserve(machine.tree.find(VF))
    assert f"vfio-pci {VF}: Cannot preserve Virtual Functions" in log(machine)


def test_two_files_of_one_device_are_twins_to_the_core_only() -> None:
    files = [{"device": PLAIN, "token": 1}, {"device": PLAIN, "token": 2}]
    machine = sessions("prepare", sessions=[{"name": "a", "files": files}])
    assert str(machine.error) == "-EBUSY"
    assert f"vfio-pci {PLAIN}: Device is already preserved" in log(machine)


def test_a_device_that_cannot_be_reset_is_not() -> None:
    machine = sessions("freeze", requested=[PLAIN], traits={PLAIN: {"can_reset": False}})
    assert not any("resets" in text for text in machine.trace.of(Kind.CALL))


def test_what_was_plugged_in_before_the_kexec_is_there_after_it() -> None:
    changes = [{"before": "prepare", "add": "0000:00:09.0", "driver": "vfio-pci"}]
    machine = sessions(requested=["0000:00:09.0"], changes=changes)
    assert machine.error is None
    assert machine.tree.find("0000:00:09.0").driver is not None


def test_removing_a_device_that_is_not_finished_is_warned_of() -> None:
    machine = sessions("restore", requested=[PLAIN])
    machine.core.remove(machine.tree.find(PLAIN))
    assert f"vfio-pci {PLAIN}: WARNING: Destroying incoming-preserved device!" in machine.trace.of(Kind.LOG)
