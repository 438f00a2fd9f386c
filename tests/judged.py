# SPDX-License-Identifier: MIT
"""Sources of every verdict, with names that try to be more than names."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

import luoser
from luoser.checks import Report, Severity, rules
from luoser.render.tested import shown_rules
from luoser.state import State
from tests import real

__all__ = ["ENDS", "NAME", "cut", "hostile", "judged"]

NAME = "a # SKIP %0A\n::error::x,y ##[s]\x1b[31m reboot: <&]]>\udcff\ufffe\u202e"
"""What each format must not obey."""
ENDS = {"sound": 0, "findings": 1, "inconclusive": 4, "nothing": 4}
"""Exit code of `check` by what was judged. nothing: no rule applies."""


def hostile() -> bytes:
    """A core in which two sessions have that name, which is an error of which the message has it."""
    sessions = [{"name": NAME, "files": [{"token": 1}]}, {"name": NAME}]
    return luoser.build({"handovers": [{"luo": {"sessions": sessions}}]}).data


def cut() -> bytes:
    """A real dump without its end: whatever is selected, the verdict is inconclusive."""
    return lzma.decompress(real.path("7.3-a/frozen").read_bytes())[:-4096]


@cache
def judged(end: str, folder: Path) -> tuple[State, Report, list[luoser.checks.Rule]]:
    """A state, the report on it, and the rules to show. folder: for files."""
    select = {"inconclusive": ("LUO",), "nothing": ("TOP",)}.get(end, ())
    state = real.read("7.3-a/frozen")
    if end in ("findings", "inconclusive"):
        place = folder / f"{end}.elf"
        place.write_bytes(hostile() if end == "findings" else cut())
        state = luoser.load(place, contents=True)
    report = luoser.check(state, select=select, severity=Severity.ERROR)
    return state, report, shown_rules(report, [rule for rule in rules() if rule.is_meant(select, ())], rules())
