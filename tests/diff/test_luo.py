# SPDX-License-Identifier: MIT
"""LUO before and after: sessions, files and FLBs that were renamed, came or went."""

from __future__ import annotations

from dataclasses import replace

from luoser.diff import Kind
from luoser.state import Session, State
from tests.checks.mutants import changed
from tests.diff.helpers import luo_of, sound, told


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
