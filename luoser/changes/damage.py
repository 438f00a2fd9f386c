# SPDX-License-Identifier: MIT
"""Damage that only rules show: errors of `check` on one side, where all that differs is progress."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change, Kind
from luoser.changes.sides import path_part
from luoser.checks import Severity, check
from luoser.state import State

__all__ = ["rule_changes"]

_Key = tuple[int | None, str, str]
"""(root, path of the thing, rule)."""


def rule_changes(before: State, after: State) -> Iterator[Change]:
    """A change for each error of a rule that only one of two states has.

    Progress explains that a thing is gone, not that it was damaged before; and a kernel's new handover is progress
    only if it is sound. Information from outside the sources is not used.

    before: first state.
    after:  second state.
    """
    old, new = _errors(before), _errors(after)
    for key in dict.fromkeys((*old, *new)):
        if (key in old) == (key in new):
            continue
        root, where, rule = key
        name = "?" if root is None else f"{root:#x}"
        yield Change(
            kind=Kind.CHANGED,
            where=f"handovers/{name}/damage/{path_part(where or 'root')}/{rule}",
            before=_condition(before, key, old),
            after=_condition(after, key, new),
            note=old.get(key) or new.get(key) or "",
        )


def _errors(state: State) -> dict[_Key, str]:
    """Messages of the errors in the handovers of the kernel itself: of each thing and rule the first."""
    made: dict[_Key, str] = {}
    own = {handover.address for handover in state.handovers if handover.own}
    for finding in check(state).findings:
        if finding.severity is Severity.ERROR and finding.root in own:
            made.setdefault((finding.root, finding.where, finding.rule), finding.message)
    return made


def _condition(state: State, key: _Key, errors: dict[_Key, str]) -> str:
    """The condition of a thing in one state in a word."""
    if key in errors:
        return "damaged"
    handover = next((one for one in state.handovers if one.address == key[0]), None)
    return "not there" if handover is None else "consumed" if handover.is_consumed else "sound"
