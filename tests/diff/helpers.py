# SPDX-License-Identifier: MIT
"""A real handover as a document, to change as one likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from luoser.state import State
from luoser.state.from_json import from_document
from tests.checks import mutants

__all__ = ["FROZEN", "Edit", "changed", "document", "handover", "listed", "session", "sound", "states"]

FROZEN = "7.3-a/frozen"
Edit = Callable[[dict[str, Any]], None]


@cache
def _text() -> str:
    return json.dumps(mutants.document(FROZEN))


def document() -> dict[str, Any]:
    """A real handover, to change as one likes."""
    made: dict[str, Any] = json.loads(_text())
    return made


@cache
def sound() -> State:
    return from_document(document())


def handover(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["handovers"][0]
    return found


def listed(values: dict[str, Any]) -> dict[str, Any]:
    """The list of family A, without what follows from its devices."""
    entry: dict[str, Any] = next(entry for entry in handover(values)["pci"] if entry["layout"] == "pci-lu-v2-03")
    entry.pop("slots", None)
    return entry


def session(values: dict[str, Any], name: str = "vm-web-01") -> dict[str, Any]:
    return next(entry for entry in handover(values)["luo"]["sessions"] if entry["name"] == name)


def changed(path: list[str | int], value: Any) -> Edit:
    def edit(values: dict[str, Any]) -> None:
        here: Any = handover(values)
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return edit


def states(edit: Edit) -> tuple[State, State]:
    after = document()
    edit(after)
    return sound(), from_document(after)
