# SPDX-License-Identifier: MIT
"""What kernels did when they booted with the handover of another one, as tests/e2e/pairs.py recorded it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from luoser.abi.release import release_numbers
from luoser.clashes.judge import Result

__all__ = ["Booted", "find_booted", "of_record", "pairs"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """What one kernel did that another one handed over to.

    writer, reader: releases of the first and the second kernel, such as 7.3.4.
    result:         of the handover.
    preserved:      files that user space preserved and then asked for. retrieved: those that came back unchanged.
    log:            lines of the second kernel about KHO, LUO and their users, addresses as N.
    """

    writer: str
    reader: str
    result: Result
    preserved: int
    retrieved: int
    log: tuple[str, ...]

    @property
    def words(self) -> str:
        """In a line."""
        count = f", {self.retrieved} of {self.preserved} files retrieved" if self.preserved else ""
        return f"{self.writer} → {self.reader}: {self.result}{count}"


def pairs() -> tuple[Booted, ...]:
    """All that were booted, by releases."""
    return _recorded()


def find_booted(writer: str, reader: str) -> Booted | None:
    """What was booted of two releases. None: nothing.

    writer, reader: exact such as 7.3.4, or a series such as 7.3, of which the newest one is taken.
    """
    found = [one for one in _recorded() if _is_of(one.writer, writer) and _is_of(one.reader, reader)]
    return max(found, key=_numbers, default=None)


def _is_of(release: str, name: str) -> bool:
    """Whether a release is the named one, or of the named series."""
    return release == name or (name.count(".") == 1 and release.startswith(f"{name}."))


@cache
def _recorded() -> tuple[Booted, ...]:
    found: Json = json.loads((files("luoser.clashes") / "booted.json").read_text())
    return tuple(sorted(map(of_record, found.values()), key=_numbers))


def _numbers(one: Booted) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return release_numbers(one.writer) or (), release_numbers(one.reader) or ()


def of_record(one: Json) -> Booted:
    """What was booted, from what tests/e2e/pairs.py recorded of it."""
    return Booted(
        writer=one["from"],
        reader=one["to"],
        result=_result(one),
        preserved=one["preserved"],
        retrieved=one["retrieved"],
        log=tuple(one["log"]),
    )


def _result(one: Json) -> Result:
    log = "\n".join(one["log"])
    if "disabling KHO" in log:
        return "refused"
    if one["ended"] != "done" or "KHO restore failed" in log:
        return "breaks"
    if one["preserved"] and not one["has_luo"]:
        return "sessions lost"
    is_shown = one["retrieved"] or "KHO restore succeeded" in log  # the kernel's own self-test
    return "works" if is_shown and one["retrieved"] == one["preserved"] else "breaks"
