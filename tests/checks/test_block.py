# SPDX-License-Identifier: MIT
"""Rules on the pages that hold sessions, files and FLBs: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.checks import check
from luoser.state import Problem
from luoser.writer.mutate import mutations
from tests import real
from tests.checks.mutants import NAME, errors, judged, luo_of, reason, report_of, rules_found, u64, written


def test_a_session_block_that_is_not_in_the_source_skips_what_it_would_show() -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(luo_of(real.read("7.3-a/frozen")).session_blocks[0])
    report = check(luoser.read(memory), select=["LUO"])
    assert rules_found(report) == set()
    for rule in ("LUO008", "LUO009", "LUO012", "LUO019"):
        assert "LUO sessions" in reason(report, rule)


def test_a_loop_of_file_blocks_locks_the_device_and_is_told_with_its_session() -> None:
    block = luo_of(real.read("7.3-a/frozen")).sessions[1].blocks[0]
    memory = real.overlay("7.3-a/frozen")
    memory.write(block, u64(block))
    (finding,) = check(luoser.read(memory), select=["LUO008"]).findings
    assert finding.where == "luo.sessions[1].files"
    assert "-EIO" in finding.hint


def test_a_session_area_with_one_session_too_many_is_refused() -> None:
    """819 fit the 16 pages of 6.19, 820 do not."""
    state, image = written("6.19-a/frozen")
    mutations()["LUO009"].apply(image, state)
    assert errors(report_of(image)) == {"LUO009"}


def test_an_flb_page_of_two_pages_is_refused() -> None:
    area = luo_of(real.read("7.3-a/frozen")).flb_area
    memory = real.overlay("7.3-a/frozen")
    memory.write(area or 0, u64(2))
    assert rules_found(judged(memory, "LUO")) == {"LUO009"}


@pytest.mark.parametrize(
    ("about", "effect"),
    [("luo.sessions", "panics"), ("luo.flbs", "panics"), ("luo.sessions[12].files", "-EIO"),
     ("luo.sessions[1].files[0]", None), ("luo.sessions[0].files[0].memfd.folios", None), ("luo", None)],
)  # fmt: skip
@pytest.mark.parametrize(("rule", "code"), [("LUO008", "loop"), ("LUO008", "bad-pointer"), ("LUO009", "bad-count")])
def test_only_problems_of_a_chain_itself_are_told(rule: str, code: str, about: str, effect: str | None) -> None:
    state = real.read(NAME)
    met = Problem(code=code, address=0x1000, message="broken", root=state.handovers[0].address, about=about)
    report = check(replace(state, problems=(met,)), select=[rule])
    assert [(finding.where, finding.address) for finding in report.findings] == ([(about, 0x1000)] if effect else [])
    assert all(effect in finding.hint for finding in report.findings if effect)
    unread = replace(met, code="missing")
    report = check(replace(state, problems=(unread,)), select=[rule])
    assert [(entry.about, entry.cause) for entry in report.unjudged] == ([(about, "missing")] if effect else [])
