# SPDX-License-Identifier: MIT
"""Commands inside of another program, on memory that it has."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pytest

import luoser
from luoser.cli.embedded import COMMANDS, run
from luoser.errors import SourceError, UsageError
from luoser.memory.open import is_offered, open_memory
from luoser.memory.raw import Range
from luoser.memory.source import Memory
from tests import real

NAME = "program:"
PATH = real.path("7.3-a/frozen")


def opened(_: Sequence[Range]) -> Memory:
    return luoser.open(PATH)


def out(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(words, source=NAME, opener=opened)
    return code, capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"diff", "extract", "report", "hexdump"}))
def test_each_command_reads_what_is_offered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = out([name], capsys)
    assert (code == 0 and "KHO root" in text) or name == "check"


def test_findings_are_a_code_and_no_exit(capsys: pytest.CaptureFixture[str]) -> None:
    assert out(["check", "--severity", "info"], capsys)[0] == 1


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_help_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = out(words, capsys)
    assert code == 0 and all(f"  {name} " in text for name in COMMANDS) and "simulate" not in text


@pytest.mark.parametrize("words", [["help", "map"], ["map", "--help"], ["map", "-h"]])
def test_help_of_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, usage = out(words, capsys)[1].partition("Usage: luo map")
    assert first.startswith("Here SOURCE is the memory that is open, and is left out") and "--page-size" in usage


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["simulate"], "no command 'simulate'; expected one of tree, inspect, check"),
        (["inspct"], "did you mean inspect"),
        (["\x1b[31m"], r"no command '\\\\x1b\[31m'"),
        (["map", "--nope"], "No such option"),
        (["map", "--all", "--format", "json"], "--all is for text"),
        (["hexdump"], "Expected WHERE, too: an address, or a path"),
    ],
)
def test_what_cannot_be_done_is_an_error_in_one_line(words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text) as raised:
        run(words, source=NAME, opener=opened)
    assert str(raised.value).isprintable()


def test_a_source_that_cannot_be_read_is_an_error() -> None:
    def fail(_: Sequence[Range]) -> Memory:
        raise OSError(5, "Input/output error")

    with pytest.raises(SourceError, match="Input/output error"):
        run(["map"], source=NAME, opener=fail)


def test_ranges_reach_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    given = list[Range]()

    def note(ranges: Sequence[Range]) -> Memory:
        given.extend(ranges)
        return luoser.open(PATH)

    run(["map", "--map", "0x1000:0x2000@0"], source=NAME, opener=note)
    assert given == [Range(0x1000, 0x2000, 0)] and capsys.readouterr().out


def test_afterwards_streams_and_names_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run(["inspect"], source=NAME, opener=opened) == 0
    assert stream.errors == "strict" and not is_offered(NAME)
    stream.flush()
    assert b"KHO root" in stream.buffer.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(SourceError):
        open_memory(NAME)


def test_the_path_of_a_file_can_be_offered(capsys: pytest.CaptureFixture[str]) -> None:
    opener = lambda _: luoser.open(PATH)  # noqa: E731 - it opens the very path that it stands for
    assert run(["pci"], source=str(PATH), opener=opener) == 0
    assert capsys.readouterr().out
