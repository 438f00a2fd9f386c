# SPDX-License-Identifier: MIT
"""Findings in SARIF 2.1.0, for systems that collect findings of many tools."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from luoser import __version__
from luoser.render.tested import NOTHING_JUDGED, Result
from luoser.text import is_url, safe_text

if TYPE_CHECKING:
    from luoser.checks import Finding, Report, Rule

__all__ = ["sarif", "together"]

Json = dict[str, Any]
_LOG = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0"}
_GUEST = re.compile(r"(qmp|gdb|live):")
_RESERVED = "%:/?#[]@!$&'()*+,;="
"""What has a meaning in a URI. Source: RFC 3986, 2.2."""
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif(report: Report, rules: Sequence[Rule], source: str) -> Json:
    """The report as a log with one run.

    rules:  of `luoser.render.tested.shown_rules`.
    source: path of what was checked.
    """
    place = {"physicalLocation": {"artifactLocation": {"uri": _uri(source)}}}
    run = {
        "tool": _tool([_rule(rule) for rule in rules]),
        "invocations": [_invocation(report, place)],
        "results": [_result(finding, place) for finding in report.findings],
    }
    return {**_LOG, "runs": [run]}


def together(results: Iterable[Result], count: int) -> Iterator[str]:
    """The parts of one log: one run, with an invocation for each source. One that was not read is one that failed.

    It is one run as GitHub refuses several of one tool, and more than 20 runs.

    results: of each source, in order. count: of them.
    """
    invocations: list[Json] = []
    rules: dict[str, Json] = {}
    separator = ""
    yield f'{json.dumps(_LOG)[:-1]}, "runs": [{{"results": ['
    for number, one in enumerate(results):
        (run,) = json.loads(one.out)["runs"] if not one.error else [_failed(one)]
        for result in run["results"]:
            yield f"{separator}\n{json.dumps({**result, 'provenance': {'invocationIndex': number}})}"
            separator = ","
        invocations += run["invocations"]
        rules |= {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    tool = _tool([*rules.values()])
    yield f'\n], "invocations": {json.dumps(invocations)}, "tool": {json.dumps(tool)}}}]}}\n'


def _uri(source: str) -> str:
    """The name of a source as a URI, or as one relative to the working directory."""
    if is_url(source) or _GUEST.match(source):
        return quote(os.fsencode(source), safe=_RESERVED)
    path = quote(os.fsencode(source))
    return f"file://{path}" if path.startswith("/") else path


def _tool(rules: list[Json]) -> Json:
    return {"driver": {"name": "luoser", "version": __version__, "rules": rules}}


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
    return {"tool": _tool([]), "invocations": [invocation], "results": []}


def _invocation(report: Report, place: Json) -> Json:
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
        "executionSuccessful": report.verdict.value != "inconclusive" and not report.unjudged,
        "toolExecutionNotifications": [{**note, "locations": [place]} for note in notes],
        "properties": {"verdict": report.verdict.value},
    }


def _result(finding: Finding, place: Json) -> Json:
    if finding.address is not None:
        physical = {**place["physicalLocation"], "address": {"absoluteAddress": finding.address}}
        place = {**place, "physicalLocation": physical}
    if finding.where:
        place = {**place, "logicalLocations": [{"fullyQualifiedName": safe_text(finding.where)}]}
    words = [finding.message, *([f"→ {finding.hint}"] if finding.hint else [])]
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity.value],
        "message": {"text": "\n".join(safe_text(word, again=True) for word in words)},
        "locations": [place],
    }
