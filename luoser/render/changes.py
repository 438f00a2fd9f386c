# SPDX-License-Identifier: MIT
"""Changes as text similar to a unified diff, as counts, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luoser.render.out import console
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.diff import Change, Comparison

__all__ = ["changes_document", "print_changes", "print_stat", "summary"]

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("!", "yellow"), "progress": ("~", "cyan")}


def changes_document(found: Comparison) -> dict[str, Any]:
    """The JSON document luoser/diff/2."""
    return {
        "schema": "luoser/diff/2",
        "verdict": found.verdict.value,
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


def print_changes(found: Comparison) -> None:
    """Print a line for each addition, removal or progress, three lines for each other change, then the verdict."""
    changes, pairing = found.changes, found.pairing
    from rich.text import Text

    out = console()
    for word in pairing:
        out.print(Text(f"@@ {safe_text(word, again=True)} @@", style="dim"))
    for change in changes:
        sign, style = _SIGNS[change.kind.value]
        places = " = ".join((change.where, *change.also))
        note = f"  ({safe_text(change.note, again=True)})" if change.note else ""
        if change.kind.value == "changed":
            out.print(Text(f"  {safe_text(places, again=True)}{note}"))
            out.print(Text(f"- {safe_text(change.before or 'nothing', again=True)}", style="red"))
            out.print(Text(f"+ {safe_text(change.after or 'nothing', again=True)}", style="green"))
            continue
        values = " → ".join(safe_text(value, again=True) for value in (change.before, change.after) if value)
        out.print(Text(f"{sign} {safe_text(places, again=True)}  {values}{note}", style=style))
    _print_end(found)


def _print_end(found: Comparison) -> None:
    from rich.text import Text

    out = console()
    for gap in found.not_compared:
        reason = safe_text(gap.reason, again=True)
        out.print(Text(f"? {safe_text(gap.where, again=True)}: not compared: {reason}", style="yellow"))
    out.print(Text(f"{found.verdict.value}: {summary(found.changes)}"))


def print_stat(found: Comparison) -> None:
    """Print the number of changes by kind and by the first part of their path, then the verdict."""
    changes = found.changes
    from rich.text import Text

    out = console()
    parts = Counter((change.where.split("/")[0], change.kind.value) for change in changes)
    for (part, kind), count in sorted(parts.items()):
        sign, style = _SIGNS[kind]
        out.print(Text(f"{sign} {safe_text(part)}: {count} {kind}", style=style))
    _print_end(found)


def summary(changes: Sequence[Change]) -> str:
    """The number of changes of each kind, in words."""
    counts = Counter(change.kind.value for change in changes)
    words = [f"{counts[kind]} {kind}" for kind in _SIGNS if counts[kind]]
    return ", ".join(words) if words else "no difference"
