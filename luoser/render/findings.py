# SPDX-License-Identifier: MIT
"""Findings as text, JSON, KTAP and SARIF."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from luoser import __version__
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Finding, Report, Rule

__all__ = ["findings_document", "ktap", "print_report", "print_rule", "print_rules", "rules_document", "sarif"]

Json = dict[str, Any]
_STYLE = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def findings_document(report: Report) -> Json:
    """The JSON document luoser/findings/1."""
    return {
        "schema": "luoser/findings/1",
        "findings": [_finding(finding) for finding in report.findings],
        "skipped": [{"rule": entry.rule, "reason": entry.reason} for entry in report.skipped],
        "passed": list(report.passed),
    }


def _finding(finding: Finding) -> Json:
    document: Json = {
        "rule": finding.rule,
        "slug": finding.slug,
        "severity": finding.severity.value,
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


def print_report(report: Report, *, verbose: bool = False) -> None:
    """Print the findings, then counts. verbose: list the skipped rules, too, with the reasons."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for finding in report.findings:
        place = f" at {finding.address:#x}" if finding.address is not None else ""
        line = Text.assemble(
            (f"{finding.severity.value}", _STYLE[finding.severity.value]),
            f" {finding.rule} {finding.slug}{place}",
            (f"  {safe_text(finding.where)}" if finding.where else "", "dim"),
        )
        console.print(line)
        console.print(Text(f"  {safe_text(finding.message, again=True)}"))
        if finding.hint:
            console.print(Text(f"  → {safe_text(finding.hint, again=True)}", style="dim"))
    for entry in report.skipped if verbose else ():
        console.print(Text(f"skipped {entry.rule}: {safe_text(entry.reason, again=True)}", style="dim"))
    counts = {name: sum(finding.severity == name for finding in report.findings) for name in _STYLE}
    words = ", ".join(f"{count} {name}{'s' if count != 1 and name != 'info' else ''}" for name, count in counts.items())
    rules = len({entry.rule for entry in report.skipped} - set(report.passed))
    console.print(Text(f"{words}; {len(report.passed)} rules passed, {rules} skipped for lack of evidence"))


def print_rules(rules: Sequence[Rule]) -> None:
    """Print two lines for each rule: id, severity and slug, then its first sentence."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for rule in rules:
        text = rule.doc.split("\n\n")[0].replace("\n", " ")
        console.print(
            Text.assemble(f"{rule.id}  ", (f"{rule.severity.value:8}", _STYLE[rule.severity.value]), rule.slug)
        )
        console.print(Text(f"        {text}", style="dim"))


def print_rule(rule: Rule) -> None:
    """Print one rule with its description, kernels and source."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(f"{rule.id} {rule.slug}  ", (rule.severity.value, _STYLE[rule.severity.value])))
    for paragraph in rule.doc.split("\n\n"):
        console.print(Text("\n".join(["", *wrap(paragraph, 100)])))
    console.print(Text(f"\nKernels: {rule.kernels}\nSource: {rule.source}"))


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
                "source": rule.source,
            }
            for rule in rules
        ],
    }


def ktap(report: Report, rules: Sequence[Rule]) -> str:
    """The report in KTAP format, as kselftest reads it: one test for each rule.

    A rule with an error fails. A rule that could not be judged is skipped.

    rules: that were selected.

    Source: Documentation/dev-tools/ktap.rst.
    """
    lines = ["KTAP version 1", f"1..{len(rules)}"]
    counts = {"pass": 0, "fail": 0, "skip": 0}
    reasons = {entry.rule: entry.reason for entry in report.skipped}
    for number, rule in enumerate(rules, 1):
        found = [finding for finding in report.findings if finding.rule == rule.id]
        errors = [finding for finding in found if finding.severity == "error"]
        for finding in found:
            lines.append(f"# {finding.severity.value}: {_plain(finding.message)}")
        name = f"{number} {rule.id} {rule.slug}"
        if errors:
            outcome, line = "fail", f"not ok {name}"
        elif found or rule.id in report.passed:
            outcome, line = "pass", f"ok {name}"
        else:
            outcome, line = "skip", f"ok {name} # SKIP {_plain(reasons.get(rule.id, 'nothing to judge'))}"
        counts[outcome] += 1
        lines.append(line)
    lines.append(f"# Totals: pass:{counts['pass']} fail:{counts['fail']} xfail:0 xpass:0 skip:{counts['skip']} error:0")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text that KTAP does not parse as a directive."""
    return safe_text(text, again=True).replace("#", "\\#")


def sarif(report: Report, rules: Sequence[Rule], source: str) -> Json:
    """The report in SARIF 2.1.0, for systems that collect findings of many tools.

    rules:  that were selected.
    source: path of what was checked.
    """
    levels = {"error": "error", "warning": "warning", "info": "note"}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "luoser",
                        "version": __version__,
                        "rules": [
                            {
                                "id": rule.id,
                                "name": rule.slug,
                                "shortDescription": {"text": rule.doc.split("\n\n")[0].replace("\n", " ")},
                                "fullDescription": {"text": rule.doc},
                                "defaultConfiguration": {"level": levels[rule.severity.value]},
                            }
                            for rule in rules
                        ],
                    }
                },
                "results": [_result(finding, levels, source) for finding in report.findings],
            }
        ],
    }


def _result(finding: Finding, levels: dict[str, str], source: str) -> Json:
    place: Json = {"physicalLocation": {"artifactLocation": {"uri": safe_text(source)}}}
    if finding.address is not None:
        place["physicalLocation"]["address"] = {"absoluteAddress": finding.address}
    if finding.where:
        place["logicalLocations"] = [{"fullyQualifiedName": finding.where}]
    return {
        "ruleId": finding.rule,
        "level": levels[finding.severity.value],
        "message": {"text": f"{finding.message} {finding.hint}".strip()},
        "locations": [place],
    }
