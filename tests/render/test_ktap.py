# SPDX-License-Identifier: MIT
"""KTAP, read by a strict reader of our own and by the kernel's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from luoser.checks import Severity
from luoser.render.ktap import ktap, together
from luoser.render.tested import Result
from tests.judged import ENDS, judged
from tests.ktap import Test, read
from tests.kunit import needs_kunit, parsed

WORDS = ("List of all partitions:", "Kernel panic - not syncing: VFS: x", "reboot: System halted", "a # SKIP b")
"""What kunit.py takes for the end of the log, or for a directive."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ktap")


def document(end: str, folder: Path) -> str:
    _, report, rules = judged(end, folder)
    return ktap(report, rules, severity=Severity.ERROR)


def of_all(folder: Path) -> str:
    """All of them, one that was not read, and names that end the log."""
    results = [
        Result(source=f"{end}: {word}", out=document(end, folder), exit=code, said=())
        for (end, code), word in zip(ENDS.items(), WORDS, strict=True)
    ]
    results.append(Result(source=" - x ", out="", exit=2, said=("not a # SKIP dump",)))
    return "".join(together(results, len(results)))


def endings(tests: tuple[Test, ...]) -> Counter[str]:
    return Counter(test.ending for test in tests)


def test_each_rule_is_a_test(folder: Path) -> None:
    _, report, rules = judged("findings", folder)
    tests = read(document("findings", folder))
    assert [test.name for test in tests] == [f"{rule.id} {rule.slug}" for rule in rules]
    (failed,) = (test for test in tests if not test.is_ok)
    assert failed.name == "LUO014 session-name-duplicate" and "duplicate name" in failed.diagnostics[0]
    assert endings(tests) == {"ok": len(report.passed), "not ok": 1, "SKIP": len(tests) - len(report.passed) - 1}
    assert all(test.reason for test in tests if test.directive)


def test_what_was_not_judged_is_not_ok_though_nobody_selected_it(folder: Path) -> None:
    tests = read(document("inconclusive", folder))
    (failed,) = (test for test in tests if not test.is_ok)
    assert (failed.name, failed.directive) == ("KHO018 source-truncated", "ERROR")
    assert failed.reason.startswith("not judged: truncated: ") and "decides" in failed.reason


def test_where_nothing_can_be_judged_the_verdict_is_an_error(folder: Path) -> None:
    *rules, verdict = read(document("nothing", folder))
    assert {test.ending for test in rules} == {"SKIP"}
    assert (verdict.name, verdict.ending, verdict.reason) == ("verdict", "ERROR", "no rule was judged")


def test_the_totals_are_those_of_the_tests(folder: Path) -> None:
    for end in ENDS:
        text = document(end, folder)
        found = endings(read(text))
        assert text.endswith(
            f"# Totals: pass:{found['ok']} fail:{found['not ok']} xfail:0 xpass:0 skip:{found['SKIP']} "
            f"error:{found['ERROR']}\n"
        )


def test_each_of_several_sources_is_a_test_with_tests_in_it(folder: Path) -> None:
    tests = read(of_all(folder))
    assert [test.ending for test in tests] == ["ok", "not ok", "ERROR", "ERROR", "ERROR"]
    assert [test.tests for test in tests] == [*(read(document(end, folder)) for end in ENDS), ()]
    assert [test.name for test in tests[3:]] == ["nothing: a \\x23 SKIP b", " - x\\x20"]
    assert tests[-1].reason == "not a \\x23 SKIP dump"


@needs_kunit
@pytest.mark.parametrize(("end", "code"), [("sound", 0), ("findings", 1), ("inconclusive", 1), ("nothing", 1)])
def test_the_kernels_reader_counts_the_same(folder: Path, end: str, code: int) -> None:
    text = document(end, folder)
    found = endings(read(text))
    expected = {"passed": found["ok"], "failed": found["not ok"] + found["ERROR"], "skipped": found["SKIP"]}
    result, counts, said = parsed(text, folder)
    assert (result, counts) == (code, {name: number for name, number in expected.items() if number})
    assert "[ERROR]" not in said


@needs_kunit
def test_the_kernels_reader_does_not_let_a_source_pass_of_which_nothing_was_judged(folder: Path) -> None:
    ends = ("sound", "nothing")
    results = [Result(source=end, out=document(end, folder), exit=ENDS[end], said=()) for end in ends]
    assert parsed("".join(together(results, 2)), folder)[0] == 1


@needs_kunit
def test_the_kernels_reader_takes_several_sources(folder: Path) -> None:
    text = of_all(folder)
    leaves = [leaf for test in read(text) for leaf in test.tests or (test,)]
    code, counts, said = parsed(text, folder)
    assert (code, sum(counts.values())) == (1, len(leaves)) and "[ERROR]" not in said and "CRASHED" not in said
    assert counts["failed"] == sum(not leaf.is_ok for leaf in leaves)


@pytest.mark.parametrize(
    "text",
    [
        "TAP version 14\n1..1\nok 1 a\n",
        "KTAP version 1\n1..2\nok 1 a\n",
        "KTAP version 1\n1..1\nok 2 a\n",
        "KTAP version 1\n1..1\nok 1 a\nok 2 b\n",
        "KTAP version 1\n1..1\nok 1 a # ERROR b\n",
        "KTAP version 1\n1..1\nok 1 a#b\n",
        "KTAP version 1\n1..1\nnoise\nok 1 a\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 b\nok 1 a\n",
        "KTAP version 1\n1..1\nok 1 a",
    ],
)
def test_the_strict_reader_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|with the directive|is not"):
        read(text)
