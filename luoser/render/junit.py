# SPDX-License-Identifier: MIT
"""Findings as JUnit XML, as GitLab, Jenkins and others read it: a suite for each source, a case for each rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Tree

from luoser import __version__
from luoser.render.tested import NOTHING_JUDGED, Result, Tested, counts_of, finding_text, is_over_nothing, tested
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.checks import Report, Rule, Severity
    from luoser.state import Source

__all__ = ["suite", "together"]

_NOT_JUDGED = "not judged"


def suite(report: Report, source: Source, rules: Sequence[Rule], *, severity: Severity) -> str:
    """A `<testsuite>`. Findings are failures, what could not be judged is an error, what does not apply is skipped.

    source:   that was checked.
    rules:    of `luoser.render.tested.shown_rules`.
    severity: the least that fails.
    """
    tests = tested(report, rules, severity=severity)
    name, counts = safe_text(source.name), counts_of(tests)
    is_empty = is_over_nothing(report, tests)
    made = _suite(name, len(tests) + is_empty, counts["fail"], counts["error"] + is_empty, counts["skip"])
    properties = Tree.SubElement(made, "properties")
    for key, value in {
        "luoser": __version__,
        "verdict": report.verdict.value,
        "format": source.format,
        "kernel": source.kernel or "unknown",
    }.items():
        Tree.SubElement(properties, "property", name=key, value=safe_text(value))
    for one in tests:
        _case(made, name, one)
    if is_empty:
        case = Tree.SubElement(made, "testcase", classname=name, name="verdict")
        Tree.SubElement(case, "error", type="inconclusive", message=NOTHING_JUDGED)
    return _text(made)


def together(results: Iterable[Result], count: int) -> Iterator[str]:
    """The parts of a document with the suites. A source that was not read is a suite with one error.

    results: of each source, in order. count: of them.
    """
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="luoser check">\n'
    for one in results:
        yield _failed(one) if one.error else one.out
    yield "</testsuites>\n"


def _failed(one: Result) -> str:
    made = _suite(one.source, 1, 0, 1, 0)
    case = Tree.SubElement(made, "testcase", classname=one.source, name="read")
    Tree.SubElement(case, "error", type="not read", message=one.error)
    return _text(made)


def _suite(name: str, tests: int, failures: int, errors: int, skipped: int) -> Tree.Element:
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    return Tree.Element("testsuite", {"name": name, **{key: str(value) for key, value in counts.items()}})


def _case(made: Tree.Element, source: str, one: Tested) -> None:
    """Add the case of a rule. The name of the source is its class, so that cases of several sources are apart."""
    case = Tree.SubElement(made, "testcase", classname=source, name=f"{one.rule.id} {one.rule.slug}")
    reason = "; ".join(one.reasons)
    if one.ending == "fail":
        first = safe_text(one.counting[0].message, again=True)
        found = Tree.SubElement(case, "failure", type=one.counting[0].severity.value, message=first)
        parts = ["\n".join(finding_text(finding)) for finding in one.findings]
        found.text = "\n\n".join([*parts, f"{_NOT_JUDGED}: {reason}"] if reason else parts)
        return
    if one.ending == "error":
        Tree.SubElement(case, "error", type=_NOT_JUDGED, message=reason)
    elif one.ending == "skip":
        Tree.SubElement(case, "skipped", message=reason)
    if one.findings:
        Tree.SubElement(case, "system-out").text = "\n\n".join("\n".join(finding_text(each)) for each in one.findings)


def _text(made: Tree.Element) -> str:
    Tree.indent(made)
    return f"{Tree.tostring(made, encoding='unicode')}\n"
