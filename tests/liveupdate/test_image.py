# SPDX-License-Identifier: MIT
"""What the model hands over, as an image that is read and checked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings

import luoser
from luoser.checks import Severity, check
from luoser.cli.main import cli
from luoser.errors import UsageError
from luoser.liveupdate import Machine, load_scenario, simulate
from luoser.state import State
from luoser.state.load import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from tests.liveupdate.machines import FOLIO, VF, golden, run
from tests.liveupdate.test_machine import scenarios
from tests.real import ROOT


def image(machine: Machine) -> State:
    """The state that is read back, after a look at the bytes of every folio."""
    made = write(from_document(complete(machine.document(), kernel="6.17")))
    for folio in machine.pages.preserved():
        assert made.read(folio.address, len(folio.data)) == folio.data
    return luoser.read(made.memory())


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


@settings(max_examples=60)
@given(values=scenarios())
def test_check_finds_nothing_else(values: dict[str, Any]) -> None:
    scenario = load_scenario(values)
    for fixed in (False, True):
        machine = simulate(scenario, until="freeze", is_fixed=fixed)
        if machine.luo.tree is None or not machine.luo.tree["pci"]:
            continue
        report = check(image(machine), topology=scenario.topology, drivers=["lab"])
        slugs = {one.slug for one in report.findings if one.severity is not Severity.INFO}
        known = set() if fixed else {"bridge-chain-incomplete"} if 1 in machine.trace.bugs else set()
        if machine.error is None:
            assert slugs <= known, report.findings


def test_where_nothing_is_handed_over_there_is_no_image() -> None:
    with pytest.raises(UsageError, match="nothing is handed over in state normal"):
        run("cancel").document()


def test_what_was_carried_is_an_incoming_image() -> None:
    assert image(run("restore")).handovers[0].pci[0].address == FOLIO


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
    assert "lab 0000:41:00.0: collect liveupdate device: flags 1" in text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("requested = 1", "devices: missing"),
        ("devices = [{bdf = 'x'}]", "x is no PCI address"),
        ("devices = [{bdf = '00:01.0', parent = '00:02.0'}]", "not listed"),
        ("devices = [{bdf = '00:01.0', parent = '00:01.0'}]", "below itself"),
        ("devices = [{bdf = '00:01.0'}, {bdf = '00:01.0'}]", "listed twice"),
        ("devices = [{bdf = '00:01.0'}]\nrequested = ['00:02.0']", "no device 0000:00:02.0"),
        ("devices = [{bdf = '00:01.0'}]\nseries = 'v9'", "no series is named v9"),
        ("devices = [{bdf = '00:01.0'}]\nfaults = [{at = 'lunch'}]", "lunch"),
        ("devices = [{bdf = '00:01.0'}]\nfaults = [{at = 'freeze', device = '00:01.0', errno = 'E'}]", "no name of an"),
        ("devices = [{bdf = '00:01.0'}]\nchanges = [{before = 'freeze'}]", "expected one of add"),
        ("devices = [{bdf = '00:01.0'}]\nchanges = [{before = 'x', bind = 'y'}]", "expected one of prepare"),
        ("devices = [{bdf = '00:01.0', physfn = '00:00.0'}]", "not listed"),
        ("lunch = 1", "lunch: unknown"),
        ("devices = [{bdf = '00:01.0'}]\ndrivers = {'00:01.0' = 1}", "expected a text"),
        ("devices = [{bdf = '00:01.0'}]\nplaces = {'pci folio' = 'x'}", "pci folio"),
        ("devices = [{bdf = '00:01.0'}]\nplaces = {'pci folio' = 5}", "no address of a page"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(tmp_path: Path, text: str, word: str) -> None:
    place = tmp_path / "scenario.toml"
    place.write_text(text)
    result = CliRunner().invoke(cli, ["simulate", str(place)])
    assert isinstance(result.exception, UsageError)
    assert word in str(result.exception)
