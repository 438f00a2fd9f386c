# SPDX-License-Identifier: MIT
"""Findings as workflow commands of GitHub Actions, which it shows as annotations.

A runner obeys `::NAME …::` at the beginning of a line, and `##[NAME]` (that of Azure `##vso[`) anywhere in one, on
stdout and stderr. So every line with a text of a dump begins with a command of ours or `luoser: `, and has no `##`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from luoser.render.findings import unjudged_by_reason, verdict_text
from luoser.render.tested import NOTHING_JUDGED, Result, finding_text, is_over_nothing, tested
from luoser.render.together import inert
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Report, Rule, Severity

__all__ = ["annotated", "together"]

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def annotated(report: Report, source: str, rules: Sequence[Rule], *, severity: Severity) -> str:
    """A command for each finding, for each reason why rules were not judged, then a line with the verdict.

    A runner shows only the first ten of each level of a step: what fails comes first.

    source:   path of what was checked.
    rules:    of `luoser.render.tested.shown_rules`.
    severity: the least that is an error.
    """
    name = safe_text(source)
    lines = []
    for finding in report.findings:
        level = "error" if finding.severity.is_at_least(severity) else _LEVELS[finding.severity.value]
        lines.append(_command(level, name, f"{finding.rule} {finding.slug}", "\n".join(finding_text(finding))))
    for reason, names in unjudged_by_reason(report).items():
        of = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        lines.append(_command("error", name, f"not judged: {of}", safe_text(reason, again=True)))
    if is_over_nothing(report, tested(report, rules, severity=severity)):
        lines.append(_command("error", name, "inconclusive", NOTHING_JUDGED))
    return "".join(f"{line}\n" for line in (*lines, f"luoser: {inert(name)}: {verdict_text(report)}"))


def together(results: Iterable[Result], count: int) -> Iterator[str]:
    """The commands of all sources. One that was not read is an error.

    results: of each source, in order. count: of them.
    """
    for one in results:
        yield f"{_command('error', one.source, 'not read', one.error)}\n" if one.error else one.out


def _command(level: str, file: str, title: str, message: str) -> str:
    return f"::{level} file={_escaped(file, _PROPERTY)},title={_escaped(title, _PROPERTY)}::{_escaped(message, _DATA)}"


def _escaped(text: str, by: dict[str, str]) -> str:
    """The escapes of the runner. Source: packages/core/src/command.ts of actions/toolkit."""
    return "".join(by.get(one, one) for one in inert(text))
