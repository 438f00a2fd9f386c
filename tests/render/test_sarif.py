# SPDX-License-Identifier: MIT
"""SARIF: one run, whatever the number of sources, and locations that are URIs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luoser.checks import Unjudged
from luoser.render.sarif import sarif, together
from luoser.render.tested import Result
from tests.judged import ENDS, judged


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sarif")


def run_of(end: str, folder: Path, source: str = "vm.elf") -> dict[str, Any]:
    _, report, rules = judged(end, folder)
    (run,) = sarif(report, rules, source)["runs"]
    return dict(run)


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("dumps/vm.elf", "dumps/vm.elf"),
        ("/tmp/a b", "file:///tmp/a%20b"),
        ("vm#1 %41:é", "vm%231%20%2541%3A%C3%A9"),
        ("a\udcff\x1b\n", "a%FF%1B%0A"),
        ("s3://bucket/vm%20core?v=1", "s3://bucket/vm%20core?v=1"),
        ("qmp:/tmp/vm 1.qmp", "qmp:/tmp/vm%201.qmp"),
        ("gdb:localhost:1234", "gdb:localhost:1234"),
    ],
)
def test_a_source_is_a_uri(folder: Path, source: str, uri: str) -> None:
    run = run_of("findings", folder, source)
    places = [result["locations"][0] for result in run["results"]]
    places += [note["locations"][0] for note in run["invocations"][0]["toolExecutionNotifications"]]
    assert {place["physicalLocation"]["artifactLocation"]["uri"] for place in places} == {uri}


def test_a_result_has_its_place_and_what_to_do(folder: Path) -> None:
    (result,) = run_of("findings", folder)["results"]
    assert result["locations"][0]["physicalLocation"]["address"] == {"absoluteAddress": 0x1004060}
    assert result["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "luo.sessions[1]"}]
    words, hint = result["message"]["text"].split("\n")
    assert "duplicate name" in words and hint.startswith("→ ")


@pytest.mark.parametrize("end", ["inconclusive", "nothing"])
def test_what_was_not_judged_is_a_failed_invocation_with_words(folder: Path, end: str) -> None:
    (invocation,) = run_of(end, folder)["invocations"]
    assert not invocation["executionSuccessful"]
    assert any(note["level"] == "warning" for note in invocation["toolExecutionNotifications"])


def test_findings_do_not_hide_that_other_rules_were_not_judged(folder: Path) -> None:
    _, report, rules = judged("findings", folder)
    gap = Unjudged(rule="LUO004", reason="damaged", cause="damaged")
    (invocation,) = sarif(replace(report, unjudged=(gap,)), rules, "<a>")["runs"][0]["invocations"]
    assert not invocation["executionSuccessful"]


def test_several_sources_are_invocations_of_one_run(folder: Path) -> None:
    """GitHub refuses a file with several runs of one tool."""
    results = [
        Result(source=end, out=json.dumps({"runs": [run_of(end, folder, end)]}), exit=code, said=())
        for end, code in ENDS.items()
    ]
    results.insert(1, Result(source="<a>", out="", exit=2, said=("not a dump",)))
    (run,) = json.loads("".join(together(results, len(results))))["runs"]
    ends = [invocation["executionSuccessful"] for invocation in run["invocations"]]
    assert ends == [True, False, True, False, False]
    of = [(entry["provenance"]["invocationIndex"], entry["ruleId"]) for entry in run["results"]]
    assert of == [(0, "MAP020"), (2, "LUO014")]
    names = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(names) == len(set(names)) and {name for _, name in of} <= set(names)
    (note,) = run["invocations"][1]["toolExecutionNotifications"]
    assert note["message"]["text"] == "<a>: not a dump"


def test_sources_of_which_none_was_read_are_a_run_too() -> None:
    lost = Result(source="a", out="", exit=2, said=("gone",))
    (run,) = json.loads("".join(together([lost, lost], 2)))["runs"]
    assert run["results"] == [] and len(run["invocations"]) == 2
