# SPDX-License-Identifier: MIT
"""The limits: one object, given to each entry, in force only inside of it."""

from __future__ import annotations

import ast
import re
from dataclasses import fields

import pytest

import luoser
from luoser.checks import check
from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, Limits, how_to_raise, in_force, limited, meanings, with_values
from tests import real


def test_each_limit_has_a_default_and_says_what_it_stands_for() -> None:
    assert list(meanings()) == [one.name for one in fields(Limits)]
    for name, (default, word) in meanings().items():
        assert getattr(Limits(), name) == default > 0 and word and word[-1] != "."


def test_limits_are_in_force_inside_of_their_block_only() -> None:
    assert LIMITS.roots == 16
    with limited(Limits(roots=2)):
        assert LIMITS.roots == 2 and in_force() == Limits(roots=2)
        with limited(None):
            assert LIMITS.roots == 2
        assert how_to_raise("roots") == "--limit roots=N raises this limit, now 2"
    assert in_force() == Limits()


def test_values_by_name() -> None:
    assert with_values(Limits(chain=7), {"roots": 2}) == Limits(chain=7, roots=2)
    with pytest.raises(UsageError, match="unknown limit 'root'"):
        with_values(Limits(), {"root": 2})


def test_limits_of_a_reading_end_with_it() -> None:
    state = luoser.read(real.dump("7.3-a/frozen"), limits=Limits(read_bytes=1))
    assert state == real.read("7.3-a/frozen")  # 16 times what it holds is more
    assert in_force() == Limits()


@pytest.mark.parametrize(
    ("name", "value"), [("map_nodes", 2), ("entries", 1), ("chain", 0), ("vmalloc_chunks", 0), ("fdt_bytes", 100)]
)
def test_limit_that_is_met_is_named_and_leaves_the_verdict_open(name: str, value: int) -> None:
    whole = luoser.read(real.dump("7.3-a/frozen"))
    state = luoser.read(real.dump("7.3-a/frozen"), limits=with_values(Limits(), {name: value}))
    assert not any("--limit" in problem.message for problem in whole.problems)
    assert any(f"--limit {name}=N" in problem.message for problem in state.problems)
    report = check(state)
    assert "KHO024" in check(whole).passed and "KHO024" not in report.passed
    assert "limit" in {one.cause for one in report.unjudged}


@pytest.mark.parametrize("name", ["fdt_size", "fdt_depth", "fdt_nodes", "fdt_properties", "fdt_name"])
def test_a_root_that_meets_a_limit_is_not_only_missing(name: str) -> None:
    state = luoser.read(real.dump("7.3-a/frozen"), limits=with_values(Limits(), {name: 0}))
    assert not state.handovers
    assert any(problem.code == "too-many" and f"--limit {name}=N" in problem.message for problem in state.problems)
    assert check(state).verdict == "inconclusive"


@pytest.mark.parametrize("name", ["pci_devices", "list_size"])
def test_what_is_a_device_list_is_no_matter_of_limits(name: str) -> None:
    state = luoser.read(real.dump("7.3-a/frozen"), limits=with_values(Limits(), {name: 1}))
    assert state == real.read("7.3-a/frozen")


QUIET = {
    "hashed": "null in place of the sum",
    "kdump_checked": "each page is looked at again when it is read",
    "kdump_descriptors": "of more, each page counts as bytes of its own",
    "overlap_bytes": "segments that were not compared count as different, which is said",
    "overlap_remarks": "their number is said",
    "remote_cache": "what is not kept is fetched again",
    "report_node": "the page says which command shows all",
}
"""Limits that hide nothing, so that nothing names them."""


def test_what_meets_a_limit_names_it() -> None:
    texts = [place.read_text() for place in (real.ROOT / "luoser").rglob("*.py") if place.name != "limits.py"]
    named = {name for name in meanings() if re.search(rf"[\"']{name}[\"']|--limit {name}\b", "\n".join(texts))}
    assert meanings().keys() - named == QUIET.keys()


def test_each_message_with_a_limit_says_how_to_raise_it() -> None:
    silent = set()
    for place in (real.ROOT / "luoser").rglob("*.py"):
        for function in ast.walk(ast.parse(place.read_text())):
            if isinstance(function, ast.FunctionDef):
                code = ast.unparse(function)
                shown = set(re.findall(r"\{LIMITS\.(\w+)", code)) - QUIET.keys()
                silent |= {
                    (place.name, name)
                    for name in shown
                    if not re.search(rf"how_to_raise\('{name}'\)|--limit {name}", code)
                }
    assert silent == {("devices.py", "report_rows")}  # how many are left out is said


def test_limits_of_opening() -> None:
    place = real.path("7.3-a/frozen")
    with pytest.raises(SourceError, match=r"limits=Limits\(unpacked=N\) raises this limit, now 1000"):
        luoser.open(place, limits=Limits(unpacked=1000))
    luoser.open(place).close()
