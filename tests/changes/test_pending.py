# SPDX-License-Identifier: MIT
"""What serialisation lost, and changes of what is pending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from luoser.abi.pci import layout
from luoser.changes import PARTS, compare
from luoser.state import DeviceList, Direction, FolioList, Pending, PendingFlb, PendingSession, State
from luoser.state.columns import columns
from tests import real
from tests.checks import mutants
from tests.checks.test_pending import pending_of

FROZEN = "7.3-a/frozen"


def early(change: Callable[[Pending], Pending] = lambda pending: pending) -> State:
    """The state before LUO serialised, with what the kernel had in its lists."""
    state = real.read(FROZEN)
    (handover,) = state.handovers
    assert handover.luo is not None
    luo = replace(handover.luo, serialized=False, sessions=(), flbs=(), session_area=0, session_blocks=())
    return replace(state, handovers=(replace(handover, luo=luo, pci=(), pending=change(pending_of(handover))),))


def places(before: State, after: State) -> list[tuple[str, str]]:
    return [
        (change.kind.value, change.where)
        for change in compare(before, after).changes
        if change.where.startswith("pending")
    ]


def test_nothing_is_lost_between_the_kernels_lists_and_what_it_serialised() -> None:
    assert places(early(), real.read(FROZEN)) == []


def test_their_paths_begin_with_a_known_part() -> None:
    gone = early(lambda pending: replace(pending, sessions=pending.sessions[1:]))
    assert {where.partition("/")[0] for _, where in places(early(), gone)} <= set(PARTS)


def test_a_session_that_was_not_serialised_is_removed() -> None:
    lost = PendingSession(name="lost", address=0x1000)
    before = early(lambda pending: replace(pending, sessions=(*pending.sessions, lost)))
    assert places(before, real.read(FROZEN)) == [("removed", "pending/sessions/lost")]


def test_a_session_that_came_in_between_is_added() -> None:
    before = early(lambda pending: replace(pending, sessions=pending.sessions[1:]))
    assert [kind for kind, _ in places(before, real.read(FROZEN))] == ["added"]


@pytest.mark.parametrize("member", ["data", "size", "position"])
def test_a_file_that_was_serialised_with_another_value_is_changed(member: str) -> None:
    def change(pending: Pending) -> Pending:
        first = pending.sessions[0]
        file = replace(first.files[0], **{member: 0x123_4000})
        return replace(pending, sessions=(replace(first, files=(file, *first.files[1:])), *pending.sessions[1:]))

    ((kind, where),) = places(early(change), real.read(FROZEN))
    assert kind == "changed" and where.endswith(f"/{member}")


def test_what_could_not_be_read_to_its_end_is_not_compared() -> None:
    before = early(lambda pending: replace(pending, sessions=pending.sessions[1:], complete=False))
    comparison = compare(before, real.read(FROZEN))
    (gap,) = comparison.not_compared
    assert gap.where.startswith("pending/sessions/")
    assert gap.reason == "not all of the running kernel's own lists could be read"  # the schema wants words
    assert not any(change.where.startswith("pending") for change in comparison.changes)


def test_what_the_next_kernel_finishes_is_progress() -> None:
    def incoming(state: State) -> State:
        return replace(state, handovers=(replace(state.handovers[0], direction=Direction.INCOMING),))

    after = early(lambda pending: replace(pending, sessions=pending.sessions[1:]))
    assert {kind for kind, _ in places(incoming(early()), incoming(after))} == {"progress"}


def test_a_count_of_an_flb_changes() -> None:
    flb = PendingFlb(name="pci", count=1, data=0x1000, address=0x2000)
    before = early(lambda pending: replace(pending, flbs=(flb,)))
    after = early(lambda pending: replace(pending, flbs=(replace(flb, count=2),)))
    assert places(before, after) == [("changed", "pending/flbs/pci")]


def test_an_flb_that_was_not_serialised_is_removed() -> None:
    flb = PendingFlb(name="mine", count=1, data=0x1000, address=0x2000)
    before = early(lambda pending: replace(pending, flbs=(*pending.flbs, flb)))
    assert places(before, real.read(FROZEN)) == [("removed", "pending/flbs/mine")]


def test_an_incoming_list_that_may_not_be_made_yet_is_not_compared() -> None:
    def incoming(state: State) -> State:
        return replace(state, handovers=(replace(state.handovers[0], direction=Direction.INCOMING),))

    empty = early(lambda pending: replace(pending, sessions=()))
    assert places(incoming(early()), incoming(empty)) == []


def test_flbs_of_a_list_that_was_not_read_to_its_end_are_not_removed() -> None:
    after = early(lambda pending: replace(pending, flbs=(), complete=False))
    found = compare(early(), after)
    assert found.changes == () and "pending/flbs/pci" in {gap.where for gap in found.not_compared}


def test_lists_that_are_known_on_one_side_only_are_not_compared() -> None:
    state = early()
    unknown = replace(state, handovers=(replace(state.handovers[0], pending=None),))
    for states, side in (((state, unknown), "after"), ((unknown, state), "before")):
        (gap,) = compare(*states).not_compared
        assert gap.where == "pending" and f"not known {side}:" in gap.reason
    assert compare(unknown, unknown).not_compared == ()


def _with_memfd(array: int) -> Callable[[Pending], Pending]:
    """What is pending with the memfd of its first file, whose array is at an address."""

    def change(pending: Pending) -> Pending:
        (session, *others), memfd = pending.sessions, mutants.memfd_of()
        made = replace(memfd, folios=replace(memfd.folios, address=array))
        file = replace(session.files[0], memfd=made)
        return replace(pending, sessions=(replace(session, files=(file, *session.files[1:])), *others))

    return change


def test_folios_that_are_preserved_already_are_compared() -> None:
    one, other = early(_with_memfd(0x100_0000)), early(_with_memfd(0x200_0000))
    assert places(one, one) == []
    assert places(one, other) == [("changed", "pending/sessions/vm-web-01/0x1a/folios/address")]


def test_devices_that_are_preserved_already_are_compared() -> None:
    (old, *_), name = real.read(FROZEN).handovers[0].pci, "0000:00:01.0"
    form = layout(old.layout)
    assert form is not None
    data = old.devices.data[form.record.record.size :]
    new = replace(old, devices=DeviceList(form.record.record, columns(form.record), data))
    one, other = (early(lambda pending, each=each: replace(pending, lists=(each,))) for each in (old, new))
    assert places(one, one) == []
    assert ("removed", f"pending/devices/{name}") in places(one, other)


def incoming(state: State) -> State:
    """The same after the jump."""
    return replace(state, handovers=(replace(state.handovers[0], direction=Direction.INCOMING, at_jump=False),))


def test_lists_of_a_kernel_that_is_gone_are_not_lacking() -> None:
    state = early()
    after = incoming(replace(state, handovers=(replace(state.handovers[0], pending=None),)))
    assert "pending" not in {gap.where for gap in compare(state, after).not_compared}


def test_folios_of_what_was_handed_over_are_progress() -> None:
    one, other = incoming(early(_with_memfd(0x100_0000))), incoming(early(_with_memfd(0x200_0000)))
    assert {kind for kind, _ in places(one, other)} == {"progress"}


def test_folios_of_a_list_that_was_not_read_to_its_end_are_not_removed() -> None:
    def cut(pending: Pending) -> Pending:
        (session, *others), (file, *files) = pending.sessions, pending.sessions[0].files
        assert file.memfd is not None
        folios = file.memfd.folios
        few = FolioList(folios.list.data[16:], page_size=4096)
        made = replace(file, memfd=replace(file.memfd, folios=replace(folios, list=few)))
        return replace(pending, sessions=(replace(session, files=(made, *files)), *others), complete=False)

    change = _with_memfd(0x100_0000)
    assert places(early(change), early(lambda pending: cut(change(pending)))) == []
