# SPDX-License-Identifier: MIT
"""Changes as text similar to a unified diff, as counts, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.diff import Change

__all__ = ["changes_document", "print_changes", "print_stat", "summary"]

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("!", "yellow"), "progress": ("~", "cyan")}


def changes_document(changes: Sequence[Change], pairing: Sequence[str]) -> dict[str, Any]:
    """The JSON document luoser/diff/1.

    pairing: which handovers were compared, and why, in words.
    """
    return {
        "schema": "luoser/diff/1",
        "pairing": list(pairing),
        "changes": [
            {
                "kind": change.kind.value,
                "where": change.where,
                "before": change.before,
                "after": change.after,
                "also": list(change.also),
                "note": change.note,
            }
            for change in changes
        ],
    }


def print_changes(changes: Sequence[Change], pairing: Sequence[str]) -> None:
    """Print a line for each addition, removal or progress, and three lines for each other change.

    pairing: which handovers were compared, and why, in words.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for word in pairing:
        console.print(Text(f"@@ {safe_text(word, again=True)} @@", style="dim"))
    for change in changes:
        sign, style = _SIGNS[change.kind.value]
        places = " = ".join((change.where, *change.also))
        note = f"  ({safe_text(change.note, again=True)})" if change.note else ""
        if change.kind.value == "changed":
            console.print(Text(f"  {safe_text(places, again=True)}{note}"))
            console.print(Text(f"- {safe_text(change.before or 'nothing', again=True)}", style="red"))
            console.print(Text(f"+ {safe_text(change.after or 'nothing', again=True)}", style="green"))
            continue
        values = " → ".join(safe_text(value, again=True) for value in (change.before, change.after) if value)
        console.print(Text(f"{sign} {safe_text(places, again=True)}  {values}{note}", style=style))
    console.print(Text(summary(changes)))


def print_stat(changes: Sequence[Change]) -> None:
    """Print the number of changes by kind and by the first part of their path."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    parts = Counter((change.where.split("/")[0], change.kind.value) for change in changes)
    for (part, kind), count in sorted(parts.items()):
        sign, style = _SIGNS[kind]
        console.print(Text(f"{sign} {safe_text(part)}: {count} {kind}", style=style))
    console.print(Text(summary(changes)))


def summary(changes: Sequence[Change]) -> str:
    """The number of changes of each kind, in words."""
    counts = Counter(change.kind.value for change in changes)
    words = [f"{counts[kind]} {kind}" for kind in _SIGNS if counts[kind]]
    return ", ".join(words) if words else "no difference"
