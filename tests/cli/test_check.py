# SPDX-License-Identifier: MIT
"""`luoser check` and `luoser rules` as they are run."""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from luoser.checks import rules
from luoser.cli import check as check_module
from luoser.memory.overlay import Overlay
from luoser.state import State
from tests import real
from tests.checks.test_pending import state_with
from tests.cli.test_cli import Run
from tests.schemas import errors

FROZEN = str(real.path("7.3-a/frozen"))
TOPOLOGY = str(real.REAL / "7.3-a" / "topology.json")
RESULT = re.compile(r"^(ok|not ok) (\d+) ([A-Z]{3}\d{3}) [a-z0-9-]+( # SKIP \S.*)?$")


def test_a_sound_handover_is_0(luoser_process: Run) -> None:
    result = luoser_process("check", FROZEN)
    assert result.returncode == 0 and re.search(rb"\nverdict  sound, 1 info: \d+ rules passed\n", result.stdout)


def test_a_finding_on_the_machine_is_1(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "--topology", TOPOLOGY)
    assert result.returncode == 1 and b"bridge-chain-incomplete" in result.stdout


def test_json_is_valid_and_names_the_missing_bridges(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "--topology", TOPOLOGY, "--format", "json")
    found = json.loads(result.stdout)
    assert errors(found) == []
    first = found["findings"][0]
    assert (first["severity"], first["device"], bool(first["missing"])) == ("error", "0000:04:00.0", True)
    judged = {entry["rule"] for entry in found["skipped"]} | set(found["passed"])
    assert judged | {finding["rule"] for finding in found["findings"]} == {rule.id for rule in rules()}


def test_ktap_is_what_a_tap_parser_takes(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "--topology", TOPOLOGY, "--format", "ktap")
    lines = result.stdout.decode().splitlines()
    assert (result.returncode, lines[0], lines[1]) == (1, "KTAP version 1", f"1..{len(rules())}")
    tests = [match for line in lines[2:] if not line.startswith("#") and (match := RESULT.match(line))]
    assert len(tests) == sum(not line.startswith("#") for line in lines[2:]) == len(rules())
    assert [int(match[2]) for match in tests] == list(range(1, len(rules()) + 1))
    assert [match[3] for match in tests if match[1] == "not ok"] == ["TOP003"]
    skipped = sum(match[4] is not None for match in tests)
    assert lines[-1] == f"# Totals: pass:{len(tests) - skipped - 1} fail:1 xfail:0 xpass:0 skip:{skipped} error:0"


@pytest.mark.parametrize("output", ["text", "json", "ktap", "junit", "github", "sarif"])
def test_where_nothing_can_be_judged_is_4(luoser_command: Run, output: str) -> None:
    assert luoser_command("check", FROZEN, "--select", "TOP", "--format", output).returncode == 4


def test_sarif_has_a_result_for_each_finding(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "--topology", TOPOLOGY, "--format", "sarif")
    (run,) = json.loads(result.stdout)["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {entry["ruleId"] for entry in run["results"]} <= known
    assert any(entry["level"] == "error" for entry in run["results"])


def test_sarif_says_what_was_not_judged(luoser_command: Run, tmp_path: Path) -> None:
    """No results do not mean that there is nothing to complain of."""
    (tmp_path / "cut").write_bytes(lzma.decompress(Path(FROZEN).read_bytes())[:-4096])
    result = luoser_command("check", tmp_path / "cut", "--format", "sarif")
    (run,) = json.loads(result.stdout)["runs"]
    (invocation,) = run["invocations"]
    assert (result.returncode, invocation["executionSuccessful"]) == (4, False)
    assert {entry["level"] for entry in run["results"]} <= {"note"}
    assert invocation["properties"]["verdict"] == "inconclusive"
    assert any("truncated" in entry["message"]["text"] for entry in invocation["toolExecutionNotifications"])
    (run,) = json.loads(luoser_command("check", FROZEN, "--format", "sarif").stdout)["runs"]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_severity_decides_the_exit_code(luoser_command: Run) -> None:
    arguments = ("check", FROZEN, "--topology", TOPOLOGY, "--ignore", "TOP003")
    assert luoser_command(*arguments).returncode == 0
    assert luoser_command(*arguments, "--severity", "info").returncode == 1


@pytest.mark.parametrize("output", ["text", "json", "ktap", "junit", "github", "sarif"])
def test_severity_counts_in_every_format(luoser_command: Run, output: str) -> None:
    assert luoser_command("check", FROZEN, "--format", output).returncode == 0
    assert luoser_command("check", FROZEN, "--format", output, "--severity", "info").returncode == 1


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_a_reader_that_went_away_is_141(command: str) -> None:
    """And not 1, which means findings."""
    program = [sys.executable, "-c", "from luoser.cli.main import main; main()", command, FROZEN]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141


@pytest.mark.parametrize("release", ["7.3", "v7.3", "7.3.4-lab"])
def test_releases_that_next_takes(luoser_command: Run, release: str) -> None:
    result = luoser_command("check", FROZEN, "--next", release, "--select", "KHO012")
    assert result.returncode == 0 and b"1 rules passed" in result.stdout


def test_a_page_size_that_does_not_fit_leaves_all_unjudged(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "--page-size", "16384")
    assert result.returncode == 4 and b"the map is intact only with 4096" in result.stdout


def test_what_was_skipped_has_a_reason(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "-v")
    assert b"skipped TOP003: the PCI devices of the machine; give them with --topology" in result.stdout


def test_a_mutated_golden_fails_its_rule(luoser_command: Run, tmp_path: Path) -> None:
    document = tmp_path / "state.json"
    document.write_bytes(luoser_command("inspect", FROZEN, "--full", "--contents", "--format", "json").stdout)
    made = luoser_command("build", document, "-o", tmp_path / "bad.elf", "--mutate", "token-duplicate")
    assert made.returncode == 0 and b"breaks LUO016. Expected of a kernel: " in made.stderr
    result = luoser_command("check", tmp_path / "bad.elf")
    assert result.returncode == 1 and b"token-duplicate" in result.stdout


@pytest.mark.parametrize("name", ["PCI003", "flags-illegal"])
def test_a_rule_is_explained(luoser_command: Run, name: str) -> None:
    result = luoser_command("rules", name)
    assert result.returncode == 0 and b"Kernels:" in result.stdout and b"Source: docs/abi/pci.md#" in result.stdout


def test_rules_as_json_are_valid(luoser_command: Run) -> None:
    found = json.loads(luoser_command("rules", "--format", "json").stdout)
    assert errors(found) == []
    assert [rule["rule"] for rule in found["rules"]] == [rule.id for rule in rules()]


def test_every_rule_is_listed(luoser_command: Run) -> None:
    listed = luoser_command("rules").stdout.decode()
    assert [rule.id for rule in rules() if f"{rule.id}  " not in listed] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", FROZEN, "--select", "weather"], b"unknown rule or family"),
        (["check", FROZEN, "--topology", "/nonexistent"], b"No such file"),
        (["check", FROZEN, "--select", "PCI", "--ignore", "PCI"], b"no rule to apply"),
        (["check", FROZEN, "--next", "abc"], b"expected a release such as 7.3.4"),
        (["check", FROZEN, "--next", ""], b"expected a release such as 7.3.4"),
        (["check", FROZEN, "--handlers", ""], b"--handlers: expected names, found an empty one"),
        (["check", FROZEN, "--flbs", "pci", "--flbs", ""], b"--flbs: expected names, found an empty one"),
        (["check", FROZEN, "--drivers", "nvme"], b"--drivers is for --topology"),
        (["rules", "weather"], b"unknown rule or family"),
        (["build", FROZEN, "-o", "x", "--mutate", "weather"], b"unknown rule 'weather'"),
        (["build", FROZEN, "-o", "x", "--mutate", "PCI"], b"PCI is a family of rules: expected one of them"),
    ],
)
def test_what_cannot_be_checked_is_2(luoser_command: Run, arguments: list[str], words: bytes) -> None:
    result = luoser_command(*arguments)
    assert result.returncode == 2 and words in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["build", "extract"])
def test_what_was_made_of_a_sound_handover_is_sound(luoser_command: Run, tmp_path: Path, command: str) -> None:
    place = tmp_path / "made.elf"
    if command == "build":
        document = tmp_path / "state.json"
        document.write_bytes(luoser_command("inspect", FROZEN, "--full", "--contents", "--format", "json").stdout)
        assert luoser_command("build", document, "-o", place).returncode == 0
    else:
        luoser_command("extract", FROZEN, "-o", place)
    found = json.loads(luoser_command("check", place, "--format", "json").stdout)
    assert [finding["rule"] for finding in found["findings"]] == ["MAP020"]  # it holds pages of an unknown handler
    assert found["verdict"] == "sound"


def test_a_topology_without_classes_still_tells_the_chain(luoser_command: Run, tmp_path: Path) -> None:
    devices = json.loads(Path(TOPOLOGY).read_text())
    place = tmp_path / "topology.json"
    place.write_text(json.dumps([{**device, "class": None} for device in devices]))
    result = luoser_command("check", FROZEN, "--topology", place, "--select", "TOP003", "-v")
    assert b"0000:04:00.0" in result.stdout or b"skipped TOP003" in result.stdout


LIST = str(real.ROOT / "fixtures/specs/pci-cover-letter.toml")


@pytest.mark.parametrize("layout", ["auto", "pci-lu-v2-06"])
def test_a_bare_list_is_checked(luoser_command: Run, tmp_path: Path, layout: str) -> None:
    luoser_command("build", LIST, "-o", tmp_path / "list")
    result = luoser_command("check", tmp_path / "list", "--as", layout, "--format", "json")
    document = json.loads(result.stdout)
    assert (result.returncode, document["verdict"]) == (0, "sound")
    assert {"PCI001", "PCI002", "PCI003"} <= set(document["passed"])


@pytest.mark.parametrize("rule", ["PCI002", "PCI003", "PCI006", "PCI008", "PCI012"])
def test_a_bare_list_with_a_broken_rule(luoser_command: Run, tmp_path: Path, rule: str) -> None:
    luoser_command("build", LIST, "-o", tmp_path / "list", "--mutate", rule)
    result = luoser_command("check", tmp_path / "list", "--as", "pci-lu-v2-06", "--format", "json")
    assert result.returncode == 1
    assert rule in {finding["rule"] for finding in json.loads(result.stdout)["findings"]}


def test_a_bare_list_that_is_cut_off(luoser_command: Run, tmp_path: Path) -> None:
    luoser_command("build", LIST, "-o", tmp_path / "list")
    (tmp_path / "cut").write_bytes((tmp_path / "list").read_bytes()[:100])
    result = luoser_command("check", tmp_path / "cut", "--as", "pci-lu-v2-06")
    assert result.returncode == 1 and b"68 bytes of records are missing" in result.stdout


@pytest.mark.parametrize(
    ("source", "layout", "word"),
    [
        ("7.3-a/frozen", "auto", b"expected a device list"),
        ("7.3-a/frozen", "luo-v5", b"luo-v5 is not a device list"),
        ("7.3-a/frozen", "pci-version-2", b"devices are in KHO blocks"),
    ],
)
def test_what_is_not_a_bare_list_is_refused(luoser_command: Run, source: str, layout: str, word: bytes) -> None:
    result = luoser_command("check", real.path(source), "--as", layout)
    assert (result.returncode, result.stdout) == (2, b"") and word in result.stderr


@pytest.mark.parametrize("option", [["--layout", "pci-v1-nr"], ["--root", "0x1000"], ["--raw"], ["--symbols", "x"]])
def test_options_without_effect_on_a_bare_list_are_refused(luoser_command: Run, option: list[str]) -> None:
    result = luoser_command("check", str(real.ROOT / "fixtures/golden/pci-folio.bin"), "--as", "auto", *option)
    assert (result.returncode, result.stdout) == (2, b"") and b"a bare list is one file" in result.stderr


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (["--next", "7.3"], b"are for handovers: with --as SOURCE is a bare list"),
        (["--handlers", "x"], b"are for handovers"),
        (["--flbs", "x"], b"are for handovers"),
        (["--pending"], b"are for handovers"),
        (["--select", "MAP"], b"MAP001 is about handovers: with --as expected rules of PCI and TOP"),
        (["--select", "PCI003", "--select", "luo-unreadable"], b"LUO001 is about handovers"),
    ],
)
def test_what_is_about_handovers_is_refused_for_a_bare_list(
    luoser_command: Run, option: list[str], word: bytes
) -> None:
    result = luoser_command("check", str(real.ROOT / "fixtures/golden/pci-folio.bin"), "--as", "auto", *option)
    assert (result.returncode, result.stdout) == (2, b"") and word in result.stderr


def test_verbose_is_for_text(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, "-v", "--format", "json")
    assert (result.returncode, result.stdout) == (2, b"") and b"--verbose is for text" in result.stderr


class Twice:
    """A source of a running machine whose second reading may find other objects of the kernel."""

    def __init__(self, form: str, *, live: bool, states: list[State]) -> None:
        self.memory = Overlay(real.dump("7.3-a/frozen"))
        self.memory.live, self.memory.format = live, form
        self.states = states

    def open(self) -> AbstractContextManager[Overlay]:
        return nullcontext(self.memory)  # the dump is shared: it stays open

    def read(self, memory: Overlay, **_: bool) -> State:
        return self.states.pop(0)


@pytest.mark.parametrize(("form", "live", "reads"), [("live", True, 2), ("qmp", False, 2), ("elf", False, 1)])
@pytest.mark.parametrize("same", [True, False])
def test_a_running_machine_is_read_twice(form: str, live: bool, reads: int, same: bool) -> None:
    state = state_with()
    (handover,) = state.handovers
    other = state if same else replace(state, handovers=(replace(handover, pending=None),))
    source = Twice(form, live=live, states=[state, other])
    found = check_module._read(source, pending=True)  # type: ignore[arg-type]
    assert len(source.states) == 2 - reads
    assert found.moved is (reads == 2 and not same)
