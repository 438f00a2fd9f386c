# SPDX-License-Identifier: MIT
"""Rules on what the running kernel will hand over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.checks import Report, check
from luoser.state import (
    Direction,
    Handover,
    Pending,
    PendingFile,
    PendingFlb,
    PendingSession,
    Problem,
    State,
)
from tests import real

FROZEN = "7.3-a/frozen"


def pending_of(handover: Handover) -> Pending:
    """What a kernel that serialised this handover had in its lists."""
    assert handover.luo is not None
    sessions = tuple(
        PendingSession(
            name=session.name,
            address=0x1000,
            files=tuple(
                PendingFile(compatible=file.compatible, token=file.token, data=file.data, address=0x2000)
                for file in session.files
            ),
        )
        for session in handover.luo.sessions
    )
    flbs = tuple(PendingFlb(name=flb.name, count=flb.count, data=flb.data, address=0x3000) for flb in handover.luo.flbs)
    return Pending(sessions=sessions, flbs=flbs, handlers=("memfd-v2",), evidence=("made",))


def state_with(change: Pending | None = None, *, problems: tuple[Problem, ...] = ()) -> State:
    state = real.read(FROZEN)
    (handover,) = state.handovers
    made = replace(handover, pending=pending_of(handover) if change is None else change)
    return replace(state, handovers=(made,), problems=(*state.problems, *problems))


@pytest.fixture
def pending() -> Pending:
    return pending_of(real.read(FROZEN).handovers[0])


def found(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings if finding.rule.startswith("PEN")}


def unjudged(report: Report) -> set[str]:
    return {one.rule for one in report.unjudged}


def test_what_is_serialised_as_the_kernel_has_it_passes() -> None:
    report = check(state_with())
    assert found(report) == set() and report.verdict == "sound"
    assert {"PEN001", "PEN002", "PEN003", "PEN005"} <= set(report.passed)


def test_without_the_kernels_own_word_nothing_is_judged() -> None:
    report = check(real.read(FROZEN))
    assert not any(name.startswith("PEN") for name in report.passed) and report.verdict == "sound"


def test_what_was_asked_for_and_is_not_known_is_inconclusive() -> None:
    report = check(real.read(FROZEN), pending=True)
    assert report.verdict == "inconclusive" and "PEN001" in unjudged(report)


def test_a_session_that_is_not_serialised_is_lost(pending: Pending) -> None:
    extra = PendingSession(name="forgotten", address=0x9000)
    report = check(state_with(replace(pending, sessions=(*pending.sessions, extra))))
    assert found(report) == {"PEN002"} and report.verdict == "findings"
    assert any("session forgotten" in finding.message for finding in report.findings)


@pytest.mark.parametrize("change", [{"token": 0xDEAD}, {"data": 0x5000}, {"compatible": "memfd-v1"}])
def test_a_file_that_is_serialised_as_another_is_lost(pending: Pending, change: dict[str, int]) -> None:
    first = pending.sessions[0]
    file = replace(first.files[0], **change)  # type: ignore[arg-type]
    sessions = (replace(first, files=(file, *first.files[1:])), *pending.sessions[1:])
    assert "PEN002" in found(check(state_with(replace(pending, sessions=sessions))))


def test_data_outside_of_preserved_memory(pending: Pending) -> None:
    state = state_with(replace(pending, sessions=()))
    flb = PendingFlb(name="mine", count=1, data=0x7FFF_F000, address=0x3000)
    handover = replace(state.handovers[0], pending=replace(pending, flbs=(flb,)))
    report = check(replace(state, handovers=(handover,)))
    assert "PEN003" in found(report)


@pytest.mark.parametrize(("release", "expected"), [("6.19.5", {"PEN004"}), ("7.3.9", set())])
def test_a_handler_that_the_next_kernel_does_not_have(release: str, expected: set[str]) -> None:
    assert found(check(state_with(), next_release=release)) == expected


def test_a_saturated_count_is_a_warning(pending: Pending) -> None:
    flb = replace(pending.flbs[0], count=0xC000_0000)
    state = state_with(replace(pending, flbs=(flb,)))
    report = check(replace(state, handovers=(replace(state.handovers[0], direction=Direction.INCOMING),)))
    assert found(report) == {"PEN005"} and report.verdict == "sound"


def test_a_broken_list_is_an_error_and_what_lies_behind_it_is_not_judged(pending: Pending) -> None:
    root = real.read(FROZEN).handovers[0].address
    text = "list of luo_session at 0x1: prev of item 1 is 0x2, expected 0x3"
    problem = Problem(code="pending-broken", address=None, message=text, root=root, about="pending.sessions")
    report = check(state_with(replace(pending, complete=False), problems=(problem,)))
    assert found(report) == {"PEN001"}
    assert {"PEN002", "PEN003"} <= unjudged(report)


def test_lists_that_move_under_the_reader_are_inconclusive() -> None:
    report = check(state_with(), pending=True, pending_moved=True)
    assert report.verdict == "inconclusive"
    assert any("changed while they were read" in one.reason for one in report.unjudged)


def test_an_incoming_handover_has_nothing_to_lose(pending: Pending) -> None:
    state = state_with(replace(pending, sessions=()))
    handover = replace(state.handovers[0], direction=Direction.INCOMING)
    report = check(replace(state, handovers=(handover,)), next_release="6.19.5")
    assert found(report) == set()


def test_device_lists_of_the_kernels_flbs_are_judged_before_they_are_serialised(pending: Pending) -> None:
    state = real.read(FROZEN)
    (handover,) = state.handovers
    assert handover.luo is not None and handover.pci
    early = replace(handover.luo, serialized=False, sessions=(), flbs=())
    made = replace(handover, luo=early, pci=(), pending=replace(pending, lists=handover.pci))
    report = check(replace(state, handovers=(made,)))
    assert "PCI004" in report.passed
    without = replace(made, pending=replace(pending, lists=()))
    assert "PCI004" not in check(replace(state, handovers=(without,))).passed


@pytest.mark.parametrize(
    ("direction", "expected"), [(Direction.INCOMING, "findings"), (Direction.OUTGOING, "inconclusive")]
)
def test_a_layout_that_is_not_that_of_the_kernel(direction: Direction, expected: str) -> None:
    state = state_with()
    (handover,) = state.handovers
    text = "layout luo-file: struct luo_file_ser of kernel 9.9 has another form (moved token, 72 bytes)"
    problem = Problem(
        code="layout-not-of-this-kernel", address=None, message=text, root=handover.address, about="luo.sessions"
    )
    report = check(replace(state, handovers=(replace(handover, direction=direction),), problems=(problem,)))
    assert report.verdict == expected


@pytest.mark.parametrize("change", [{"count": 0}, {"count": 1000}, {"data": 0x9000}])
def test_an_flb_that_is_serialised_as_another_is_lost(pending: Pending, change: dict[str, int]) -> None:
    flbs = (replace(pending.flbs[0], **change), *pending.flbs[1:])
    assert "PEN002" in found(check(state_with(replace(pending, flbs=flbs))))


def test_an_flb_that_is_not_serialised_is_lost(pending: Pending) -> None:
    extra = PendingFlb(name="mine", count=1, data=0xFEEDF00DCAFEBEE0, address=0x3000)
    assert "PEN002" in found(check(state_with(replace(pending, flbs=(*pending.flbs, extra)))))
    idle = replace(extra, count=0)
    assert found(check(state_with(replace(pending, flbs=(*pending.flbs, idle))))) == set()


def test_what_is_serialised_and_not_in_the_kernels_list_is_found(pending: Pending) -> None:
    assert "PEN002" in found(check(state_with(replace(pending, sessions=pending.sessions[1:]))))
    first = pending.sessions[0]
    fewer = (replace(first, files=first.files[1:]), *pending.sessions[1:])
    assert "PEN002" in found(check(state_with(replace(pending, sessions=fewer))))
    assert "PEN002" in found(check(state_with(replace(pending, flbs=pending.flbs[1:]))))
