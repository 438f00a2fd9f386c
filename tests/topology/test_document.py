# SPDX-License-Identifier: MIT
"""Snapshots and lists in JSON: written, read back, damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import SourceError, UsageError
from luoser.topology import Device, Topology, from_document, read_topology, to_document
from luoser.topology.build import Found, Remarks, build
from luoser.topology.document import from_list
from tests import real, schemas
from tests.topology.guest import GUEST, parents, unpack

ADDRESSES = st.tuples(st.sampled_from([0, 1, 0x10000, 0xFFFFFFFF]), st.sampled_from([0, 8, 0x100, 0x108, 0xFFFF]))
MAYBE = st.none() | st.booleans()
IDS = st.none() | st.integers(0, 0xFFFF)
BUSES = st.none() | st.integers(0, 255)
TEXT = st.text(st.characters(codec="utf-8") | st.integers(0xDC80, 0xDCFF).map(chr), max_size=20)
DEVICES = st.builds(
    lambda address, **more: Device(domain=address[0], bdf=address[1], **more),
    ADDRESSES, on_root_bus=MAYBE, is_bridge=MAYBE, class_code=st.none() | st.integers(0, 0xFFFFFF), vendor=IDS,
    device=IDS, driver=st.none() | TEXT, is_vf=MAYBE, physfn=st.none() | ADDRESSES, busmaster=MAYBE,
    secondary_bus=BUSES, subordinate_bus=BUSES,
)  # fmt: skip
FOUND = st.builds(
    lambda device, above, rooted: Found(device=device, place="here", above=tuple(above), is_rooted=rooted),
    DEVICES, st.lists(ADDRESSES, max_size=3), st.booleans(),
)  # fmt: skip
TOPOLOGIES = st.builds(
    lambda found, source, form, remarks, infer: build(
        found, source=source, form=form, remarks=Remarks(remarks), infer=infer
    ),
    st.lists(FOUND, max_size=12), TEXT, TEXT, st.lists(TEXT, max_size=3), st.booleans(),
)  # fmt: skip


@given(TOPOLOGIES)
def test_a_snapshot_reads_back_as_it_was(topology: Topology) -> None:
    document = to_document(topology)
    assert schemas.errors(document) == []
    again = from_document(json.loads(json.dumps(document)))
    assert again.devices == topology.devices
    assert again == topology
    assert again.unknown == topology.unknown
    assert list(again.devices) == sorted(again.devices)


@given(TOPOLOGIES)
def test_what_is_built_holds_together(topology: Topology) -> None:
    for device in topology.devices.values():
        assert (device.parent is None) or (device.on_root_bus is False and device.parent in topology.devices)
        assert all(above.is_bridge for above in topology.ancestors(device))
        assert len({above.address for above in topology.ancestors(device)}) == len(topology.ancestors(device))
        assert device.physfn is None or device.is_vf
    reached = [*topology.roots]
    for device in reached:
        reached += topology.children(device)
    assert len(reached) == len(topology.devices)


@pytest.mark.parametrize("form", ["sysfs", "xxxx.txt.xz", "vmmnnDk.txt", "vmm.txt"])
def test_snapshots_of_the_guest(form: str, tmp_path: Path) -> None:
    topology = read_topology(unpack(tmp_path / "sys") if form == "sysfs" else GUEST / f"lspci-{form}")
    document = to_document(topology)
    assert schemas.errors(document) == []
    (tmp_path / "snapshot").write_text(json.dumps(document))
    assert read_topology(tmp_path / "snapshot") == topology


def test_numbers_are_written_as_sysfs_does(tmp_path: Path) -> None:
    document = to_document(read_topology(unpack(tmp_path)))
    (device,) = (entry for entry in document["devices"] if entry["bdf"] == "0000:02:00.0")
    assert device == {
        "bdf": "0000:02:00.0", "parent": "0000:00:02.0", "on_root_bus": False, "is_bridge": True,
        "class": "0x060400", "vendor": "0x104c", "device": "0x8232", "driver": "pcieport", "is_vf": False,
        "physfn": None, "busmaster": True, "secondary_bus": 3, "subordinate_bus": 4,
    }  # fmt: skip


# -- lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", real.CASES)
def test_lists_of_the_real_machines_are_what_their_kernels_said(case: str) -> None:
    topology = read_topology(real.REAL / case / "topology.json")
    assert topology.remarks == ()
    for boot in real.truth(case):
        assert len(topology.devices) == len(boot["pci"])
        for entry in boot["pci"]:
            device = next(found for found in topology.devices.values() if found.name == entry["bdf"])
            above = entry["sysfs"].split("/")[-2]
            assert parents(topology)[entry["bdf"]] == ("" if above.startswith("pci") else above)
            assert device.driver == (entry["driver"] or "")
            assert device.class_code == int(entry["class"], 16)
            assert device.is_bridge == (entry["class"] == "0x060400")
            assert topology.reaches_root(device)
    assert set(topology.unknown) == {"vendor", "is_vf", "busmaster", "secondary_bus"}


def test_the_bridges_that_the_real_lists_lack() -> None:
    """The fact of the real dumps, by the topology alone."""
    topology = read_topology(real.REAL / "7.3-a/topology.json")
    device = topology.device(0, 0x0400)
    assert device is not None
    chain = [bridge.name for bridge in topology.ancestors(device)]
    (fact,) = real.expect("7.3-a/frozen")["facts"]
    assert fact["device"] == device.name and set(fact["missing"]) == set(chain[1:])


def test_members_that_a_list_may_leave_out() -> None:
    topology = from_list([{"bdf": "41:00.0"}], source="x")
    assert topology.devices == {(0, 0x4100): Device(domain=0, bdf=0x4100)}
    assert (topology.source, topology.form) == ("x", "list")


def test_null_is_no_driver_in_a_list_and_not_known_in_a_snapshot() -> None:
    assert from_list([{"bdf": "41:00.0", "driver": None}], source="").devices[0, 0x4100].driver == ""
    document = {"schema": "luoser/topology/1", "devices": [{"bdf": "0000:41:00.0", "driver": None}]}
    assert from_document(document).devices[0, 0x4100].driver is None


def test_more_members_of_a_list() -> None:
    entry = {"bdf": "41:00.1", "vendor": "0x8086", "device": "10d3", "physfn": "0000:41:00.0", "class": 0x020000}
    device = from_list([entry], source="").devices[0, 0x4101]
    assert (device.vendor, device.device, device.class_code) == (0x8086, 0x10D3, 0x020000)
    assert (device.is_vf, device.physfn) == (True, (0, 0x4100))


@pytest.mark.parametrize(
    "damage",
    [
        {"bdf": None}, {"bdf": 7}, {"bdf": "here"}, {"bdf": "0000:00:20.0"}, {"bdf": "100000000:00:00.0"},
        {"class": "0x1000000"}, {"class": -1}, {"class": True}, {"class": 1.5}, {"class": []}, {"class": "red"},
        {"vendor": 0x10000}, {"device": "12345"}, {"driver": 5}, {"driver": "x" * 1000}, {"driver": ["x"]},
        {"physfn": "x"}, {"physfn": {}},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("form", ["list", "snapshot"])
def test_an_entry_that_cannot_be_is_left_out_and_told(damage: dict[str, Any], form: str) -> None:
    entries: list[Any] = [{"bdf": "0000:00:02.0"}, {"bdf": "0000:00:01.0", "driver": "a"} | damage]
    document = {"schema": "luoser/topology/1", "devices": entries}
    topology = from_list(entries, source="") if form == "list" else from_document(document)
    assert list(topology.devices) == [(0, 0x10)]
    (name,) = damage
    assert f"[1].{name}: " in topology.remarks[0] and topology.remarks[0].endswith("; ignored")


@pytest.mark.parametrize(
    "damage",
    [{"parent": "up"}, {"on_root_bus": "yes"}, {"is_bridge": 1}, {"secondary_bus": 256}, {"busmaster": "on"}],
    ids=str,
)
def test_a_device_of_a_snapshot_that_cannot_be_is_left_out(damage: dict[str, Any]) -> None:
    devices = [{"bdf": "0000:00:02.0"}, {"bdf": "0000:00:01.0"} | damage]
    topology = from_document({"schema": "luoser/topology/1", "devices": devices})
    assert list(topology.devices) == [(0, 0x10)]


def test_entries_that_are_no_objects() -> None:
    topology = from_list([1, "x", None, [], {"bdf": "00:02.0"}], source="")
    assert list(topology.devices) == [(0, 0x10)]
    assert len(topology.remarks) == 4


@pytest.mark.parametrize(
    "document", [{}, {"schema": "luoser/state/1"}, {"schema": 5}, {"schema": "luoser/topology/1", "devices": 5},
                 {"schema": "luoser/topology/1", "source": "x"}, {"schema": "luoser/topology/1", "remarks": 1}],
    ids=str,
)  # fmt: skip
def test_documents_that_are_no_snapshot(document: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        from_document(document)
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"x\.json: "):
        read_topology(tmp_path / "x.json")


# -- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[\n{"bdf": }]', r"line 2, column 9"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 10_000 + "]", "10000 digits: expected at most"),
        ("[]", "no PCI device"),
        ('[{"bdf": "x"}]', "no PCI device.*bdf"),
        ("{}", "schema: missing; expected luoser/topology/1"),
        ('{"schema": "\\u001b[2J"}', r"\\x1b\[2J"),
    ],
)
def test_json_that_is_no_topology(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(SourceError, match=words) as caught:
        read_topology(tmp_path / "file")
    assert "\x1b" not in str(caught.value)
