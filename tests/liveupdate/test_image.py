# SPDX-License-Identifier: MIT
"""What the model hands over, as an image that is read and checked."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from hypothesis import given, settings

import luoser
from luoser.checks import Severity, check
from luoser.cli.main import cli
from luoser.errors import UsageError
from luoser.liveupdate import image_of, load_scenario, simulate
from luoser.liveupdate.sessions.machine import SessionMachine
from luoser.liveupdate.subsystems.series import SERIES as SUBSYSTEM_SERIES
from luoser.state import Direction, State
from tests.liveupdate.images import image
from tests.liveupdate.machines import FOLIO, VF, golden, run, sessions
from tests.liveupdate.scenarios import scenarios
from tests.real import ROOT


def test_the_golden_list_is_read_back() -> None:
    state = image(run("freeze"))
    (found,) = state.handovers[0].pci
    assert (found.layout, found.address, found.via) == ("pci-lu-v2-06", FOLIO, ("subsystem:pci",))
    assert [(device.name, device.fields["driver_data"]) for device in found.devices] == [
        (VF, 0x1AC6F4000),
        ("0000:04:01.0", 0),
    ]
    assert state.problems == ()


@pytest.mark.parametrize("fixed", [False, True])
def test_check_finds_the_bridges_that_the_series_leaves_out(fixed: bool) -> None:
    scenario = load_scenario(golden())
    machine = simulate(scenario, until="freeze", is_fixed=fixed)
    report = check(image(machine), topology=scenario.topology)
    chain = [] if fixed else ["bridge-chain-incomplete"]
    assert [finding.slug for finding in report.findings] == [*chain, "vf-without-pf"]  # the series keeps no PFs


KNOWN = {1: "bridge-chain-incomplete"}
"""What check says of the known bugs that an image shows."""


@settings(max_examples=80)
@given(values=scenarios(), series=st.sampled_from([name for name in SUBSYSTEM_SERIES if name[-3:] >= "-08"]))
def test_check_finds_nothing_else(values: dict[str, Any], series: str) -> None:
    scenario = load_scenario({**values, "series": series})
    for fixed in (False, True):
        machine = simulate(scenario, until="freeze", is_fixed=fixed)
        if machine.error is not None:
            continue
        report = check(image(machine), topology=scenario.topology, drivers=["lab"])
        slugs = {one.slug for one in report.findings if one.severity is not Severity.INFO}
        assert slugs <= {KNOWN[bug] for bug in machine.trace.bugs if bug in KNOWN}, report.findings


def test_a_failed_freeze_leaves_an_image_too() -> None:
    faults = [{"at": "freeze", "device": VF}]
    (found,) = image(run("freeze", faults=faults)).handovers[0].pci
    assert found.address == FOLIO


def test_the_tree_of_the_rfc_has_a_mebibyte_and_a_node_for_files() -> None:
    (handover,) = image(run("freeze")).handovers
    assert handover.luo is not None
    tree = handover.subtrees[0].fdt
    assert tree is not None
    assert tree.header.totalsize == 1 << 20
    assert [node.name for node in tree.root.nodes] == [b"subsystems", b"file-descriptors"]
    assert handover.preserved.map is not None
    block = handover.preserved.map.find(handover.luo.address)
    assert block is not None
    assert (block.address, block.order) == (handover.luo.address, 8)


def test_before_the_reboot_call_sessions_are_not_serialised() -> None:
    (handover,) = image(sessions("prepare")).handovers
    assert handover.luo is not None
    assert (handover.luo.serialized, handover.luo.sessions, handover.pci) == (False, (), ())
    assert handover.preserved.map is not None
    assert handover.preserved.map.pages > 6


def test_where_nothing_is_handed_over_there_is_no_image() -> None:
    with pytest.raises(UsageError, match="nothing is handed over in state normal"):
        run("cancel").document()


def test_what_was_carried_is_an_incoming_image() -> None:
    assert image(run("restore")).handovers[0].pci[0].address == FOLIO


# -- the list that the next kernel is finishing

PLAIN, DEEP = "0000:00:02.0", "0000:03:00.0"


def being_finished(series: str, *, sessions_left: int) -> SessionMachine:
    wanted = [{"name": "a", "files": [{"device": DEEP}]}, {"name": "b", "files": [{"device": PLAIN}]}]
    machine = sessions("restore", series=series, sessions=wanted)
    while len(machine.luo.incoming) > sessions_left:
        machine.luo.finish(machine.luo.incoming[0])
    return machine


def as_incoming(state: State) -> State:
    (handover,) = state.handovers
    return replace(state, handovers=(replace(handover, direction=Direction.INCOMING),))


def errors(state: State) -> list[str]:
    return [one.message for one in check(state).findings if one.severity is Severity.ERROR]


COUNTING = ["pci-core-branch", *(f"pci-core-v{number}" for number in range(4, 10))]
"""Postings with refcounts."""


@pytest.mark.parametrize("series", COUNTING)
def test_a_list_that_is_being_finished_leaves_open_whose_it_is(series: str) -> None:
    state = image(being_finished(series, sessions_left=1))
    (handover,) = state.handovers
    assert handover.direction is Direction.UNKNOWN
    assert "4 devices of the list" in handover.evidence[0]
    assert {device.name: device.number("refcount") for device in handover.pci[0].devices}[DEEP] == 0
    assert state.problems == ()
    assert {one.rule for one in check(state).findings if one.severity is Severity.ERROR} == {"PCI016"}
    assert errors(as_incoming(state)) == []


@pytest.mark.parametrize("series", ["pci-core-v8-05", "pci-core-v9-04", *COUNTING])
def test_a_finished_list_is_read_as_what_it_is(series: str) -> None:
    machine = sessions("restore", series=series, requested=[PLAIN])
    machine.luo.finish(machine.luo.incoming[0])
    state = image(machine, has_old_bytes=True)
    (found,) = state.handovers[0].pci
    assert machine.core.series.layout in found.candidates
    assert found.layout == found.candidates[0]
    assert [device.name for device in found.devices] == [PLAIN]
    assert state.problems == ()
    assert errors(as_incoming(state)) == []


def test_a_list_whose_devices_are_taken_out_is_an_empty_one() -> None:
    state = image(being_finished("pci-core-v1", sessions_left=0), has_old_bytes=True)
    assert (state.handovers[0].pci[0].layout, len(state.handovers[0].pci[0].devices)) == ("pci-v1-nr", 0)
    assert (state.problems, errors(as_incoming(state))) == ((), [])


@pytest.mark.parametrize("series", ["pci-core-v6", "pci-core-v7", "pci-core-v8", "pci-core-v9"])
def test_a_finished_device_that_is_counted_on_is_found(series: str) -> None:
    machine = being_finished(series, sessions_left=1)
    assert machine.core.handed is not None
    machine.core.handed.set_count(5)
    (message,) = errors(as_incoming(luoser.read(image_of(machine).memory())))
    assert "nr_devices is 5, 5 entries are in use, 4 of them finished" in message


def test_a_refcount_that_is_lost_is_found_even_where_the_count_agrees() -> None:
    machine = sessions("freeze", series="pci-core-v9", requested=[DEEP, PLAIN])
    table = machine.core.table
    assert table is not None
    domain, bdf, _ = table.row(0)
    table.write(0, (domain, bdf, 0), "")
    table.set_count(table.count - 1)
    state = luoser.read(image_of(machine).memory())
    assert state.handovers[0].direction is Direction.UNKNOWN
    assert any("refcount is 0" in message for message in errors(state))


@pytest.mark.parametrize("closed", ["a", "b"])
def test_a_sorted_list_ends_where_it_says_so(closed: str) -> None:
    """Entries move down when one goes; the last slot keeps its bytes."""
    devices = [{"bdf": name, "driver": "vfio-pci"} for name in ("0000:00:01.0", PLAIN)]
    wanted = [{"name": "a", "files": [{"device": "0000:00:01.0"}]}, {"name": "b", "files": [{"device": PLAIN}]}]
    changes = [{"before": "freeze", "close": closed}]
    kept = {"series": "pci-core-branch", "devices": devices, "sessions": wanted, "changes": changes}
    machine = sessions("freeze", **kept)
    state = image(machine, has_old_bytes=True)
    (found,) = state.handovers[0].pci
    assert found.layout == "pci-v2-u64"
    assert [device.name for device in found.devices] == [PLAIN if closed == "a" else "0000:00:01.0"]
    assert (state.problems, errors(state)) == ((), [])


@pytest.mark.parametrize("series", ["pci-core-v2", "pci-core-v3", "pci-core-v6-05", "pci-core-v7-05"])
def test_the_first_postings_are_not_asked_for_bridges(series: str) -> None:
    machine = sessions("freeze", series=series, requested=[DEEP])
    report = check(image(machine), topology=machine.scenario.topology)
    assert "TOP003" not in {one.rule for one in report.findings}
    assert "TOP003" in {one.rule for one in report.skipped}


# -- the command


def simulated(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["simulate", *arguments])
    return result.exit_code, result.output


def test_the_command_writes_an_image() -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "a.elf")
        code, text = simulated(str(ROOT / "fixtures/scenarios/cover-letter.toml"), "--until", "freeze", "-o", target)
        assert code == 0
        assert "PCI liveupdate: prepare data[1f1d28000]" in text.splitlines()
        with luoser.open(target) as memory:
            assert luoser.read(memory).handovers[0].pci[0].address == FOLIO


def test_the_command_ends_with_1_where_the_machine_stops() -> None:
    code, text = simulated(str(ROOT / "fixtures/scenarios/failing-freeze.toml"))
    assert code == 1
    assert "stopped: -EBUSY" in text
    assert "A.9 #5" in text


def test_a_scenario_may_name_a_topology(tmp_path: Path) -> None:
    place = tmp_path / "scenario.json"
    place.write_text('{"series": "lab", "requested": ["0000:41:00.0"], "drivers": {"0000:41:00.0": "lab"}}')
    topology = str(ROOT / "fixtures/real/7.3-a/topology.json")
    code, text = simulated(str(place), "--topology", topology, "--until", "prepare")
    assert code == 0
    assert "lab 0000:41:00.0: PCI liveupdate: collect liveupdate device: flags 1" in text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("requested = 1", "devices: missing"),
        ("devices = [{bdf = 'x'}]", "devices[0].bdf: expected a PCI address such as 0000:05:00.1, found x"),
        ("devices = [{bdf = '00:01.0', parent = '00:02.0'}]", "not listed"),
        ("devices = [{bdf = '00:01.0', parent = '00:01.0'}]", "below itself"),
        ("devices = [{bdf = '00:01.0'}, {bdf = '00:01.0'}]", "listed twice"),
        ("devices = [{bdf = '00:01.0'}]\nrequested = ['00:02.0']", "no device 0000:00:02.0"),
        ("devices = [{bdf = '00:01.0'}]\nseries = 'v9'", "unknown series v9: expected one of pci-lu-v1, pci-lu-v2"),
        ("devices = [{bdf = '00:01.0'}]\nfaults = [{at = 'lunch'}]", "lunch"),
        (
            "devices = [{bdf = '00:01.0'}]\nfaults = [{at = 'freeze', device = '00:01.0', errno = 'E'}]",
            "name of an error such as EIO",
        ),
        ("devices = [{bdf = '00:01.0'}]\nchanges = [{before = 'freeze'}]", "expected exactly one of add"),
        ("devices = [{bdf = '00:01.0'}]\nchanges = [{before = 'x', bind = 'y'}]", "expected one of prepare"),
        ("devices = [{bdf = '00:01.0', physfn = '00:00.0'}]", "not listed"),
        ("lunch = 1", "lunch: unknown"),
        ("devices = [{bdf = '00:01.0', drvier = 'x'}]", "devices[0].drvier: unknown"),
        ("devices = []\nfaults = [{at = 'walk', erno = 'EIO'}]", "faults[0].erno: unknown"),
        ("devices = []\nchanges = [{before = 'freeze', unbimd = '00:01.0'}]", "changes[0].unbimd: unknown"),
        ("devices = []\nseries = 'pci-core-v9'\nsessions = [{name = 'a', fils = []}]", "sessions[0].fils: unknown"),
        (
            "series = 'pci-core-v9'\ndevices = []\nsessions = [{name = 'a', files = [{memfd = 'm', seal = 1}]}]",
            "files[0].seal: unknown",
        ),
        ("devices = []\nsessions = []", "sessions: not a member for pci-lu-v2"),
        ("devices = []\nkernel = '7.3'", "kernel: not a member for pci-lu-v2"),
        ("devices = []\nseries = 'pci-core-v9'\nbuses = []", "buses: not a member for pci-core-v9"),
        (
            "devices = []\nseries = 'pci-core-v9'\nrequested = []\nsessions = []",
            "put these devices into the files of a session",
        ),
        ("devices = []\ntopology = 5", "topology: expected"),
        ("devices = []\ndrivers = {'00:01.0' = 'lab'}", "drivers: 0000:00:01.0 is not in this machine"),
        ("devices = []\ntraits = {'00:01.0' = {}}", "traits: 0000:00:01.0 is not in this machine"),
        ("devices = []\nfaults = [{at = 'probe', device = '00:01.0'}]", "faults: 0000:00:01.0 is not in this machine"),
        ("devices = []\nfaults = [{at = 'prepare', subsystem = 'nope'}]", "faults: nope is not in this machine"),
        (
            "devices = [{bdf='00:01.0'}, {bdf='00:01.1', physfn='00:01.0'}, {bdf='01:00.0', parent='00:01.1'}]",
            "a virtual function",
        ),
        (
            "series = 'pci-core-v9'\ndevices = []\n[[sessions]]\nname = 'a'\nfiles = [{memfd = 'm', size = '400M'}]",
            "memfds of at most 0x10000000 bytes in total, found 0x19000000",
        ),
        ("series = 'pci-core-v9'\ndevices = []\nchanges = [{before = 'finish', create = 'x'}]", "create before finish"),
        (
            "series = 'pci-core-v9'\ndevices = []\nfaults = [{at = 'allocate', folio = 'LUO root'}]",
            "LUO is disabled without its own pages",
        ),
        ("devices = []\ntraits = {'00:01.0' = {pm_kap = 1}}", "pm_kap: unknown"),
        ("devices = []\nbuses = [{bus = '0000:00', resource = [{name = 'x', begin = 1}]}]", "begin: unknown"),
        ("devices = [{bdf = '00:01.0'}]\ndrivers = {'00:01.0' = 1}", "expected a text"),
        ("devices = [{bdf = '00:01.0'}]\nplaces = {'pci folio' = 'x'}", "pci folio"),
        ("devices = [{bdf = '00:01.0'}]\nplaces = {'pci folio' = 5}", "expected a page address below 2^52, found 0x5"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(tmp_path: Path, text: str, word: str) -> None:
    place = tmp_path / "scenario.toml"
    place.write_text(text)
    result = CliRunner().invoke(cli, ["simulate", str(place)])
    assert isinstance(result.exception, UsageError)
    assert word in str(result.exception)
