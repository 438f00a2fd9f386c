# SPDX-License-Identifier: MIT
"""The tables of docs/howto/salvage.md are what salvage brings back of the dumps in the tree."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import luoser
from tests import salvage


@pytest.mark.skipif("LUOSER_REAL" in os.environ, reason="with further dumps there are further rows")
def test_tables_are_current() -> None:
    text = salvage.PAGE.read_text()
    assert text.count("| 7.3-whole/post |") == 2
    assert salvage.page(text) == text, "run `python -m tests.salvage`"


def test_nothing_sure_is_wrong_in_the_tables() -> None:
    rows = [line.split("|")[1:-1] for line in salvage.PAGE.read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 40
    assert {(row[4].strip(), row[6].strip(), row[7].strip()) for row in rows} == {("-", "-", "-")}


def test_a_cut_gives_what_its_dump_gives(tmp_path: Path) -> None:
    source = next(salvage.CASES["7.3-whole"].glob("post.elf*"))
    salvage.cut(source, tmp_path / "post.elf.xz")
    found = [luoser.load(place, salvage=True, kallsyms=False).salvaged for place in (source, tmp_path / "post.elf.xz")]
    assert found[0] == found[1] != ()
