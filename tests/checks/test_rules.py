# SPDX-License-Identifier: MIT
"""What holds for every rule: none cries wolf on a healthy handover, each has a mutation that only it sees."""

from __future__ import annotations

import subprocess
import sys

import pytest

import luoser
from luoser.checks import Rule, Severity, check, rules
from luoser.writer.mutate import mutations
from tests import real
from tests.abi_pages import anchors
from tests.checks.mutants import POSTED, errors, mutant, rules_found

BASES: dict[str, str] = {
    "KHO005": "6.19-a/frozen",
    "KHO015": "7.3-chain/frozen2",
    "KHO016": "7.3-chain/frozen2",
    "LUO004": "6.19-a/frozen",
    "MAP006": "7.3-chain/frozen2",
    "MAP019": "7.3-chain/frozen2",
    "MAP017": "6.19-a/frozen",
    "PCI008": "6.18-a/frozen",
    "PCI010": "6.18-a/frozen",
    "PCI013": "6.18-a/frozen",
    "KHO025": POSTED,
    "MAP021": POSTED,
    "MAP022": POSTED,
}
"""The real dump whose handover is broken, where 7.3-a/frozen has not what the rule is about."""
OPTIONS: dict[str, dict[str, object]] = {
    "MAP007": {"ram": ((0, 1 << 36),)},
}
"""What a rule has to know besides the bytes."""
WITHOUT: dict[str, str] = {
    "KHO012": "the release of the next kernel",
    "KHO017": "a root whose direction is open: test_kho.py",
    "LUO024": "forms of postings only: test_handler.py",
    "KHO023": "bytes of a file that are not in the source: test_kho.py",
    "KHO022": "a handover that was taken over: test_kho.py",
    "KHO021": "a messenger whose root is lost: test_kho.py",
    "KHO020": "a source without the root of the running kernel: test_kho.py",
    "KHO018": "a source that is cut off: test_kho.py",
    "KHO024": "a source that meets a limit: test_kho.py",
    "LUO021": "the release of the next kernel: test_handler.py",
    "LUO022": "the release of the next kernel: test_handler.py",
    "KHO013": "the release of the next kernel",
    "LUO007": "a next kernel of 7.0 for a handover of 6.19",
    "MFD015": "where the machine has RAM, which no core of a handover says",
    "PCI014": "a list with a version, in blocks of its own: test_pci.py",
    "PCI019": "a vfio-pci file: test_pci.py",
    **{f"PEN00{number}": "objects of the running kernel: test_pending.py" for number in range(1, 8)},
}
"""Rules that no bytes of a handover can break, with what they need instead; each has a test of its own."""


@pytest.mark.parametrize("name", real.DUMPS)
def test_a_healthy_handover_has_no_error_and_nothing_that_is_not_judged(name: str) -> None:
    report = check(luoser.read(real.dump(name), contents=True))
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    assert report.unjudged == ()


_POSTED = "KHO025 LUO024 MAP021 MAP022"
NOT_FOR = {
    "7.3-a/frozen": f"{_POSTED} KHO013 KHO015 KHO016 KHO022 MAP006 MAP017 MAP019 LUO004 LUO007 "
    "PCI008 PCI010 PCI013 PCI019",
    "6.19-a/frozen": f"{_POSTED} KHO009 KHO011 KHO015 KHO016 KHO019 KHO022 MAP006 MAP011 MAP019 LUO003 LUO006",
}
"""Rules that do not apply to a real dump: to what its kernel does not have, or does not say."""


@pytest.mark.parametrize(("name", "release"), [("7.3-a/frozen", "7.3.4"), ("6.19-a/frozen", "6.19.14")])
def test_all_other_rules_judge_a_handover_of_which_all_is_known(name: str, release: str) -> None:
    families = ("KHO", "MAP", "LUO", "MFD", *(("PCI",) if name.startswith("7.3") else ()))
    state = luoser.read(real.dump(name), contents=True)
    report = check(state, next_release=release, ram=((0, 1 << 46),), select=families)
    expected = {rule.id for rule in rules() if rule.id[:3] in families} - set(NOT_FOR[name].split())
    assert {*report.passed, *rules_found(report)} == expected


def test_every_module_of_rules_and_mutations_is_imported() -> None:
    for room, entered, decorator in (
        ("checks", {rule.judge.__module__ for rule in rules()}, "@register("),
        ("writer/mutate", {mutation.apply.__module__ for mutation in mutations().values()}, "@mutation("),
    ):
        places = [place for place in (real.ROOT / "luoser" / room).glob("*.py") if decorator in place.read_text()]
        assert {f"luoser.{room.replace('/', '.')}.{place.stem}" for place in places} == entered


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_the_source_of_a_rule_is_a_heading_of_the_catalogue(rule: Rule) -> None:
    assert rule.sources
    for source in rule.sources:
        page, _, anchor = source.removeprefix("docs/abi/").partition("#")
        assert anchor in anchors(page), source


@pytest.mark.parametrize("rule", [rule.id for rule in rules() if rule.id[:3] != "TOP"])
def test_each_rule_has_a_mutation(rule: str) -> None:
    assert (rule in mutations()) != (rule in WITHOUT)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_mutation_breaks_its_rule_and_no_other(rule: Rule) -> None:
    if rule.id not in mutations():
        pytest.skip(WITHOUT.get(rule.id, "about the machine, not about bytes: has a test of its own"))
    report = mutant(rule.id, BASES.get(rule.id, "7.3-a/frozen"), **OPTIONS.get(rule.id, {}))
    assert rule.id in rules_found(report)
    assert errors(report) == ({rule.id} if rule.severity is Severity.ERROR else set())


def test_rules_are_judged_without_the_readers_of_topologies() -> None:
    """They are loaded by who has a topology to read."""
    code = "import sys, luoser.checks, luoser.changes; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, cwd=real.ROOT).stdout.split()
    assert "luoser.checks.topology" in loaded and "luoser.topology" not in loaded
