# SPDX-License-Identifier: MIT
"""A strict reader of KTAP version 1, by Documentation/dev-tools/ktap.rst: it takes no unknown lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Test", "read"]

_RESULT = re.compile(r"(ok|not ok) ([1-9]\d*)(?: ([^#\n]*[^# \n]))?(?: # (\S+)(?: (.*))?)?")
_DIRECTIVES = {"SKIP": {"ok", "not ok"}, "XFAIL": {"ok", "not ok"}, "TIMEOUT": {"not ok"}, "ERROR": {"not ok"}}
"""Directives, and the results with which each may stand."""


@dataclass(frozen=True, slots=True)
class Test:
    """One test. diagnostics: lines before its result, without `# `."""

    __test__ = False
    is_ok: bool
    name: str
    directive: str
    reason: str
    diagnostics: tuple[str, ...]
    tests: tuple[Test, ...]

    @property
    def ending(self) -> str:
        return self.directive or ("ok" if self.is_ok else "not ok")


@dataclass(slots=True)
class _Lines:
    lines: list[str]
    next: int = field(default=0)

    def peek(self, indent: str) -> str | None:
        """The next line without its indent. None: there is none of this level or a deeper one."""
        if self.next == len(self.lines) or not self.lines[self.next].startswith(indent):
            return None
        return self.lines[self.next].removeprefix(indent)

    def pop(self, indent: str, wanted: str) -> str:
        line = self.peek(indent)
        if line is None or re.fullmatch(wanted, line) is None:
            raise ValueError(f"line {self.next + 1}: expected {wanted}, found {line!r}")
        self.next += 1
        return line


def read(text: str) -> tuple[Test, ...]:
    """The tests of a document. Raises ValueError for what is not strictly KTAP."""
    lines = _Lines(text.removesuffix("\n").split("\n"))
    if not text.endswith("\n") or not all(map(str.isprintable, lines.lines)):
        raise ValueError("expected lines of printable characters, each ended by a newline")
    found = tuple(_tests(lines, ""))
    while lines.peek("") is not None:
        lines.pop("", "#.*")
    return found


def _tests(lines: _Lines, indent: str) -> Iterator[Test]:
    lines.pop(indent, "KTAP version 1")
    count = int(lines.pop(indent, r"1\.\.[1-9]\d*").removeprefix("1.."))
    for number in range(1, count + 1):
        below = tuple(_tests(lines, f"{indent}  ")) if lines.peek(f"{indent}  ") is not None else ()
        notes = []
        while (line := lines.peek(indent)) is not None and line.lstrip().startswith("#"):
            notes.append(lines.pop(f"{indent}  " if line.startswith(" ") else indent, "#.*").removeprefix("# "))
        match = _RESULT.fullmatch(lines.pop(indent, _RESULT.pattern))
        assert match is not None
        result, found, name, directive, reason = (part or "" for part in match.groups())
        if int(found) != number:
            raise ValueError(f"line {lines.next}: expected number {number}, found {found}")
        if directive and result not in _DIRECTIVES.get(directive, ()):
            raise ValueError(f"line {lines.next}: {result} with the directive {directive}")
        if result == "ok" and any(not test.is_ok for test in below):
            raise ValueError(f"line {lines.next}: ok, but a test of it is not")
        yield Test(result == "ok", name, directive, reason, tuple(notes), below)
