# SPDX-License-Identifier: MIT
"""LUO before and after: sessions, files and FLBs that were renamed, came or went."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.changes import Kind, Verdict, compare, without
from luoser.changes.luo import entry_signs
from luoser.changes.sides import Sides
from luoser.memory.overlay import Overlay
from luoser.state import Direction, Session, State, Subsystem
from luoser.writer.image import Image
from tests import real
from tests.changes.helpers import later, luo_of, problem, sound, told
from tests.checks.mutants import changed, u64
from tests.writer.helpers import built_luo, reread


def with_sessions(*sessions: Session) -> State:
    """The real handover with other sessions."""
    return changed(sound(), luo=replace(luo_of(), sessions=sessions))


EMPTY = Session(name="none", address=0x1ADC150, count=0)


# -- names ------------------------------------------------------------------------------------------------


def test_an_empty_session_with_another_name_at_its_place_was_renamed() -> None:
    after = with_sessions(replace(EMPTY, name="other"))
    assert told(with_sessions(EMPTY), after) == {"luo/sessions/none/name": Kind.CHANGED}


def test_an_empty_session_elsewhere_is_another_one() -> None:
    after = with_sessions(replace(EMPTY, name="other", address=0x1ADC1A0))
    kinds = {"luo/sessions/none": Kind.REMOVED, "luo/sessions/other": Kind.ADDED}
    assert told(with_sessions(EMPTY), after) == kinds


def test_a_session_with_the_same_files_elsewhere_was_renamed_and_moved() -> None:
    session = luo_of().sessions[0]
    after = with_sessions(replace(session, name="other", address=0x1ADC1A0))
    kinds = {"luo/sessions/vm-web-01/name": Kind.CHANGED, "luo/sessions/vm-web-01/address": Kind.CHANGED}
    assert told(with_sessions(session), after) == kinds


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("member", ["token", "data"])
def test_a_session_with_other_files_elsewhere_is_another_one(member: str, more: int) -> None:
    session = replace(luo_of().sessions[0], files=luo_of().sessions[0].files[:1])
    file = replace(session.files[0], **{member: getattr(session.files[0], member) + more})
    after = with_sessions(replace(session, name="other", address=0x1ADC1A0, files=(file,)))
    kinds = {"luo/sessions/vm-web-01": Kind.REMOVED, "luo/sessions/other": Kind.ADDED}
    assert told(with_sessions(session), after) == kinds


def test_a_session_with_some_of_the_files_is_another_one() -> None:
    session = luo_of().sessions[0]
    fewer = replace(session, name="other", address=0x1ADC1A0, files=session.files[:2])
    for before, after in ((session, fewer), (fewer, session)):
        found = told(with_sessions(before), with_sessions(after))
        assert set(found.values()) == {Kind.ADDED, Kind.REMOVED}


# -- what explains that an entry is gone ------------------------------------------------------------------

HERE, THERE = 0x1000, 0x1040


@pytest.mark.parametrize(
    ("code", "address", "is_read", "explains"),
    [
        ("bad-flb", HERE, True, True),
        ("bad-flb", THERE, True, False),
        ("missing", HERE, True, False),
        ("bad-count", HERE, True, False),
        ("missing", HERE, False, True),
        ("bad-count", THERE, False, True),
        ("bad-flb", HERE, False, False),
        ("bad-fdt", HERE, False, False),  # is no code of an array
    ],
)
def test_only_damage_of_the_entry_itself_explains_that_it_is_gone_from_a_page_that_was_read(
    code: str, address: int, is_read: bool, explains: bool
) -> None:
    met = replace(problem(code, "luo.flbs"), address=address)
    sides = Sides(sound().handovers[0], later().handovers[0], (met, problem("missing", "luo.sessions")))
    codes = {"missing", "bad-count", "bad-flb"}
    signs = entry_signs(sides, "luo.flbs", codes, "bad-flb", HERE, is_read=is_read)
    assert signs == ([met] if explains else [])


@pytest.mark.parametrize(
    ("code", "address", "kind"),
    [
        ("bad-session", 0x1ADC150, Kind.PROGRESS),
        ("bad-session", 0x1ADC1A0, Kind.REMOVED),
        ("missing", 0x1ADC000, Kind.REMOVED),  # the page of the session was read
    ],
)
def test_a_session_that_is_gone(code: str, address: int, kind: Kind) -> None:
    left = tuple(session for session in luo_of().sessions if session.name != "empty-session")
    after = later(problem(code, "luo.sessions", address), luo=replace(luo_of(), sessions=left))
    assert told(sound(), after) == {"luo/sessions/empty-session": kind}


def test_a_session_whose_page_is_gone_was_finished() -> None:
    luo = replace(luo_of(), sessions=luo_of().sessions[:4], session_blocks=())
    found = told(sound(), later(problem("bad-count", "luo.sessions"), luo=luo))
    assert set(found.values()) == {Kind.PROGRESS} and len(found) == 2
    assert told(sound(), later(problem("missing", "luo.sessions"), luo=luo)) == {}  # not compared


def test_a_file_that_is_gone() -> None:
    session = luo_of().sessions[0]
    gone = session.files[1]
    left = replace(session, files=(session.files[0], session.files[2]))
    where = f"luo/sessions/vm-web-01/files/{gone.token:#x}"
    for blocks, met, kind in (
        (session.blocks, (), Kind.REMOVED),
        (session.blocks, (problem("bad-file", "luo.sessions[0].files", gone.address),), Kind.PROGRESS),
        (session.blocks, (problem("bad-file", "luo.sessions[1].files", gone.address),), Kind.REMOVED),
        (session.blocks, (problem("missing", "luo.sessions[0].files"),), Kind.REMOVED),
        ((), (problem("bad-count", "luo.sessions[0].files"),), Kind.PROGRESS),
        ((), (problem("missing", "luo.sessions[0].files"),), None),
    ):
        luo = replace(luo_of(), sessions=(replace(left, blocks=blocks), *luo_of().sessions[1:]))
        assert told(sound(), later(*met, luo=luo)) == ({where: kind} if kind is not None else {})


def test_an_flb_that_is_gone() -> None:
    luo = luo_of()
    for flbs, met, kind in (
        (luo.flbs[1:], (), Kind.REMOVED),
        (luo.flbs[1:], (problem("bad-flb", "luo.flbs", luo.flbs[0].address),), Kind.PROGRESS),
        (luo.flbs[1:], (problem("missing", "luo.flbs"),), Kind.REMOVED),
        ((), (problem("bad-count", "luo.flbs"),), Kind.PROGRESS),
        ((), (problem("missing", "luo.flbs"),), None),
    ):
        found = told(sound(), later(*met, luo=replace(luo, flbs=flbs)))
        assert found.get("luo/flbs/liveupdate-test-flb-v0") is kind
        assert len(found) == (len(luo.flbs) - len(flbs) if kind is not None else 0)


# -- LUO itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layout", "compatible", "address", "number"])
def test_members_of_luo(name: str) -> None:
    value = "x" if name in ("layout", "compatible") else 77
    assert told(sound(), changed(sound(), luo=replace(luo_of(), **{name: value}))) == {f"luo/{name}": Kind.CHANGED}


def test_luo_that_came_or_went() -> None:
    without = changed(sound(), luo=None, pci=())
    bare = changed(sound(), pci=())
    assert told(bare, without) == {"luo": Kind.REMOVED}
    assert told(without, bare) == {"luo": Kind.ADDED}
    assert told(without, without) == {}


def test_what_came_or_went_is_told_with_its_value() -> None:
    """LUO and FLBs with their addresses, sessions with their files, files with their handlers, memfds with a size."""
    luo, session = luo_of(), luo_of().sessions[0]
    file = session.files[0]
    fewer = replace(session, files=session.files[1:])
    shorter = replace(session, files=(replace(file, memfd=None), *session.files[1:]))
    subsystems = replace(luo, subsystems=SUBSYSTEMS[1:2])
    for before, after, value in (
        (luo, None, "0x1a11000"),
        (luo, replace(luo, sessions=luo.sessions[1:]), "3 files"),
        (luo, replace(luo, sessions=(fewer, *luo.sessions[1:])), "memfd-v2"),
        (luo, replace(luo, sessions=(shorter, *luo.sessions[1:])), "0x400000 bytes"),
        (luo, replace(luo, flbs=luo.flbs[:-1]), "0x1a97000"),
        (subsystems, luo, "0x1"),
    ):
        one, other = changed(sound(), luo=before, pci=()), changed(sound(), luo=after, pci=())
        assert [(change.before, change.after) for change in compare(one, other).changes] == [(value, None)]
        assert [(change.before, change.after) for change in compare(other, one).changes] == [(None, value)]


def test_serialising_is_progress_and_its_loss_is_not() -> None:
    empty = replace(luo_of(), serialized=False, sessions=(), flbs=())
    before, after = changed(sound(), luo=empty, pci=()), changed(sound(), pci=())
    assert told(before, after) == {"luo/serialized": Kind.PROGRESS}
    assert told(after, before) == {"luo/serialized": Kind.REMOVED}
    for path, kind in (("luo.sessions", Kind.PROGRESS), ("luo.flbs", Kind.PROGRESS), ("luo", Kind.REMOVED)):
        assert told(after, later(problem("bad-count", path), luo=empty, pci=()))["luo/serialized"] is kind
    assert told(after, later(problem("missing", "luo.sessions"), luo=empty, pci=())) == {}


def test_a_pointer_to_sessions_that_leads_to_none_is_no_progress() -> None:
    """One flipped bit of `sessions_pa` before anything is serialised."""
    memory = real.overlay("7.3-a/pre")
    before = luoser.read(memory)
    luo = before.handovers[0].luo
    assert luo is not None and luo.address is not None
    for pointer in (2, 0x1000):
        memory.write(luo.address + 16, pointer.to_bytes(8, "little"))
        found = compare(before, luoser.read(memory))
        assert found.verdict in (Verdict.DIFFERENT, Verdict.INCONCLUSIVE), pointer


def test_flbs_and_subsystems_by_name() -> None:
    luo = luo_of()
    first = replace(luo.flbs[0], data=1, count=2)
    other = replace(luo.flbs[0], name="other")
    after = changed(sound(), luo=replace(luo, flbs=(first, *luo.flbs[1:], other), subsystems=SUBSYSTEMS[:2]))
    before = changed(sound(), luo=replace(luo, subsystems=SUBSYSTEMS[1:]))
    assert told(before, after) == {
        "luo/flbs/liveupdate-test-flb-v0/data": Kind.CHANGED,
        "luo/flbs/liveupdate-test-flb-v0/count": Kind.CHANGED,
        "luo/flbs/other": Kind.ADDED,
        "luo/subsystems/a": Kind.ADDED,
        "luo/subsystems/c": Kind.REMOVED,
    }
    moved = replace(SUBSYSTEMS[1], data=9)
    assert told(before, changed(before, luo=replace(luo, subsystems=(moved, SUBSYSTEMS[2])))) == {
        "luo/subsystems/b/data": Kind.CHANGED
    }


SUBSYSTEMS = tuple(Subsystem(name=name, data=number) for number, name in enumerate("abc"))


# -- files ------------------------------------------------------------------------------------------------


def test_files_of_a_session() -> None:
    session = luo_of().sessions[0]
    first, second, third = session.files
    where = "luo/sessions/vm-web-01/files"
    for files, kinds in (
        ((second, first, third), {}),
        ((first, second, third, replace(third, token=5, data=5)), {"/0x5": Kind.ADDED}),
        ((replace(first, compatible="memfd-v9"), second, third), {"/0x1a/compatible": Kind.CHANGED}),
        ((replace(first, data=5), second, third), {"/0x1a/data": Kind.CHANGED}),
        ((replace(first, token=5), second, third), {"/0x1a/token": Kind.CHANGED}),
        ((replace(first, token=5, data=5), second, third), {"/0x1a": Kind.REMOVED, "/0x5": Kind.ADDED}),
        ((replace(first, token=5, compatible="x"), second, third), {"/0x1a": Kind.REMOVED, "/0x5": Kind.ADDED}),
        ((replace(first, memfd=None), second, third), {"/0x1a/memfd": Kind.REMOVED}),
    ):
        made = replace(luo_of(), sessions=(replace(session, files=files), *luo_of().sessions[1:]))
        assert told(sound(), changed(sound(), luo=made)) == {f"{where}{path}": kind for path, kind in kinds.items()}


def test_a_descriptor_that_is_gone_was_restored_if_its_page_says_so() -> None:
    session = luo_of().sessions[0]
    lost = replace(session, files=(replace(session.files[0], memfd=None), *session.files[1:]))
    luo = replace(luo_of(), sessions=(lost, *luo_of().sessions[1:]))
    for about, kind in (("luo.sessions[0].files[0]", Kind.PROGRESS), ("luo.sessions[0].files[1]", Kind.REMOVED)):
        found = told(sound(), later(problem("zero-memfd", about), luo=luo))
        assert found == {"luo/sessions/vm-web-01/files/0x1a/memfd": kind}
    assert told(changed(sound(), luo=luo), sound()) == {"luo/sessions/vm-web-01/files/0x1a/memfd": Kind.ADDED}


# -- images that luoser wrote -----------------------------------------------------------------------------

NAMES = [f"s{number:03d}" for number in range(100)]


def consumed(image: Image, root: int) -> State:
    return luoser.read(image.memory(), directions={root: Direction.INCOMING})


def kinds_after(before: State, after: State, name: str) -> list[Kind]:
    return [change.kind for change in compare(before, after).changes if name in change.where]


@pytest.mark.parametrize("number", [20, 60], ids=["first page", "second page"])
def test_a_reused_entry_of_a_session_area_was_consumed_on_every_page(number: int) -> None:
    luo, state, image = built_luo({"sessions": [{"name": name} for name in NAMES]}, "6.19")
    before = reread(image)
    image.patch(luo.sessions[number].address or 0, b"\xff" * 80)
    after = consumed(image, state.handovers[0].address or 0)
    assert kinds_after(before, after, NAMES[number]) == [Kind.PROGRESS]


def test_a_session_that_is_gone_from_a_page_of_its_area_is_removed_though_a_later_page_is_missing() -> None:
    luo, state, image = built_luo({"sessions": [{"name": name} for name in NAMES]}, "6.19")
    before, area = reread(image), luo.session_area or 0
    entries = image.read(area + 8, 80 * len(NAMES))
    image.patch(area, u64(len(NAMES) - 1) + entries[: 80 * 60] + entries[80 * 61 :])
    memory = Overlay(image.memory())
    memory.remove(area + 2 * 4096, 14 * 4096)
    after = luoser.read(memory, directions={state.handovers[0].address or 0: Direction.INCOMING})
    assert kinds_after(before, after, NAMES[60]) == [Kind.REMOVED]


@pytest.mark.parametrize("reused", [1, 2])
def test_reused_entries_of_flbs_were_consumed_also_if_none_is_left(reused: int) -> None:
    flbs = [{"name": name, "data": "0x7000000", "count": 1} for name in ("x", "y")]
    luo, state, image = built_luo({"sessions": [{"name": "vm", "files": [{"memfd": {"size": 4096}}]}], "flbs": flbs})
    before = reread(image)
    image.patch(luo.flbs[0].address, b"\xff" * 64 * reused)
    after = consumed(image, state.handovers[0].address or 0)
    found = {change.where: change.kind for change in compare(before, after).changes if "/flbs/" in change.where}
    assert found == {f"luo/flbs/{name}": Kind.PROGRESS for name in ("x", "y")[:reused]}


def test_a_slash_in_a_name_is_no_part_of_a_path() -> None:
    luo, _, image = built_luo({"sessions": [{"name": "vm"}, {"name": "vm/files/0x7"}]})
    before = reread(image)
    image.patch(luo.session_blocks[0] + 8, u64(1))
    found = without(compare(before, reread(image)).changes, ["luo/sessions/vm"])
    assert [(change.kind, change.where) for change in found] == [(Kind.REMOVED, "luo/sessions/vm\\x2ffiles\\x2f0x7")]
