# SPDX-License-Identifier: MIT
"""From rules to a verdict: what counts as found, passed, not applicable and not judged, and which of them wins."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.checks import Severity, Verdict, check
from luoser.errors import PageState
from luoser.state import Direction, MapStatus, Problem, State
from tests import real
from tests.checks.mutants import NAME, changed, luo_of, rules_found

CHAIN = "7.3-chain/frozen2"


def sound() -> State:
    return real.read(NAME)


def unread() -> State:
    """A map that is not in the source."""
    lost = replace(sound().handovers[0].preserved, status=MapStatus.MISSING, map=None)
    return changed(sound(), preserved=lost)


def broken() -> State:
    """Two sessions of one name: an error, LUO014."""
    first, second, *rest = luo_of(sound()).sessions
    return changed(sound(), luo=replace(luo_of(sound()), sessions=(first, replace(second, name=first.name), *rest)))


# -- verdicts ---------------------------------------------------------------------------------------------


def test_findings_win_then_what_was_not_seen() -> None:
    both = replace(broken().handovers[0], preserved=unread().handovers[0].preserved)
    for state, verdict in (
        (sound(), Verdict.SOUND),
        (unread(), Verdict.INCONCLUSIVE),
        (broken(), Verdict.FINDINGS),
        (replace(sound(), handovers=(both,)), Verdict.FINDINGS),
    ):
        report = check(state, ignore=["KHO017"])
        assert report.verdict is verdict
        assert [one.verdict for one in report.handovers] == [verdict]


def test_nothing_at_all_is_not_sound() -> None:
    report = check(replace(sound(), handovers=()))
    assert report.verdict is Verdict.INCONCLUSIVE and report.passed == ()
    assert set(report.counts.values()) == {0}


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [(Severity.ERROR, Verdict.SOUND), (Severity.WARNING, Verdict.FINDINGS), (Severity.INFO, Verdict.FINDINGS)],
)
def test_the_severity_from_which_on_findings_count(severity: Severity, verdict: Verdict) -> None:
    zero = changed(sound(), luo=replace(luo_of(sound()), number=0))  # a warning
    report = check(zero, select=["LUO005"], severity=severity)
    assert rules_found(report) == {"LUO005"} and report.verdict is verdict


def test_one_handover_that_was_not_seen_makes_the_source_inconclusive() -> None:
    state = real.read(CHAIN)
    last = state.handovers[-1]
    lost = replace(last, preserved=replace(last.preserved, status=MapStatus.MISSING, map=None))
    report = check(replace(state, handovers=(*state.handovers[:-1], lost)), select=["MAP005"])
    assert [one.verdict for one in report.handovers] == [Verdict.SOUND, Verdict.INCONCLUSIVE]
    assert report.verdict is Verdict.INCONCLUSIVE


# -- handovers that are not the machine's own -------------------------------------------------------------


def test_a_handover_of_another_machine_counts_for_nothing() -> None:
    for other in (broken(), unread()):
        foreign = replace(other.handovers[0], own=False, address=0x7000000)
        report = check(replace(sound(), handovers=(*sound().handovers, foreign)), ignore=["KHO017"])
        alone = check(sound(), ignore=["KHO017"])
        assert (report.findings, report.unjudged, report.passed) == (alone.findings, alone.unjudged, alone.passed)
        assert (report.counts, report.verdict) == (alone.counts, Verdict.SOUND)
        assert [(one.root, one.own) for one in report.handovers] == [(0x5CD000, True), (0x7000000, False)]


def test_only_handovers_of_another_machine_are_not_sound() -> None:
    foreign = replace(sound().handovers[0], own=False)
    assert check(replace(sound(), handovers=(foreign,))).verdict is Verdict.INCONCLUSIVE


# -- outcomes ---------------------------------------------------------------------------------------------


def test_a_rule_has_one_outcome_for_each_handover() -> None:
    state = real.read(CHAIN)
    report = check(state, select=["MAP005", "LUO014", "KHO012"])
    assert report.counts == {"passed": 3, "found": 0, "not_applicable": 3, "not_judged": 0}
    assert report.passed == ("MAP005", "LUO014")
    assert len(report.skipped) == 3 and len(report.not_looked_at) == 1


def test_a_rule_passes_only_if_it_found_nothing_and_saw_all() -> None:
    first, last = real.read(CHAIN).handovers
    luo = luo_of(replace(real.read(CHAIN), handovers=(last,)))
    twice = replace(last, luo=replace(luo, sessions=(luo.sessions[0], luo.sessions[0])))
    report = check(replace(real.read(CHAIN), handovers=(first, twice)), select=["LUO014"])
    assert rules_found(report) == {"LUO014"} and report.passed == ()
    assert report.counts["found"] == report.counts["passed"] == 1
    unread_map = replace(last, preserved=replace(last.preserved, status=MapStatus.MISSING, map=None))
    report = check(replace(real.read(CHAIN), handovers=(unread_map, replace(last, address=1))), select=["MAP005"])
    assert report.passed == () and report.counts["passed"] == report.counts["not_judged"] == 1


def test_findings_come_by_severity() -> None:
    zero = changed(broken(), luo=replace(luo_of(broken()), number=0))
    severities = [finding.severity for finding in check(zero).findings]
    assert severities == sorted(severities, key=list(Severity).index) and len(set(severities)) == 3


# -- structures that no rule could judge ------------------------------------------------------------------


@pytest.mark.parametrize("ignore", [["KHO"], ["PCI"], ["LUO", "MAP"]])
def test_families_that_were_ignored_are_not_missed(ignore: list[str]) -> None:
    assert check(sound(), ignore=ignore).unjudged == ()


def test_rules_that_were_selected_are_all_that_is_asked() -> None:
    assert check(sound(), select=["KHO001"]).unjudged == ()


def test_a_structure_that_no_rule_could_judge_was_not_seen() -> None:
    """A consumed list in a layout that nobody knows: no rule on device lists applies."""
    lists = tuple(replace(entry, layout="x") for entry in sound().handovers[0].pci)
    for pci, expected in ((lists, ["pci"]), (lists[:1] + sound().handovers[0].pci[1:], [])):
        report = check(changed(sound(), direction=Direction.INCOMING, pci=pci))
        assert [entry.about for entry in report.unjudged] == expected
        assert (report.verdict is Verdict.INCONCLUSIVE) == bool(expected)


# -- what no selection can switch off --

CHOICES = [{"select": ["MAP"]}, {"select": ["LUO"]}, {"ignore": ["KHO"]}, {"ignore": ["KHO018", "KHO017", "KHO020"]}]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("how", ["truncated", "direction", "own root", "handed-over root"])
def test_a_selection_does_not_make_up_for_what_was_not_seen(how: str, choice: dict[str, list[str]]) -> None:
    memory = real.overlay("7.3-a/post")
    incoming, outgoing = real.read("7.3-a/post").handovers
    assert (incoming.direction, outgoing.direction) == (Direction.INCOMING, Direction.OUTGOING)
    state = luoser.read(memory)
    assert check(state, **choice).verdict is Verdict.SOUND  # type: ignore[arg-type]
    if how == "truncated":
        cut = Problem(code="truncated", address=None, message="the file ends early", root=None, about="")
        state = replace(state, problems=(*state.problems, cut))
    elif how == "direction":
        state = replace(state, handovers=(incoming, replace(outgoing, direction=Direction.UNKNOWN)))
    else:
        memory.remove((outgoing if how == "own root" else incoming).address or 0)
        state = luoser.read(memory)
    report = check(state, **choice)  # type: ignore[arg-type]
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.unjudged


def test_rules_do_not_pass_over_sessions_that_were_not_read() -> None:
    memory = real.overlay("7.3-a/frozen")
    luo = real.read("7.3-a/frozen").handovers[0].luo
    assert luo is not None
    rules = [
        "MAP009",
        "MAP010",
        "MAP012",
        "LUO013",
        "LUO014",
        "LUO015",
        "LUO016",
        "LUO017",
        "LUO018",
        "MFD001",
        "MFD010",
    ]
    assert set(rules) <= set(check(luoser.read(memory), select=rules).passed)
    for page in (luo.session_blocks[0], luo.sessions[0].blocks[0]):
        for state in (PageState.ABSENT, PageState.DAMAGED):
            memory = real.overlay("7.3-a/frozen")
            memory.remove(page, state=state)
            report = check(luoser.read(memory), select=rules)
            assert report.passed == () and report.verdict is Verdict.INCONCLUSIVE
            assert {entry.rule for entry in report.unjudged} == set(rules)


def test_each_reason_says_what_would_decide() -> None:
    for name in ("7.3-a/frozen", "6.19-a/frozen", "6.18-a/frozen"):
        one = real.read(name).handovers[0]
        pages = [entry.address for entry in one.subtrees] + list(one.preserved.nodes[:3])
        for page in filter(None, pages):
            for state in (PageState.ABSENT, PageState.EXCLUDED, PageState.DAMAGED):
                memory = real.overlay(name)
                memory.remove(page, state=state)
                unjudged = check(luoser.read(memory)).unjudged
                assert unjudged and all("decides" in entry.reason for entry in unjudged)
