# SPDX-License-Identifier: MIT
"""SECURITY.md: each threat names the tests that show what holds, and these exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.real import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = [row for row in TEXT.split("| threat |")[1].split("\n\n")[0].splitlines()[2:] if row]
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_each_named_test_exists(path: str, name: str) -> None:
    assert Path(ROOT / path).exists() and name in functions(path)


def test_each_threat_names_a_test() -> None:
    assert len(ROWS) > 10
    for row in ROWS:
        threat, holds, shown = row.strip("| ").split(" | ")
        assert threat and holds and re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+`(, )?)+", shown), row
