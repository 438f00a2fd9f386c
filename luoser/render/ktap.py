# SPDX-License-Identifier: MIT
"""Findings in KTAP version 1, as kselftest and kunit.py read it. Source: Documentation/dev-tools/ktap.rst."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from luoser.render.tested import NOTHING_JUDGED, Result, counts_of, is_over_nothing, tested
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Report, Rule, Severity
    from luoser.render.tested import Tested

__all__ = ["ktap", "together"]

_END = re.compile(r"(List of all partitions|VFS|reboot):")
"""Where kunit.py takes a line, wherever in it this is, for the end of a kernel's output."""
_EXIT = {0: "pass", 1: "fail", 4: "error"}


def ktap(report: Report, rules: Sequence[Rule], *, severity: Severity) -> str:
    """The report in KTAP: one test for each rule.

    A rule with a finding of some severity fails. One that could not be judged fails with the directive ERROR: a reader
    that knows only `ok` must not take it for sound. If no rule was judged, one test more, the verdict, says so: readers
    let a source of which all is skipped pass beside others.

    rules:    of `luoser.render.tested.shown_rules`.
    severity: the least that fails.
    """
    tests = tested(report, rules, severity=severity)
    counts, is_empty = counts_of(tests), is_over_nothing(report, tests)
    counts["error"] += is_empty
    lines = ["KTAP version 1", f"1..{len(tests) + is_empty}"]
    for number, one in enumerate(tests, 1):
        lines += _test(number, one)
    if is_empty:
        lines.append(_line(len(tests) + 1, "verdict", "error", NOTHING_JUDGED))
    return "\n".join([*lines, _totals(counts)]) + "\n"


def _test(number: int, one: Tested) -> Iterator[str]:
    for finding in one.findings:
        yield f"# {finding.severity.value}: {_plain(safe_text(finding.message, again=True))}"
    reason = _plain("; ".join(one.reasons))
    if one.ending in ("fail", "error") and reason:
        reason = f"not judged: {reason}"
    if one.ending == "fail" and reason:
        yield f"# {reason}"
    yield _line(number, f"{one.rule.id} {one.rule.slug}", one.ending, reason)


def _line(number: int, name: str, ending: str, reason: str) -> str:
    said = {"error": f" # ERROR {reason}", "skip": f" # SKIP {reason}"}.get(ending, "")
    return f"{'ok' if ending in ('pass', 'skip') else 'not ok'} {number} {name}{said}"


def together(results: Iterable[Result], count: int) -> Iterator[str]:
    """The parts of one KTAP document with a test for each source. The tests of its rules are nested in it.

    results: of each source, in order. count: of them.
    """
    counts = Counter[str]()
    yield f"KTAP version 1\n1..{count}\n"
    for number, one in enumerate(results, 1):
        yield "".join(f"  {line}\n" for line in one.out.removesuffix("\n").split("\n") if line)
        ending, reason = _EXIT.get(one.exit, "error"), "inconclusive"
        if one.error:
            ending, reason = "error", one.error
        counts[ending] += 1
        yield f"{_line(number, _plain(one.source), ending, _plain(reason))}\n"
    yield f"{_totals(counts)}\n"


def _totals(counts: Counter[str]) -> str:
    """A last line as ksft_print_cnts() of kselftest.h writes it."""
    return (
        f"# Totals: pass:{counts['pass']} fail:{counts['fail']} xfail:0 xpass:0 skip:{counts['skip']} "
        f"error:{counts['error']}"
    )


def _plain(text: str) -> str:
    """A safe text without what begins a directive, what ends the output of a kernel, and a space that readers strip."""
    plain = _END.sub(r"\1\\x3a", text.replace("#", "\\x23"))
    return f"{plain[:-1]}\\x20" if plain.endswith(" ") else plain
