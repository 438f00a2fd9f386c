# SPDX-License-Identifier: MIT
"""A real handover as a document, to change as one likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from luoser.changes import Kind, compare
from luoser.state import Direction, Luo, PciList, Problem, State
from luoser.state.from_json import from_document
from tests.checks import mutants

__all__ = [
    "FROZEN",
    "Edit",
    "changed",
    "document",
    "handover",
    "later",
    "listed",
    "lists_of",
    "luo_of",
    "problem",
    "session",
    "sound",
    "states",
    "told",
]

FROZEN = "7.3-a/frozen"
Edit = Callable[[dict[str, Any]], None]


@cache
def _text() -> str:
    """With the first folios only of a file of 16,384, which would take most of the time of all that is done with it."""
    made: dict[str, Any] = json.loads(json.dumps(mutants.document(FROZEN)))
    for entry in made["handovers"][0]["luo"]["sessions"]:
        for file in entry["files"]:
            if file["memfd"] is not None and file["memfd"]["folios"]["count"] > 1024:
                folios = file["memfd"]["folios"]
                folios |= {"count": 1024, "list": folios["list"][:1024], "total_pages": 4, "pages": folios["pages"][:4]}
                file["memfd"]["size"] = f"{1024 * 4096:#x}"
    return json.dumps(made)


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


# -- the same as a state ----------------------------------------------------------------------------------


def luo_of(state: State | None = None) -> Luo:
    luo = (state or sound()).handovers[0].luo
    assert luo is not None
    return luo


def lists_of(state: State | None = None) -> tuple[PciList, PciList]:
    """The list with refcounts, and the one of family A."""
    one, other = (state or sound()).handovers[0].pci
    return one, other


def later(*problems: Problem, direction: Direction = Direction.INCOMING, **members: Any) -> State:
    """The real handover after the kexec: consumed, with members replaced, and problems met when it was read."""
    return mutants.changed(replace(sound(), problems=problems), direction=direction, **members)


def problem(code: str, about: str, address: int | None = None) -> Problem:
    """A problem of the real handover."""
    return Problem(code=code, address=address, message="", root=sound().handovers[0].address, about=about)


def told(before: State, after: State, *, contents: bool = False) -> dict[str, Kind]:
    """The kinds of all changes by their paths, but for those of the direction, and what the reader objected to."""
    found = compare(before, after, contents=contents).changes
    kinds = {change.where: change.kind for change in found}
    assert len(kinds) == len(found)
    return {where: kind for where, kind in kinds.items() if where != "direction" and not where.startswith("damage/")}
