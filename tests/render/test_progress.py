# SPDX-License-Identifier: MIT
"""How far a long search is: on a terminal, after a while, and gone at its end."""

from __future__ import annotations

import io
import re
import sys

import pytest

from luoser.render import progress as module
from luoser.render.progress import progress


class Terminal(io.StringIO):
    """Shows what was flushed: results go another way to the same terminal."""

    seen = ""

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.seen = self.getvalue()


class Clock:
    """A clock that only goes on when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Search:
    """A search that has begun on a terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.terminal, self.clock = Terminal(), Clock()
        monkeypatch.setattr(sys, "stderr", self.terminal)
        monkeypatch.setattr(module, "time", self.clock)
        report = progress("searching")
        assert report is not None
        self.report = report

    @property
    def shown(self) -> str:
        return self.terminal.seen


def row(written: str) -> str:
    """What a terminal without any escapes has in the row after it."""
    assert "\n" not in written and "\x1b" not in written
    shown = ""
    for text in written.split("\r"):
        shown = text + shown[len(text) :]
    return shown


def test_nothing_where_nobody_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert progress("searching") is None


def test_short_search_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(monkeypatch)
    for done in range(0, 100, 10):
        search.clock.now += 0.05
        search.report(done << 20, 100 << 20)
    search.report(100 << 20, 100 << 20)
    assert search.shown == ""


def test_long_search_is_drawn_on_one_line_and_wiped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(monkeypatch)
    for done in range(100):
        search.clock.now += 0.5
        search.report(done << 20, 100 << 20)
    assert "\rsearching: 50 % of 100 MiB" in search.shown
    assert row(search.shown).rstrip() == "searching: 99 % of 100 MiB"
    search.report(100 << 20, 100 << 20)
    assert row(search.shown).strip() == "" and search.shown.endswith("\r")


def test_a_shorter_text_leaves_nothing_of_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(monkeypatch)
    for total in (1000 << 20, 512):
        search.clock.now += 5
        search.report(total // 2, total)
    assert row(search.shown).rstrip() == "searching: 50 % of 512 bytes"


def test_line_is_drawn_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(monkeypatch)
    search.clock.now += 2
    for done in range(1000):
        search.clock.now += 0.001
        search.report(done, 1000)
    assert len(re.findall("searching", search.shown)) <= 11


def test_search_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(monkeypatch)
    search.clock.now += 5
    search.report(0, 0)
    assert search.shown == ""
