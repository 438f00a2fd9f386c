# SPDX-License-Identifier: MIT
"""The rule on the sub-tree of the KHO self-test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.checks import check
from luoser.state import Direction, Problem
from tests import real
from tests.checks.mutants import NAME, changed, reason

SELF_TEST = real.read(NAME).handovers[0].kho_test
TREE = "subtrees[3]"


@pytest.mark.parametrize("more", [-1, 0, 1, 1 << 31])
def test_only_one_magic_is_right(more: int) -> None:
    assert SELF_TEST is not None
    report = check(changed(NAME, kho_test=replace(SELF_TEST, magic=SELF_TEST.magic + more)), select=["KHO014"])
    assert [finding.address for finding in report.findings] == ([SELF_TEST.address] if more else [])
    word = f"magic of the KHO self-test is {SELF_TEST.magic + more:#x}, expected {SELF_TEST.magic:#x}"
    assert all(finding.message == word and finding.where == "kho_test" for finding in report.findings)


def test_a_broken_list_of_folios_is_told_as_it_was_met() -> None:
    state = changed(NAME, kho_test=None)
    met = Problem(
        code="bad-kho-test", address=0x680000, message="broken", root=state.handovers[0].address, about="kho_test"
    )
    (finding,) = check(replace(state, problems=(met,)), select=["KHO014"]).findings
    assert (finding.message, finding.address, finding.where) == ("broken", 0x680000, "kho_test")


@pytest.mark.parametrize("about", ["kho_test", TREE])
def test_a_self_test_that_was_not_read_is_not_judged(about: str) -> None:
    state = changed(NAME, kho_test=None)
    met = Problem(code="missing", address=0x680000, message="absent", root=state.handovers[0].address, about=about)
    (entry,) = check(replace(state, problems=(met,)), select=["KHO014"]).unjudged
    assert (entry.about, entry.cause) == (about, "missing")


def test_what_is_not_there_or_was_consumed_is_not_judged() -> None:
    assert "no sub-tree kho_test" in reason(check(changed(NAME, subtrees=()), select=["KHO014"]), "KHO014")
    consumed = check(changed(NAME, direction=Direction.INCOMING), select=["KHO014"])
    assert "consumed" in reason(consumed, "KHO014")
