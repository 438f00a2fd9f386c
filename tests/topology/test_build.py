# SPDX-License-Identifier: MIT
"""Parents and virtual functions of made-up machines, sound and unsound."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luoser.errors import FormatError, LuoserError, TooLargeError
from luoser.limits import LIMITS, Limits, limited
from luoser.topology import Device, Topology, read_topology
from luoser.topology.document import from_list
from tests.topology.guest import bridge, config, dump_text, names, parents

LSPCI = shutil.which("lspci")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


class Machine:
    """machine({name: configuration space}): the topology of its hex dump."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, devices: dict[str, bytes]) -> Topology:
        self.place.write_text(dump_text(devices))
        return read_topology(self.place)


def of(topology: Topology, name: str) -> Device:
    return next(device for device in topology.devices.values() if device.name == name)


def by_path(*paths: str) -> Topology:
    """What a list of sysfs paths tells."""
    return from_list([{"bdf": path.split("/")[-1], "sysfs": path} for path in paths], source="")


# -- by bus numbers ---------------------------------------------------------------------------------------


def test_two_buses_of_one_number_in_two_domains(machine: Machine) -> None:
    topology = machine({
        "0000:00:01.0": bridge(0, 1, 1), "0000:01:00.0": config(),
        "10000:00:02.0": bridge(0, 1, 1), "10000:01:00.0": config(),
    })  # fmt: skip
    assert parents(topology) == {
        "0000:00:01.0": "", "0000:01:00.0": "0000:00:01.0", "10000:00:02.0": "", "10000:01:00.0": "10000:00:02.0",
    }  # fmt: skip
    assert topology.device(0x10000, 0x0100) is of(topology, "10000:01:00.0")


def test_two_bridges_for_one_bus_leave_the_parent_open(machine: Machine) -> None:
    topology = machine({"00:01.0": bridge(0, 1, 1), "00:02.0": bridge(0, 1, 1), "01:00.0": config()})
    assert parents(topology)["0000:01:00.0"] == "?"
    assert of(topology, "0000:01:00.0").on_root_bus is False
    assert any("bus 01" in remark for remark in topology.remarks)


def test_a_third_bridge_does_not_settle_it(machine: Machine) -> None:
    topology = machine({f"00:0{slot}.0": bridge(0, 1, 1) for slot in (1, 2, 3)} | {"01:00.0": config()})
    assert parents(topology)["0000:01:00.0"] == "?"


@pytest.mark.parametrize("buses", [(0, 2, 1), (0, 0, 5), (1, 1, 3), (3, 1, 5)])
def test_buses_that_cannot_be_below_a_bridge_are_nobodys(buses: tuple[int, int, int], machine: Machine) -> None:
    topology = machine({f"{buses[0]:02x}:01.0": bridge(*buses), "02:00.0": config()})
    assert parents(topology)["0000:02:00.0"] == "?"
    assert of(topology, "0000:02:00.0").on_root_bus is None


def test_a_bus_behind_a_bridge_that_is_not_listed(machine: Machine) -> None:
    """Of the switch in between only the upper bridge is known: there is a parent, and it has no name."""
    topology = machine({"00:02.0": bridge(0, 2, 4), "04:00.0": config()})
    device = of(topology, "0000:04:00.0")
    assert (device.parent, device.on_root_bus) == (None, False)
    assert not topology.reaches_root(device)


def test_a_root_port_shows_its_bus_to_be_a_root_bus(machine: Machine) -> None:
    topology = machine({"40:00.0": bridge(0x40, 0x41, 0x41, port=4), "40:01.0": config(), "41:00.0": config()})
    assert parents(topology) == {"0000:40:00.0": "", "0000:40:01.0": "", "0000:41:00.0": "0000:40:00.0"}


def test_a_port_type_does_not_outweigh_a_bridge(machine: Machine) -> None:
    """Machines of a hypervisor have integrated endpoints behind bridges."""
    topology = machine({"00:01.0": bridge(0, 1, 1), "01:00.0": config(port=9)})
    assert parents(topology)["0000:01:00.0"] == "0000:00:01.0"


def test_a_bridge_without_numbers_has_nothing_below(machine: Machine) -> None:
    topology = machine({"00:01.0": bridge(0, 0, 0), "00:02.0": config()})
    assert parents(topology) == {"0000:00:01.0": "", "0000:00:02.0": ""}
    assert topology.remarks == ()


# -- virtual functions ------------------------------------------------------------------------------------

VF = {"vendor": 0xFFFF, "device": 0xFFFF}


def test_a_vf_on_a_bus_of_its_own_is_below_the_bridge_of_its_pf(machine: Machine) -> None:
    topology = machine({
        "00:01.0": bridge(0, 1, 3),
        "01:00.0": config(sriov=(2, 0x100, 0x101)), "02:00.0": config(**VF), "03:00.1": config(**VF),
    })  # fmt: skip
    for name in ("0000:02:00.0", "0000:03:00.1"):
        assert of(topology, name).physfn == (0, 0x100)
        assert parents(topology)[name] == "0000:00:01.0"


def test_a_function_with_ids_is_no_vf_whatever_a_pf_claims(machine: Machine) -> None:
    topology = machine({"00:01.0": config(sriov=(2, 8, 8)), "00:02.0": config(), "00:03.0": config(**VF)})
    assert of(topology, "0000:00:02.0").is_vf is False
    assert of(topology, "0000:00:03.0").physfn == (0, 8)


def test_a_vf_without_a_pf(machine: Machine) -> None:
    device = of(machine({"00:01.0": config(**VF)}), "0000:00:01.0")
    assert (device.is_vf, device.physfn) == (True, None)


def test_virtual_functions_are_counted(machine: Machine) -> None:
    devices = {f"00:0{slot}.0": config(sriov=(6, 0x100, 1)) for slot in (1, 2)}
    with limited(Limits(pci_devices=10)), pytest.raises(LuoserError, match=r"virtual functions; --limit pci_devices=N"):
        machine(devices)


@pytest.mark.parametrize("physfn", ["0000:00:01.0", "0001:00:00.0"])
def test_a_pf_that_cannot_be(physfn: str) -> None:
    topology = from_list([{"bdf": "0000:00:01.0", "physfn": physfn}], source="")
    assert topology.devices[0, 8].physfn is None
    assert physfn in topology.remarks[0]


def test_a_vf_of_a_pf_that_is_not_listed_stays_one() -> None:
    topology = from_list([{"bdf": "0000:00:01.0", "physfn": "0000:00:02.0"}], source="")
    assert topology.devices[0, 8].physfn == (0, 16)


# -- by paths ---------------------------------------------------------------------------------------------


def test_domains_of_vmd_begin_a_tree_of_their_own() -> None:
    """The controller is not a bridge: the kernel's walk up ends at the root bus of its domain."""
    vmd = "/sys/devices/pci0000:5d/0000:5d:05.5"
    topology = by_path(vmd, f"{vmd}/pci10000:00/10000:00:02.0", f"{vmd}/pci10000:00/10000:00:02.0/10000:01:00.0")
    assert parents(topology) == {"0000:5d:05.5": "", "10000:00:02.0": "", "10000:01:00.0": "10000:00:02.0"}
    assert topology.reaches_root(of(topology, "10000:01:00.0"))


def test_a_host_bridge_may_have_folders_above() -> None:
    top = "/sys/devices/platform/soc/40000000.pcie/pci0000:00/0000:00:00.0"
    assert parents(by_path(top, f"{top}/0000:01:00.0")) == {"0000:00:00.0": "", "0000:01:00.0": "0000:00:00.0"}


def test_a_bridge_that_only_a_path_names_is_a_device() -> None:
    topology = by_path("/sys/devices/pci0000:00/0000:00:02.0/0000:02:00.0/0000:03:00.0")
    assert parents(topology) == {"0000:00:02.0": "", "0000:02:00.0": "0000:00:02.0", "0000:03:00.0": "0000:02:00.0"}
    assert of(topology, "0000:02:00.0").is_bridge and of(topology, "0000:02:00.0").class_code is None
    assert len(topology.remarks) == 2
    assert topology.reaches_root(of(topology, "0000:03:00.0"))


def test_a_path_that_does_not_begin_at_a_host_bridge_leaves_its_top_open() -> None:
    topology = by_path("0000:02:00.0/0000:03:00.0")
    assert parents(topology) == {"0000:02:00.0": "?", "0000:03:00.0": "0000:02:00.0"}
    assert not topology.reaches_root(of(topology, "0000:03:00.0"))


def test_a_path_of_another_device_is_not_followed() -> None:
    topology = from_list([{"bdf": "0000:02:00.0", "sysfs": "/sys/devices/pci0000:00/0000:00:01.0"}], source="")
    assert parents(topology) == {"0000:02:00.0": "?"}
    assert "[0].sysfs" in topology.remarks[0]


def test_a_device_above_which_is_no_bridge() -> None:
    top = "/sys/devices/pci0000:00/0000:00:01.0"
    entries = [{"bdf": "0000:00:01.0", "sysfs": top, "class": "0x020000"},
               {"bdf": "0000:01:00.0", "sysfs": f"{top}/0000:01:00.0"}]  # fmt: skip
    topology = from_list(entries, source="")
    assert of(topology, "0000:00:01.0").is_bridge
    assert "not that of a bridge" in topology.remarks[0]


def test_a_parent_of_another_domain_is_none() -> None:
    topology = by_path("/sys/devices/pci0000:00/0000:00:01.0/0001:01:00.0")
    assert parents(topology)["0001:01:00.0"] == "?"
    assert "cannot be above" in topology.remarks[-1]


def test_a_bridge_by_its_children_stays_one_when_its_own_parent_is_refused() -> None:
    topology = by_path("0000:00:01.0/0000:01:00.0", "0001:00:00.0/0000:00:01.0")
    assert of(topology, "0000:00:01.0").is_bridge
    assert parents(topology)["0000:00:01.0"] == "?"


def test_bridges_in_a_loop_have_no_parent() -> None:
    topology = by_path("0000:01:00.0/0000:02:00.0", "0000:02:00.0/0000:01:00.0", "0000:02:00.0/0000:03:00.0")
    assert set(parents(topology).values()) == {"?"}
    assert len([remark for remark in topology.remarks if "form a loop" in remark]) == 3


def test_a_path_longer_than_there_are_buses() -> None:
    name = [f"0000:{bus:02x}:{slot:02x}.0" for slot in range(3) for bus in range(256)]
    topology = by_path("/".join(name))
    assert all(len(topology.ancestors(device)) <= 256 for device in topology.devices.values())
    assert topology.remarks


def test_a_device_told_twice_keeps_its_first_entry() -> None:
    topology = from_list([{"bdf": "0000:00:01.0", "driver": "a"}, {"bdf": "00:01.0", "driver": "b"}], source="")
    assert topology.devices[0, 8].driver == "a"
    assert topology.remarks == ("[1]: 0000:00:01.0 is a duplicate of the one at [0]; ignored",)


def test_devices_are_counted() -> None:
    """Without the rest, `check` would miss devices that are there."""
    devices = [{"bdf": f"0000:00:{slot:02x}.0"} for slot in range(4)]
    with limited(Limits(pci_devices=3)):
        assert len(from_list(devices[:3], source="").devices) == 3
        with pytest.raises(TooLargeError, match="more than 3 devices; --limit pci_devices=N"):
            from_list(devices, source="")


def test_remarks_are_counted() -> None:
    topology = from_list([{"bdf": "here"}] * 1000, source="")
    assert len(topology.remarks) <= LIMITS.topology_remarks + 1
    assert topology.remarks[-1].startswith("further remarks are omitted; --limit topology_remarks=N")


def test_an_input_that_is_hardly_anything_but_odd_is_given_up() -> None:
    with pytest.raises(FormatError, match="more than 65536 errors"):
        from_list([{"bdf": "here"}] * 70_000, source="")
    with limited(Limits(topology_errors=3)), pytest.raises(FormatError, match="--limit topology_errors=N"):
        from_list([{"bdf": "here"}] * 4, source="")


# -- a topology that somebody makes himself ---------------------------------------------------------------


def test_a_topology_of_devices() -> None:
    root = Device(domain=0, bdf=8, on_root_bus=True, is_bridge=True)
    below = [Device(domain=0, bdf=0x100 + function, parent=root.address, on_root_bus=False) for function in (1, 0)]
    topology = Topology(devices={device.address: device for device in [*below, root]})
    assert topology.roots == (root,)
    assert names(device.address for device in topology.children(root)) == ["0000:01:00.0", "0000:01:00.1"]
    assert topology.ancestors(below[0]) == (root,)


def test_a_topology_with_a_loop_has_an_end() -> None:
    first = Device(domain=0, bdf=1, parent=(0, 2), on_root_bus=False)
    second = Device(domain=0, bdf=2, parent=(0, 1), on_root_bus=False)
    topology = Topology(devices={(0, 1): first, (0, 2): second})
    assert len(topology.ancestors(first)) == 256
    assert not topology.reaches_root(first)


# -- against lspci ----------------------------------------------------------------------------------------


@st.composite
def machines(draw: st.DrawFn) -> dict[str, bytes]:
    """A sound machine: bus numbers as firmware gives them, depth first."""
    found: dict[str, bytes] = {}
    domain, last = draw(st.sampled_from([0, 1, 0x10000])), 0

    def bus(number: int, depth: int) -> int:
        nonlocal last
        for slot in range(draw(st.integers(1, 3))):
            name = f"{domain:04x}:{number:02x}:{slot:02x}.0"
            if depth < 4 and last < 200 and draw(st.booleans()):
                last += 1
                below = last
                bus(below, depth + 1)
                found[name] = bridge(number, below, last)
            else:
                found[name] = config()
        return last

    bus(0, 0)
    return dict(sorted(found.items()))


@pytest.mark.skipif(LSPCI is None, reason="no lspci here")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(devices=machines())
def test_lspci_finds_the_same_bridges_above_each_device(devices: dict[str, bytes], tmp_path: Path) -> None:
    assert LSPCI is not None
    (tmp_path / "dump").write_text(dump_text(devices))
    text = subprocess.run([LSPCI, "-D", "-PP", "-F", tmp_path / "dump"], check=True, capture_output=True, text=True)
    ours = Machine(tmp_path / "ours")(devices)
    (tmp_path / "paths").write_text(text.stdout)
    assert parents(ours) == parents(read_topology(tmp_path / "paths"))
    assert "?" not in parents(ours).values()
