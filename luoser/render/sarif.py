# SPDX-License-Identifier: MIT
"""Findings in SARIF 2.1.0, for systems that collect findings of many tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from luoser import __version__
from luoser.render.tested import NOTHING_JUDGED, Result
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Finding, Report, Rule

__all__ = ["sarif", "together"]

Json = dict[str, Any]
_LOG = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0"}
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif(report: Report, rules: Sequence[Rule], source: str) -> Json:
    """The report as a log with one run.

    rules:  of `luoser.render.tested.shown_rules`.
    source: path of what was checked.
    """
    run = {
        "tool": {"driver": _driver([_rule(rule) for rule in rules])},
        "invocations": [_invocation(report)],
        "results": [_result(finding, source) for finding in report.findings],
    }
    return {**_LOG, "runs": [run]}


def together(results: Iterable[Result], count: int) -> Iterator[str]:
    """The parts of one log with a run for each source. One that was not read is a run that failed.

    results: of each source, in order. count: of them.
    """
    yield f'{json.dumps(_LOG)[:-1]}, "runs": ['
    for number, one in enumerate(results):
        (run,) = [_failed(one)] if one.error else json.loads(one.out)["runs"]
        yield f"{',' if number else ''}\n{json.dumps(run)}"
    yield "\n]}\n"


def _driver(rules: list[Json]) -> Json:
    return {"name": "luoser", "version": __version__, "rules": rules}


def _rule(rule: Rule) -> Json:
    return {
        "id": rule.id,
        "name": rule.slug,
        "shortDescription": {"text": rule.doc.split("\n\n")[0].replace("\n", " ")},
        "fullDescription": {"text": rule.doc},
        "defaultConfiguration": {"level": _LEVELS[rule.severity.value]},
    }


def _failed(one: Result) -> Json:
    """A run that was not carried out."""
    note = {"level": "error", "message": {"text": f"{one.source}: {one.error}"}}
    invocation = {"executionSuccessful": False, "exitCode": one.exit, "toolExecutionNotifications": [note]}
    return {"tool": {"driver": _driver([])}, "invocations": [invocation], "results": []}


def _invocation(report: Report) -> Json:
    """What was not judged, as notifications, so that no results do not look like nothing to complain of."""
    texts = [f"not judged: {entry.reason}" for entry in report.unjudged]
    notes: list[Json] = [
        {"level": "warning", "message": {"text": text}, "associatedRule": {"id": entry.rule}}
        for entry, text in zip(report.unjudged, texts, strict=True)
    ]
    if report.verdict.value == "inconclusive" and not notes:
        notes.append({"level": "warning", "message": {"text": NOTHING_JUDGED}})
    notes += [{"level": "note", "message": {"text": text}} for text in (*report.remarks, *report.not_looked_at)]
    return {
        "executionSuccessful": report.verdict.value != "inconclusive",
        "toolExecutionNotifications": notes,
        "properties": {"verdict": report.verdict.value},
    }


def _result(finding: Finding, source: str) -> Json:
    place: Json = {"physicalLocation": {"artifactLocation": {"uri": safe_text(source)}}}
    if finding.address is not None:
        place["physicalLocation"]["address"] = {"absoluteAddress": finding.address}
    if finding.where:
        place["logicalLocations"] = [{"fullyQualifiedName": finding.where}]
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity.value],
        "message": {"text": f"{finding.message} {finding.hint}".strip()},
        "locations": [place],
    }
