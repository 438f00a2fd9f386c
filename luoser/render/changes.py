# SPDX-License-Identifier: MIT
"""Changes as text, as counts, and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from luoser.render.out import line
from luoser.state.to_json import source_document
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.changes import Change, Comparison

__all__ = ["changes_document", "folded_changes", "print_changes", "print_changes_line", "print_stat", "summary"]

_SIGNS = {"added": ("+", "note"), "removed": ("-", "problem"), "changed": ("!", "problem"), "progress": ("~", "good")}
_STYLE_OF = dict(_SIGNS.values())
_VERDICT = {"equal": "good", "progress": "good", "different": "problem", "inconclusive": "note"}
_ITEM = re.compile(r"(?<![^/])(files|folios|preserved)/(?:0x[0-9a-f]+|\d+)(?![^/])")
"""An item of a list, in a path, of which there are many: not a member of the list, such as folios/address."""
_SESSION = re.compile(r"(?<![^/])sessions/([^/]+)/")
"""A session above something else, in a path."""
_FEWEST = 4
"""Fewest changes that are shown as one."""
_SHORT = 60
"""Most characters of both values of a change that is one line."""
_Key = tuple[str, str]
"""Kind and path of changes that are alike."""


def changes_document(found: Comparison) -> dict[str, Any]:
    """The JSON document luoser/diff/2."""
    before, after = found.sources if found.sources is not None else (None, None)
    return {
        "schema": "luoser/diff/2",
        "verdict": found.verdict.value,
        "before": source_document(before) if before is not None else None,
        "after": source_document(after) if after is not None else None,
        "pairing": list(found.pairing),
        "not_compared": [{"where": gap.where, "reason": gap.reason} for gap in found.not_compared],
        "changes": [
            {
                "kind": change.kind.value,
                "where": change.where,
                "before": change.before,
                "after": change.after,
                "also": list(change.also),
                "note": change.note,
            }
            for change in found.changes
        ],
    }


def print_changes(found: Comparison, *, folded: bool = True) -> None:
    """Print a line for each change, three for one with long values, then the verdict.

    Devices and sessions come first, the preserved map last.

    folded: show many changes of one kind below one path, such as folios that moved, as one line.
    """
    for word in found.pairing:
        line((f"@@ {safe_text(word, again=True)} @@", "quiet"))
    for group in folded_changes(found.changes) if folded else sorted(found.changes, key=_weight):
        if isinstance(group, str):
            sign, _, text = group.partition(" ")
            line((sign, _STYLE_OF[sign]), f" {text}")
        else:
            _print_change(group)
    _print_end(found)


def print_changes_line(found: Comparison, name: str) -> None:
    """Print the verdict and the number of changes in a line. name: of the second source."""
    verdict = found.verdict.value
    line((safe_text(name), "name"), ": ", (verdict, _VERDICT[verdict]), f": {summary(found.changes)}")


def _print_change(change: Change) -> None:
    sign, style = _SIGNS[change.kind.value]
    places = safe_text(" = ".join((change.where, *change.also)), again=True)
    note = f"  ({safe_text(change.note, again=True)})" if change.note else ""
    both = [safe_text(value, again=True) for value in (change.before, change.after) if value]
    if change.kind.value == "changed" and sum(map(len, both)) > _SHORT:
        line((places, "name"), note, first="  ", rest="    ")
        line(("- ", style), safe_text(change.before or "nothing", again=True))
        line(("+ ", style), safe_text(change.after or "nothing", again=True))
        return
    if change.kind.value == "changed" and len(both) == 1:  # the other one is not there
        both = [safe_text(value or "nothing", again=True) for value in (change.before, change.after)]
    values = f"  {' → '.join(both)}" if both else ""
    line((f"{sign} ", style), (places, "name"), f"{values}{note}", rest="    ")


def _part(change: Change) -> str:
    """The part of a handover that a change is about."""
    parts = change.where.split("/")
    return parts[2] if parts[0] == "handovers" and len(parts) > 2 else parts[0]


def _weight(change: Change) -> int:
    order = ("pci", "luo", "handovers")
    part = _part(change)
    return order.index(part) if part in order else len(order) + (part == "preserved")


def folded_changes(changes: Sequence[Change]) -> Iterator[Change | str]:
    """The changes, devices and sessions first, the preserved map last.

    In place of the first of many that differ only in the file, folio, range or session, a line for all, which begins
    with the sign of their kind.
    """
    changes = sorted(changes, key=_weight)
    keys = list(zip(changes, map(_fold_keys, changes), strict=True))
    counts = Counter(key for _, both in keys for key in dict.fromkeys(both))
    sessions: dict[_Key, set[str]] = {}
    for change, (_, wide) in keys:
        sessions.setdefault(wide, set()).update(_SESSION.findall(change.where)[:1])
    done = set[_Key]()
    for change, (narrow, wide) in keys:
        is_wide = len(sessions[wide]) >= _FEWEST
        key = wide if is_wide else narrow
        if key[1] == change.where or counts[key] < _FEWEST:
            yield change
        elif key not in done:
            done.add(key)
            number = len(sessions[wide]) if is_wide else 0
            yield f"{_SIGNS[key[0]][0]} {safe_text(key[1], again=True)}  {_number(change, counts[key], number)}"


def _number(change: Change, count: int, sessions: int) -> str:
    """How many changes like one there are, in words. sessions: in which they are. 0: in one, or in none."""
    what = (_ITEM.findall(change.where) or ["sessions"])[-1]
    of_sessions = f" in {sessions} sessions" if sessions and what != "sessions" else ""
    noun = "ranges" if what == "preserved" else what
    return f"{count} {noun} {change.kind.value}{of_sessions}; --all lists them"


def _fold_keys(change: Change) -> tuple[_Key, _Key]:
    """Kind, and path with `*` for each file, folio and range; and the same with `*` for the session above them, too.

    A session as a whole is never one of many.
    """
    path = _ITEM.sub(r"\1/*", change.where)
    return (change.kind.value, path), (change.kind.value, _SESSION.sub("sessions/*/", path))


def _print_end(found: Comparison) -> None:
    for gap in found.not_compared:
        reason = safe_text(gap.reason, again=True)
        line(("? ", "note"), f"{safe_text(gap.where, again=True)}: not compared: {reason}")
    line((found.verdict.value, _VERDICT[found.verdict.value]), f": {summary(found.changes)}")


def print_stat(found: Comparison) -> None:
    """Print the number of changes by kind and by the first part of their path, then the verdict."""
    parts = Counter((change.where.split("/")[0], change.kind.value) for change in found.changes)
    for (part, kind), count in sorted(parts.items()):
        sign, style = _SIGNS[kind]
        line((sign, style), f" {safe_text(part)}: {count} {kind}")
    _print_end(found)


def summary(changes: Sequence[Change]) -> str:
    """The number of changes of each kind, in words."""
    counts = Counter(change.kind.value for change in changes)
    words = [f"{counts[kind]} {kind}" for kind in _SIGNS if counts[kind]]
    return ", ".join(words) if words else "no difference"
