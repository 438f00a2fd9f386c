# SPDX-License-Identifier: MIT
"""A test for each rule, as test harnesses count: passed, failed, not judged, or skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Finding, Report, Rule, Severity

__all__ = [
    "NOTHING_JUDGED",
    "Result",
    "Tested",
    "counts_of",
    "finding_text",
    "is_over_nothing",
    "shown_rules",
    "tested",
]

Ending = Literal["pass", "fail", "error", "skip"]
NOTHING_JUDGED = "no rule was judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """How the test of a rule ended.

    rule:     that was tested.
    ending:   fail: a finding of the severity that counts. error: not judged. skip: there is nothing that it judges.
    findings: of the rule, of any severity.
    counting: those of them that make it fail.
    reasons:  why it was not judged on some handover, else why it was skipped; safe to print.
    """

    rule: Rule
    ending: Ending
    findings: tuple[Finding, ...]
    counting: tuple[Finding, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What `check` gave for one of several sources.

    source: its name, safe to print.
    out:    what it printed. Empty: the source was not read.
    exit:   exit code.
    said:   on stderr, without the name of the program; of a source that was not read, why, last.
    """

    source: str
    out: str
    exit: int
    said: tuple[str, ...]

    @property
    def error(self) -> str:
        """Why the source was not judged. Empty: it was."""
        return "" if self.out else self.said[-1] if self.said else f"exit code {self.exit}"


def shown_rules(report: Report, chosen: Sequence[Rule], known: Sequence[Rule]) -> list[Rule]:
    """The rules that were selected, and those that the verdict depends on although they were not.

    report: on a source.
    chosen: rules that were selected.
    known:  all rules, in order.
    """
    wanted = {rule.id for rule in chosen} | {entry.rule for entry in report.unjudged}
    wanted |= {finding.rule for finding in report.findings}
    return [rule for rule in known if rule.id in wanted]


def tested(report: Report, rules: Sequence[Rule], *, severity: Severity) -> list[Tested]:
    """How the test of each rule ended.

    rules:    of `shown_rules`.
    severity: the least that fails.
    """
    return [_tested(report, rule, severity) for rule in rules]


def _tested(report: Report, rule: Rule, severity: Severity) -> Tested:
    findings = tuple(finding for finding in report.findings if finding.rule == rule.id)
    counting = tuple(finding for finding in findings if finding.severity.is_at_least(severity))
    unjudged = [entry.reason for entry in report.unjudged if entry.rule == rule.id]
    reasons = unjudged
    ending: Ending = "pass"
    if counting:
        ending = "fail"
    elif unjudged:
        ending = "error"
    elif not findings and rule.id not in report.passed:
        ending = "skip"
        reasons = [entry.reason for entry in report.skipped if entry.rule == rule.id] or ["nothing to judge"]
    safe = tuple(safe_text(reason, again=True) for reason in dict.fromkeys(reasons))
    return Tested(rule=rule, ending=ending, findings=findings, counting=counting, reasons=safe)


def counts_of(tests: Sequence[Tested]) -> Counter[str]:
    """How many tests ended in each way."""
    return Counter[str](one.ending for one in tests)


def is_over_nothing(report: Report, tests: Sequence[Tested]) -> bool:
    """Whether the verdict is inconclusive, and no test says so: none found anything to judge."""
    return report.verdict.value == "inconclusive" and not any(one.ending == "error" for one in tests)


def finding_text(finding: Finding) -> list[str]:
    """Lines about a finding: severity and place, what is wrong, what to do."""
    place = f" at {finding.address:#x}" if finding.address is not None else ""
    where = f"  {safe_text(finding.where)}" if finding.where else ""
    hint = [f"→ {safe_text(finding.hint, again=True)}"] if finding.hint else []
    return [f"{finding.severity.value}{place}{where}", safe_text(finding.message, again=True), *hint]
