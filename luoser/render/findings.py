# SPDX-License-Identifier: MIT
"""Findings as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luoser import __version__
from luoser.render.out import Part, line, paragraph
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Finding, Report, Rule
    from luoser.checks.outcome import Outcome
    from luoser.state import Source

__all__ = [
    "VERDICT_STYLE",
    "findings_document",
    "print_head",
    "print_judgements",
    "print_line",
    "print_report",
    "print_rule",
    "print_rules",
    "rules_document",
    "source_text",
    "unjudged_by_reason",
    "verdict_text",
]

Json = dict[str, Any]
_SHOWN_RULES = 16
_STYLE = {"error": "problem", "warning": "note", "info": "quiet"}
VERDICT_STYLE = {"sound": "good", "findings": "problem", "inconclusive": "note"}


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def findings_document(report: Report, source: Source, *, sha256: str | None = None) -> Json:
    """The JSON document luoser/findings/2.

    sha256: of the source file.
    """
    return {
        "schema": "luoser/findings/2",
        "verdict": report.verdict.value,
        "source": {
            "path": source.path,
            "format": source.format,
            "page_size": source.page_size,
            "sha256": sha256,
            "kernel": source.kernel,
        },
        "version": __version__,
        "remarks": list(report.remarks),
        "counts": dict(report.counts),
        "handovers": [
            {
                "address": _hex(judged.root),
                "own": judged.own,
                "direction": judged.direction,
                "status": judged.status,
                "verdict": judged.verdict.value,
            }
            for judged in report.handovers
        ],
        "findings": [_finding(finding) for finding in report.findings],
        "passed": list(report.passed),
        "not_judged": [
            {
                "rule": entry.rule,
                "root": _hex(entry.root),
                "about": entry.about,
                "cause": entry.cause,
                "reason": entry.reason,
            }
            for entry in report.unjudged
        ],
        "skipped": [{"rule": entry.rule, "root": _hex(entry.root), "reason": entry.reason} for entry in report.skipped],
        "not_looked_at": list(report.not_looked_at),
    }


def _finding(finding: Finding) -> Json:
    document: Json = {
        "rule": finding.rule,
        "slug": finding.slug,
        "severity": finding.severity.value,
        "root": _hex(finding.root),
        "address": _hex(finding.address),
        "where": finding.where,
        "message": finding.message,
        "hint": finding.hint,
    }
    if finding.device is not None:
        document["device"] = finding.device
    if finding.missing:
        document["missing"] = list(finding.missing)
    return document


def print_report(report: Report, source: Source, *, machine: str = "", verbose: bool = False) -> None:
    """Print source, remarks and verdict, the findings by severity, then what could not be judged, by reason.

    verbose: list the rules that do not apply, too, with the reasons.

    The other parameters are those of `print_head`.
    """
    print_head(report, source, machine=machine)
    print_judgements(report, verbose=verbose)


def print_judgements(report: Report, *, verbose: bool = False) -> None:
    """Print the findings by severity, then what could not be judged, by reason.

    The parameters are those of `print_report`.
    """
    for finding in report.findings:
        style = _STYLE[finding.severity.value]
        place: tuple[Part, ...] = (" at ", (f"{finding.address:#x}", "address")) if finding.address is not None else ()
        where = f"  {safe_text(finding.where)}" if finding.where else ""
        line((finding.severity.value, style), f" {finding.rule} {finding.slug}", *place, (where, "quiet"))
        line(safe_text(finding.message, again=True), first="  ", rest="    ")
        if finding.hint:
            line((f"→ {safe_text(finding.hint, again=True)}", "quiet"), first="  ", rest="    ")
    for reason, rules in unjudged_by_reason(report).items():
        line(("not judged", "note"), f"  {_names(rules)}")
        line(safe_text(reason, again=True), first="  ", rest="    ")
    for entry in report.skipped if verbose else ():
        line((f"skipped {entry.rule}: {safe_text(entry.reason, again=True)}", "quiet"))
    for word in report.not_looked_at:
        line((f"not looked at: {safe_text(word, again=True)}", "quiet"))


def print_line(report: Report, source: Source) -> None:
    """Print source and verdict in a line, with the rules that found something."""
    said, mark, rest = verdict_text(report).partition(": ")
    rules = _names(sorted({finding.rule for finding in report.findings}))
    found = f" ({rules})" if rules else ""
    line((safe_text(source.name), "name"), ": ", (said, VERDICT_STYLE[report.verdict.value]), found, mark + rest)


def print_head(report: Report, source: Source, *, machine: str = "") -> None:
    """Print what the source is (path, format, machine, kernel release, page size), its remarks, and the verdict.

    report:  on the source.
    source:  that was read.
    machine: and its RAM, in words. Empty: unknown.
    """
    line((safe_text(source.name), "name"), f"  {source_text(source, machine=machine)}")
    for remark in report.remarks:
        line(("remark", "note"), f"   {safe_text(remark, again=True)}")
    said, mark, rest = verdict_text(report).partition(": ")
    line("verdict  ", (said, VERDICT_STYLE[report.verdict.value]), mark + rest)


def source_text(source: Source, *, machine: str = "") -> str:
    """Format, machine, kernel release and page size of a source in a line; of a document, what it is a document of.

    The parameters are those of `print_head`.
    """
    of = f"state document of {safe_text(source.path)}" if source.document else ""
    said = [of, source.format, machine, f"kernel {safe_text(source.kernel)}" if source.kernel else ""]
    return ", ".join([word for word in said if word] + [f"{source.page_size // 1024} KiB pages"])


def verdict_text(report: Report) -> str:
    """The verdict in a line: how many findings of each severity, passed and unjudged rules."""
    counts = {name: sum(finding.severity == name for finding in report.findings) for name in _STYLE}
    words = [f"{count} {name}{'s' if count != 1 and name != 'info' else ''}" for name, count in counts.items() if count]
    unjudged = len({entry.rule for entry in report.unjudged})
    said = {
        "findings": ", ".join(words) + (", inconclusive beside that" if report.unjudged else ""),
        "inconclusive": ", ".join(["inconclusive", *words]),
        "sound": ", ".join(["sound", *words]),
    }[report.verdict.value]
    left = f", {unjudged} not judged" if unjudged else ""
    return f"{said}: {len(report.passed)} rules passed{left}"


def _names(rules: list[str]) -> str:
    """Names of rules in one line, of many only the first, the last and the number."""
    return ", ".join(rules) if len(rules) <= _SHOWN_RULES else f"{rules[0]} to {rules[-1]}, {len(rules)} rules"


def unjudged_by_reason(report: Report) -> dict[str, list[str]]:
    """Rules that could not be judged, by the reason."""
    found: dict[str, list[str]] = {}
    for entry in report.unjudged:
        rules = found.setdefault(entry.reason, [])
        if entry.rule not in rules:
            rules.append(entry.rule)
    return found


def print_rules(rules: Sequence[Rule]) -> None:
    """Print two lines for each rule: id, severity and slug, then its first sentence."""
    for rule in rules:
        text = rule.doc.split("\n\n")[0].replace("\n", " ")
        line((rule.id, "name"), "  ", (f"{rule.severity.value:8}", _STYLE[rule.severity.value]), rule.slug)
        line((text, "quiet"), first="        ", rest="        ")


def print_rule(rule: Rule) -> None:
    """Print one rule with its description, kernels and source."""
    line((rule.id, "name"), f" {rule.slug}  ", (rule.severity.value, _STYLE[rule.severity.value]))
    for text in rule.doc.split("\n\n"):
        line()
        paragraph(text)
    line()
    line(f"Kernels: {rule.kernels}")
    line(f"Source: {', '.join(rule.sources)}")
    for outcome in _outcomes(rule.id):
        line(f"Its mutation, booted: {outcome.words}")


def _outcomes(rule: str) -> Sequence[Outcome]:
    from luoser.checks.outcome import outcomes  # late: only the rules' own pages show them

    return outcomes(rule)


def rules_document(rules: Sequence[Rule]) -> Json:
    """The JSON document luoser/rules/1."""
    return {
        "schema": "luoser/rules/1",
        "rules": [
            {
                "rule": rule.id,
                "slug": rule.slug,
                "severity": rule.severity.value,
                "doc": rule.doc,
                "kernels": rule.kernels,
                "source": "; ".join(rule.sources),
                "booted": [
                    {"kernel": outcome.kernel, "machine": outcome.machine, "effect": outcome.effect}
                    for outcome in _outcomes(rule.id)
                ],
            }
            for rule in rules
        ],
    }
