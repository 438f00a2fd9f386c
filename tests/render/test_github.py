# SPDX-License-Identifier: MIT
"""Workflow commands of GitHub, as its runner reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luoser.checks import Severity
from luoser.render.github import annotated, together
from luoser.render.tested import Result
from luoser.render.together import inert
from tests.judged import ENDS, judged

_COMMAND = re.compile(r"::([a-z]+) file=([^:,]*),title=([^:,]*)::(.*)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("github")


def commands(text: str) -> list[tuple[str, str, str, str]]:
    """(level, file, title, message) of each command. Each other line is one that no runner obeys."""
    found = []
    for line in text.removesuffix("\n").split("\n"):
        assert line.isprintable() and "##" not in line
        if match := _COMMAND.fullmatch(line):
            level, *rest = match.groups()
            found.append((level, *map(_unescaped, rest)))
        else:
            assert line.startswith("luoser: ")
    return found


def _unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def text_of(end: str, folder: Path, severity: Severity = Severity.ERROR) -> str:
    state, report, rules = judged(end, folder)
    return annotated(report, state.source.name, rules, severity=severity)


def test_a_finding_is_an_error_with_place_and_hint(folder: Path) -> None:
    ((level, file, title, message), *_) = commands(text_of("findings", folder))
    assert (level, file, title) == ("error", str(folder / "findings.elf"), "LUO014 session-name-duplicate")
    place, words, hint = message.split("\n")
    assert place == "error at 0x1004060  luo.sessions[1]" and "duplicate name" in words and hint.startswith("→ ")
    assert "a # SKIP %0A\\x0a::error::x,y" in words  # the name, as a text


def test_what_was_not_judged_is_an_error(folder: Path) -> None:
    said = commands(text_of("inconclusive", folder))
    assert [(level, title) for level, _, title, _ in said if level == "error"] == [("error", "not judged: KHO018")]


def test_where_nothing_can_be_judged_is_an_error(folder: Path) -> None:
    assert [entry[0::3] for entry in commands(text_of("nothing", folder))] == [("error", "no rule was judged")]


def test_a_finding_below_the_severity_is_a_notice(folder: Path) -> None:
    assert [entry[0] for entry in commands(text_of("sound", folder))] == ["notice"]
    assert [entry[0] for entry in commands(text_of("sound", folder, Severity.INFO))] == ["error"]
    assert "sound, 1 info: " in text_of("sound", folder)


def test_a_source_that_was_not_read_is_an_error(folder: Path) -> None:
    results = [Result(source=end, out=text_of(end, folder), exit=code, said=()) for end, code in ENDS.items()]
    lost = Result(source="a,b:c", out="", exit=2, said=("a remark", "##[x] 100%"))
    said = commands("".join(together([*results, lost], 5)))
    assert said[-1] == ("error", "a,b:c", "not read", f"{inert('##[x]')} 100%")
    assert len(said) == 5


@pytest.mark.parametrize("text", ["##[error]", "###[error]", "####[error]", "##vso[task.setvariable]"])
def test_no_command_is_left_in_a_text(text: str) -> None:
    assert "##" not in inert(text) and inert(text).endswith(text.lstrip("#"))
