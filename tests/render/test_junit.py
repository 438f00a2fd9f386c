# SPDX-License-Identifier: MIT
"""JUnit XML as a parser reads it, and by the elements that Jenkins and GitLab know."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Tree

import pytest

from luoser.checks import Severity
from luoser.render.junit import suite, together
from luoser.render.tested import Result
from tests.judged import ENDS, judged

# What stands in what, and with which attributes: those of junit-10.xsd of Jenkins' xUnit plugin that we use.
KNOWN = {
    "testsuites": ({"name"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"properties", "testcase"}),
    "properties": (set[str](), {"property"}),
    "property": ({"name", "value"}, set[str]()),
    "testcase": ({"classname", "name"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ({"type", "message"}, set[str]()),
    "error": ({"type", "message"}, set[str]()),
    "skipped": ({"message"}, set[str]()),
    "system-out": (set[str](), set[str]()),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("junit")


def read(text: str) -> list[Tree.Element]:
    """The suites of a document, which is valid."""
    root = Tree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = KNOWN[element.tag]
        assert set(element.attrib) == attributes and {child.tag for child in element} <= children, element.tag
    for one in root:
        cases = one.findall("testcase")
        assert int(one.attrib["tests"]) == len(cases) > 0
        assert len({case.attrib["name"] for case in cases}) == len(cases)
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(one.attrib[attribute]) == sum(case.find(tag) is not None for case in cases), tag
    return list(root)


def document(folder: Path, *ends: str) -> str:
    results = []
    for end in ends:
        state, report, rules = judged(end, folder)
        text = suite(report, state.source, rules, severity=Severity.ERROR)
        results.append(Result(source=end, out=text, exit=ENDS[end], said=()))
    return "".join(together(results, len(results)))


def ended(one: Tree.Element, tag: str) -> dict[str, str]:
    """Messages of the cases of a suite that ended so, by the name of the case."""
    cases = ((case.attrib["name"], case.find(tag)) for case in one.findall("testcase"))
    return {name: found.attrib["message"] for name, found in cases if found is not None}


def test_a_finding_is_a_failure_of_its_rule(folder: Path) -> None:
    (one,) = read(document(folder, "findings"))
    assert list(ended(one, "failure")) == ["LUO014 session-name-duplicate"] and not ended(one, "error")
    assert all(ended(one, "skipped").values())
    failure = one.find("testcase/failure")
    assert failure is not None and failure.text is not None
    assert failure.text.splitlines()[0] == "error at 0x1004060  luo.sessions[1]" and "\n→ " in failure.text


def test_what_was_not_judged_is_an_error_though_nobody_selected_it(folder: Path) -> None:
    (one,) = read(document(folder, "inconclusive"))
    (message,) = ended(one, "error").values()
    assert list(ended(one, "error")) == ["KHO018 source-truncated"] and "the complete file decides" in message


def test_where_nothing_can_be_judged_the_suite_has_an_error(folder: Path) -> None:
    (one,) = read(document(folder, "nothing"))
    assert ended(one, "error") == {"verdict": "no rule was judged"}
    assert len(ended(one, "skipped")) == int(one.attrib["tests"]) - 1


def test_a_suite_says_what_it_is_of(folder: Path) -> None:
    (one,) = read(document(folder, "sound"))
    known = {found.attrib["name"]: found.attrib["value"] for found in one.iter("property")}
    assert (known["verdict"], known["format"], known["kernel"]) == ("sound", "elf", "7.3.4")
    assert not ended(one, "failure") and not ended(one, "error")
    info = [case for case in one.findall("testcase") if case.find("system-out") is not None]
    assert [case.attrib["name"][:6] for case in info] == ["MAP020"]  # below the severity


def test_each_source_is_a_suite_also_one_that_was_not_read(folder: Path) -> None:
    found = read(document(folder, *ENDS))
    assert [one.attrib["errors"] for one in found] == ["0", "0", "1", "1"]
    lost = Result(source="<a>", out="", exit=2, said=("not a dump",))
    (one,) = read("".join(together([lost], 1)))
    assert one.attrib["name"] == "<a>" and ended(one, "error") == {"read": "not a dump"}
