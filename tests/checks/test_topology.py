# SPDX-License-Identifier: MIT
"""Rules on the machine: the machines of the real dumps, as they were and with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("luoser.topology")

from luoser.checks import check
from luoser.state import Direction, State
from luoser.topology import Device, Topology, read_topology
from tests import real
from tests.checks.device_lists import a_list, bdf, found, fresh, with_lists
from tests.golden import Dev

if TYPE_CHECKING:
    from luoser.checks import Report

NAME = "7.3-a/frozen"
"""Lists 41:00.0 below 40:00.0, 05:00.0 below 00:03.0, 04:00.0 below 03:00.0 of a switch, 01:00.0 below 00:01.0."""
A_LIST, B_LIST = 1, 0
"""pci[...] of the list of 2025 and of the one with refcounts."""


def machine(name: str = NAME) -> Topology:
    return read_topology(real.REAL / name.split("/")[0] / "topology.json")


def changed(change: Callable[[dict[Any, Device]], None]) -> Topology:
    """The real machine with other devices."""
    devices = dict(machine().devices)
    change(devices)
    return Topology(devices=dict(sorted(devices.items())))


def with_device(name: str, **members: Any) -> Topology:
    """The real machine with one device that is different."""

    def change(devices: dict[Any, Device]) -> None:
        devices[bdf(name)] = replace(devices[bdf(name)], **members)

    return changed(change)


def without(*names: str) -> Topology:
    def change(devices: dict[Any, Device]) -> None:
        for name in names:
            del devices[bdf(name)]

    return changed(change)


def only(list_index: int) -> State:
    """The real handover with one of its two lists."""
    return with_lists(fresh(NAME).handovers[0].pci[list_index])


def listing(form: str, *flags: tuple[str, int], **members: Any) -> State:
    """A handover that lists devices of the real machine."""
    devices = [
        Dev(domain=bdf(name)[0], bdf=bdf(name)[1], flags=bits, requested=bits & 1, **members) for name, bits in flags
    ]
    return with_lists(a_list(form, devices))


def test_which_list_is_which() -> None:
    assert [entry.layout for entry in fresh(NAME).handovers[0].pci] == ["pci-v2-u64", "pci-lu-v2-03"]


@pytest.mark.parametrize("name", real.DUMPS)
def test_errors_are_the_facts(name: str) -> None:
    report: Report = check(fresh(name), topology=machine(name))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    facts = [(fact["slug"], fact["device"], tuple(fact["missing"])) for fact in real.expect(name)["facts"]]
    assert [(finding.slug, finding.device, finding.missing) for finding in errors] == facts


@pytest.mark.parametrize("name", real.DUMPS)
def test_a_healthy_machine_gives_no_warning(name: str) -> None:
    report = check(fresh(name), topology=machine(name), select=["TOP"])
    assert {finding.rule for finding in report.findings} <= {"TOP003", "TOP007"}


def test_all_are_skipped_without_a_topology() -> None:
    report = check(fresh(NAME), select=["TOP"])
    assert report.not_looked_at == ("the PCI devices of the machine; give them with --topology",)
    assert {entry.reason for entry in report.skipped} == set(report.not_looked_at)
    assert len(report.skipped) == 15 and not report.passed


def test_a_missing_device() -> None:
    findings = found(only(A_LIST), "TOP001", topology=without("0000:05:00.0"))
    assert [finding.device for finding in findings] == ["0000:05:00.0"]


def test_a_device_of_vmd_is_found_by_its_short_name() -> None:
    def change(devices: dict[Any, Device]) -> None:
        device = devices.pop(bdf("0000:05:00.0"))
        devices[0x10000, device.bdf] = replace(device, domain=0x10000, parent=None)

    assert found(only(A_LIST), "TOP001", topology=changed(change)) == []
    assert len(found(only(B_LIST), "TOP001", topology=changed(change))) == 1


def vmd() -> Topology:
    """The real machine with 40:00.0 and 41:00.0 below it in a domain of VMD, 0x10001."""

    def change(devices: dict[Any, Device]) -> None:
        for name, parent in (("0000:40:00.0", None), ("0000:41:00.0", (0x10001, 0x4000))):
            device = devices.pop(bdf(name))
            devices[0x10001, device.bdf] = replace(device, domain=0x10001, parent=parent)

    return changed(change)


@pytest.mark.parametrize(
    ("form", "domain", "bridges", "is_missed"),
    [
        ("pci-lu-v2-03", 1, (0x4000,), False),
        ("pci-lu-v2-03", 1, (), True),
        ("pci-version-2", 0x10001, (0x4000,), False),
        ("pci-version-2", 0x10001, (), True),
    ],
)
def test_a_bridge_of_vmd_is_listed_under_the_name_that_the_list_has_room_for(
    form: str, domain: int, bridges: tuple[int, ...], is_missed: bool
) -> None:
    devices = [Dev(domain=domain, bdf=0x4100), *(Dev(domain=domain, bdf=place, flags=2) for place in bridges)]
    findings = found(with_lists(a_list(form, devices)), "TOP003", topology=vmd())
    assert [finding.missing for finding in findings] == ([("10001:40:00.0",)] if is_missed else [])


def test_a_bridge_of_vmd_under_its_short_name_is_none_in_a_list_of_long_ones() -> None:
    devices = [Dev(domain=0x10001, bdf=0x4100), Dev(domain=1, bdf=0x4000)]
    (finding,) = found(with_lists(a_list("pci-version-2", devices)), "TOP003", topology=vmd())
    assert finding.missing == ("10001:40:00.0",)


@pytest.mark.parametrize(("flags", "count"), [(1, 0), (2, 1), (3, 1)])
def test_an_endpoint_as_bridge(flags: int, count: int) -> None:
    state = listing("pci-lu-v2-03", ("0000:41:00.0", flags), ("0000:40:00.0", 2))
    assert len(found(state, "TOP002", topology=machine())) == count


CHAIN = ("0000:03:00.0", "0000:02:00.0", "0000:00:02.0")


@pytest.mark.parametrize("form", ["pci-lu-v2-06", "pci-lu-v1-12", "pci-version-2", "pci-v2-u32"])
@pytest.mark.parametrize("listed", [0, 1, 2, 3])
def test_the_whole_chain(form: str, listed: int) -> None:
    state = listing(form, ("0000:04:00.0", 1), *((name, 2) for name in CHAIN[:listed]))
    findings = found(state, "TOP003", topology=machine())
    assert [finding.missing for finding in findings] == ([tuple(sorted(CHAIN[listed:]))] if listed < 3 else [])


def test_a_bridge_between_is_missed() -> None:
    state = listing("pci-lu-v2-03", ("0000:04:00.0", 1), (CHAIN[0], 2), (CHAIN[2], 2))
    (finding,) = found(state, "TOP003", topology=machine())
    assert finding.missing == ("0000:02:00.0",)


def test_only_devices_that_asked_need_bridges() -> None:
    assert found(listing("pci-lu-v2-03", ("0000:04:00.0", 2)), "TOP003", topology=machine()) == []
    assert found(listing("pci-version-2", ("0000:03:00.0", 1)), "TOP003", topology=machine()) == []


def test_each_list_has_to_have_the_chain() -> None:
    whole = listing("pci-lu-v2-03", ("0000:04:00.0", 1), *((name, 2) for name in CHAIN)).handovers[0].pci[0]
    broken = fresh(NAME).handovers[0].pci[A_LIST]
    assert len(found(with_lists(whole, broken), "TOP003", topology=machine())) == 1


def test_a_chain_is_told_of_the_outgoing_handover() -> None:
    state = fresh("7.3-chain/frozen2")
    (finding,) = found(state, "TOP003", topology=machine("7.3-chain/frozen2"))
    outgoing = next(one for one in state.handovers if one.direction is Direction.OUTGOING)
    assert finding.address in range(outgoing.pci[0].address, outgoing.pci[0].address + 4096)


def test_an_unknown_chain_is_not_passed() -> None:
    state = listing("pci-lu-v2-03", ("0000:41:00.0", 1), ("0000:40:00.0", 2))
    open_end = with_device("0000:40:00.0", on_root_bus=None)
    report = check(state, select=["TOP003"], topology=open_end)
    assert "bridges above 1 of the devices, not all of which are in the topology" in report.skipped[0].reason


@pytest.mark.parametrize(("unknown", "count"), [((), 0), (("41:00",), 1), (("41:00", "40:00"), 2)])
def test_devices_that_may_be_endpoints_are_counted(unknown: tuple[str, ...], count: int) -> None:
    """In a list that does not say which device asked."""

    def change(devices: dict[Any, Device]) -> None:
        for name in unknown:
            place = bdf(f"0000:{name}.0")
            devices[place] = replace(devices[place], is_bridge=None)

    state = listing("pci-version-2", ("0000:41:00.0", 1), ("0000:40:00.0", 2), ("0000:05:00.0", 1), ("0000:00:03.0", 2))
    report = check(state, select=["TOP003"], topology=changed(change))
    reasons = [f"bridges above {count} of the devices, not all of which are in the topology"] if count else []
    assert [entry.reason for entry in report.skipped] == reasons and not report.findings


def test_what_the_topology_does_not_tell_is_skipped() -> None:
    def flatten(devices: dict[Any, Device]) -> None:
        for address, device in devices.items():
            devices[address] = replace(
                device, parent=None, on_root_bus=None, is_bridge=None, driver=None, is_vf=None, busmaster=None
            )

    report = check(fresh(NAME), select=["TOP"], topology=changed(flatten))
    assert report.findings == ()
    assert set(report.passed) == {"TOP001", "TOP013"}


@pytest.mark.parametrize(("flags", "count"), [(2, 0), (3, 0), (1, 1)])
def test_the_parent_has_its_flag(flags: int, count: int) -> None:
    state = listing("pci-lu-v2-03", ("0000:41:00.0", 1), ("0000:40:00.0", flags))
    assert len(found(state, "TOP004", topology=machine())) == count


@pytest.mark.parametrize(("flags", "count"), [((2, 0, 0), 0), ((0, 2, 2), 1)])
def test_only_the_bridge_right_above_needs_the_flag(flags: tuple[int, int, int], count: int) -> None:
    state = listing("pci-lu-v2-03", ("0000:04:00.0", 1), *zip(CHAIN, flags, strict=True))
    findings = found(state, "TOP004", topology=machine())
    assert [finding.device for finding in findings] == ["0000:03:00.0"] * count


def test_a_bridge_before_its_device() -> None:
    state = listing("pci-lu-v2-03", ("0000:03:00.0", 2), ("0000:04:00.0", 1), ("0000:02:00.0", 2))
    findings = found(state, "TOP005", topology=machine())
    assert [finding.device for finding in findings] == ["0000:04:00.0"]


@pytest.mark.parametrize(("flags", "count"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_bridge_with_its_flag_needs_a_device_below(flags: int, count: int) -> None:
    state = listing("pci-lu-v2-03", ("0000:41:00.0", 1), ("0000:00:02.0", flags))
    assert len(found(state, "TOP006", topology=machine())) == count
    assert (
        found(listing("pci-lu-v2-03", ("0000:04:00.0", 1), ("0000:00:02.0", flags)), "TOP006", topology=machine()) == []
    )


def test_devices_of_vmd_are_named_as_in_the_list() -> None:
    devices = [Dev(domain=1, bdf=0x4100), Dev(domain=1, bdf=0x4000)]
    (finding,) = found(with_lists(a_list("pci-lu-v2-03", devices)), "TOP004", topology=vmd())
    assert finding.device == "0001:40:00.0"
    assert finding.message.endswith("expected LU_BUSMASTER_BRIDGE (2): 0001:41:00.0 below it requested it")


def test_a_bridge_for_nothing() -> None:
    state = listing("pci-lu-v2-03", ("0000:41:00.0", 1), ("0000:40:00.0", 2), ("0000:00:02.0", 2))
    findings = found(state, "TOP006", topology=machine())
    assert [finding.device for finding in findings] == ["0000:00:02.0"]


def test_drivers_are_named_once_each() -> None:
    findings = found(fresh(NAME), "TOP007", topology=machine())
    assert sorted(finding.message.split(" driver ")[1].split()[0] for finding in findings) == ["e1000e", "nvme"]
    assert found(fresh(NAME), "TOP007", topology=machine(), drivers={"e1000e", "nvme"}) == []


@pytest.mark.parametrize(("device", "lists"), [("0000:41:00.0", 2), ("0000:40:00.0", 1)])
def test_a_device_without_driver(device: str, lists: int) -> None:
    """A bridge needs one for the list of 2025 only."""
    findings = found(fresh(NAME), "TOP008", topology=with_device(device, driver=""))
    assert len(findings) == lists
    assert found(fresh(NAME), "TOP008", topology=with_device(device, driver=None)) == []


def test_the_next_kernel_may_not_have_bound_its_drivers_yet() -> None:
    report = check(fresh("6.18-a/post"), select=["TOP008"], topology=with_device("0000:41:00.0", driver=""))
    assert report.findings == () and "consumed" in report.skipped[0].reason


@pytest.mark.parametrize(("driver", "count"), [(b"e1000e", 0), (b"vfio-pci", 1)])
def test_another_driver(driver: bytes, count: int) -> None:
    state = listing("pci-lu-v2-06", ("0000:41:00.0", 1), driver=driver)
    assert len(found(state, "TOP009", topology=machine())) == count


def moved() -> Topology:
    def change(devices: dict[Any, Device]) -> None:
        device = devices.pop(bdf("0000:41:00.0"))
        devices[0, 0x4200] = replace(device, bdf=0x4200)

    return changed(change)


@pytest.mark.parametrize("list_index", [A_LIST, B_LIST])
def test_a_bus_that_moved(list_index: int) -> None:
    (finding,) = found(only(list_index), "TOP010", topology=moved())
    assert finding.device == "0000:41:00.0" and "0000:42:00.0" in finding.message
    assert found(only(list_index), "TOP001", topology=moved()) == []


@pytest.mark.parametrize("bus", [0x01, 0x7F, 0x80, 0xFF])
def test_a_bus_of_any_number_that_moved(bus: int) -> None:
    def change(devices: dict[Any, Device]) -> None:
        device = devices.pop(bdf("0000:41:00.0"))
        devices.pop((0, bus << 8), None)
        devices[0, 0x9000] = replace(device, bdf=0x9000)

    state = listing("pci-lu-v2-03", (f"0000:{bus:02x}:00.0", 1), ("0000:40:00.0", 2))
    (finding,) = found(state, "TOP010", topology=changed(change))
    assert finding.device == f"0000:{bus:02x}:00.0" and "0000:90:00.0" in finding.message


def test_a_device_that_is_gone_has_not_moved() -> None:
    assert found(only(A_LIST), "TOP010", topology=without("0000:41:00.0")) == []


def test_bus_mastering_is_off() -> None:
    findings = found(only(A_LIST), "TOP011", topology=with_device("0000:41:00.0", busmaster=False))
    assert [finding.device for finding in findings] == ["0000:41:00.0"]
    assert found(only(A_LIST), "TOP011", topology=with_device("0000:41:00.0", busmaster=True)) == []


@pytest.mark.parametrize(("physical", "count"), [("0000:00:1f.2", 1), ("0000:05:00.0", 0)])
def test_a_virtual_function_needs_its_physical_one(physical: str, count: int) -> None:
    topology = with_device("0000:41:00.0", physfn=bdf(physical), is_vf=True)
    findings = found(only(A_LIST), "TOP012", topology=topology)
    assert [finding.missing for finding in findings] == [(physical,)] * count
    assert {finding.device for finding in found(only(A_LIST), "TOP003", topology=topology)} == {"0000:04:00.0"}


@pytest.mark.parametrize(
    ("form", "domain", "place", "count"),
    [
        ("pci-lu-v2-03", 1, 0x4000, 0),
        ("pci-lu-v2-03", 0, 0x4000, 1),
        ("pci-lu-v2-03", 1, 0x4008, 1),
        ("pci-version-2", 0x10001, 0x4000, 0),
        ("pci-version-2", 0, 0x4000, 1),
    ],
)
def test_a_physical_function_of_vmd(form: str, domain: int, place: int, count: int) -> None:
    """04:00.0 is said to be a virtual function of 10001:40:00.0."""
    topology = vmd()
    devices = dict(topology.devices)
    devices[0, 0x0400] = replace(devices[0, 0x0400], physfn=(0x10001, 0x4000), is_vf=True)
    state = with_lists(a_list(form, [Dev(domain=0, bdf=0x0400), Dev(domain=domain, bdf=place)]))
    findings = found(state, "TOP012", topology=Topology(devices=devices))
    assert [finding.missing for finding in findings] == [("10001:40:00.0",)] * count


def test_two_devices_with_one_short_name() -> None:
    def change(devices: dict[Any, Device]) -> None:
        devices[0x10000, 0x4100] = Device(domain=0x10000, bdf=0x4100)

    (finding,) = found(only(A_LIST), "TOP013", topology=changed(change))
    assert "ambiguous: 0000:41:00.0 or 10000:41:00.0" in finding.message
    report = check(only(B_LIST), select=["TOP013"], topology=changed(change))
    assert report.findings == () and "32 bits" in report.skipped[0].reason


@pytest.mark.parametrize(
    ("form", "endpoint", "bridge", "devices"),
    [
        ("pci-version-2", 1, 1, []),
        ("pci-version-2", 1, 2, []),  # preserved for itself, too
        ("pci-version-2", 1, 3, ["0000:40:00.0"]),
        ("pci-version-2", 2, 1, ["0000:41:00.0"]),
        ("pci-v2-u64", 1, 1, []),
    ],
)
def test_refcounts(form: str, endpoint: int, bridge: int, devices: list[str]) -> None:
    made = [Dev(domain=0, bdf=0x4000, refcount=bridge), Dev(domain=0, bdf=0x4100, refcount=endpoint)]
    findings = found(with_lists(a_list(form, made)), "TOP014", topology=machine())
    assert [finding.device for finding in findings] == devices


@pytest.mark.parametrize(
    ("form", "via", "rights"),
    [
        ("pci-version-2", "flb:pci", (2, 3)),
        ("pci-v2-u32", "flb:pci-v3", (2, 3)),
        ("pci-v2-u32", "flb:pci-v2", (1, 2, 3)),  # a bridge may always have 1 in these
        ("pci-v2-u64", "flb:pci-v2", (1, 2, 3)),
    ],
)
@pytest.mark.parametrize("said", [1, 2, 3, 4])
def test_refcount_of_a_bridge_above_two(form: str, via: str, rights: tuple[int, ...], said: int) -> None:
    def change(devices: dict[Any, Device]) -> None:
        devices[0, 0x4101] = replace(devices[0, 0x4100], bdf=0x4101)

    made = [Dev(domain=0, bdf=0x4000, refcount=said), Dev(domain=0, bdf=0x4100), Dev(domain=0, bdf=0x4101)]
    findings = found(with_lists(a_list(form, made, via=via)), "TOP014", topology=changed(change))
    word = f"refcount is {said}, expected {' or '.join(map(str, rights))}"
    assert [finding.message.partition(": ")[2] for finding in findings] == ([] if said in rights else [word])


@pytest.mark.parametrize("said", [0, 1, 2, 3])
def test_virtual_functions_are_counted(said: int) -> None:
    def change(devices: dict[Any, Device]) -> None:
        for name in ("0000:05:00.0", "0000:04:00.0"):
            devices[bdf(name)] = replace(devices[bdf(name)], physfn=bdf("0000:41:00.0"), is_vf=True)

    state = listing("pci-lu-v1-09", ("0000:41:00.0", 1), num_vfs=said)
    findings = found(state, "TOP015", topology=changed(change))
    words = [] if said == 2 else [f"num_vfs is {said}, expected 2 as in the topology"]
    assert [finding.message.partition(": ")[2] for finding in findings] == words


@pytest.mark.parametrize(("said", "count"), [(0, 1), (1, 0), (2, 1)])
def test_number_of_virtual_functions(said: int, count: int) -> None:
    topology = with_device("0000:05:00.0", physfn=bdf("0000:41:00.0"), is_vf=True)
    state = listing("pci-lu-v1-09", ("0000:41:00.0", 1), num_vfs=said)
    assert len(found(state, "TOP015", topology=topology)) == count
