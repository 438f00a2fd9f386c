# SPDX-License-Identifier: MIT
"""Tests stand where their subject does: tests/ROOM/test_X.py is about luoser/ROOM/X.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import ROOT

ROWS = (
    "abi",
    "memory",
    "kernel",
    "state",
    "reader",
    "writer",
    "checks",
    "clashes",
    "changes",
    "topology",
    "extracts",
    "render",
    "fleet",
    "survey",
    "api",
    "testing",
    "cli",
    "drgn",
)
SPANNING: dict[str, str] = {
    "abi/test_compiled.py": "every struct against what a compiler makes of it",
    "abi/test_invented_layout.py": "a layout that no kernel has, through every row",
    "abi/test_layouts.py": "every struct against the catalogue",
    "api/test_api.py": "all of `import luoser`",
    "checks/test_forms.py": "all rules in every form of LUO",
    "changes/test_seen.py": "sources that are damaged or incomplete",
    "checks/test_rules.py": "what holds for every rule",
    "checks/test_subjects.py": "what no rule may go by",
    "survey/test_row.py": "one source, and one pair, without a data set",
    "survey/test_queries.py": "the queries of docs/howto/survey.md",
    "cli/test_build_specs.py": "the shipped descriptions",
    "cli/test_cli.py": "what all commands share",
    "cli/test_sources.py": "options that all commands with a source have",
    "changes/test_changes.py": "one change of every subject",
    "changes/test_progress.py": "real dumps before and after a kexec",
    "changes/test_subjects.py": "what explains that a thing is gone, of every subject",
    "drgn/test_guest.py": "a real kernel with its debug info",
    "memory/test_agreement.py": "one machine in every format",
    "memory/test_libkdumpfile.py": "the test cases of libkdumpfile",
    "memory/test_makedumpfile.py": "what makedumpfile itself writes",
    "memory/test_progress.py": "searches of every format",
    "reader/test_hostile.py": "what a hostile image may cost",
    "reader/test_real.py": "real dumps against an independent reader",
    "reader/test_truth.py": "real dumps against what their kernels said",
    "state/test_state_schema.py": "the JSON Schema of the state",
    "testing/test_example.py": "the example project of docs/examples",
    "testing/test_testing.py": "the assertions",
    "topology/test_guest.py": "every form of one guest",
    "topology/test_live.py": "the machine that the tests run on",
    "writer/golden/test_hostile.py": "names in every kind of golden file",
    "writer/golden/test_style.py": "the style of every kind of golden file",
    "writer/test_real.py": "real dumps written anew",
    "writer/test_round_trip.py": "random states written and read",
}
"""Files about several modules, with their subject."""
FILES = sorted(path for row in ROWS for path in (ROOT / "tests" / row).rglob("test_*.py"))


def subject(test: Path) -> Path:
    """The module or package that a file of tests is named like."""
    place = test.relative_to(ROOT / "tests")
    module = ROOT / "luoser" / place.with_name(place.name.removeprefix("test_"))
    return module.with_suffix("") if module.with_suffix("").is_dir() else module


@pytest.mark.parametrize("test", FILES, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_a_file_of_tests_is_named_like_its_module(test: Path) -> None:
    name = test.relative_to(ROOT / "tests").as_posix()
    assert subject(test).exists() != (name in SPANNING)


def test_every_row_has_tests_and_every_exception_is_there() -> None:
    names = {path.relative_to(ROOT / "tests").as_posix() for path in FILES}
    assert SPANNING.keys() <= names
    assert {name.partition("/")[0] for name in names} == set(ROWS)
