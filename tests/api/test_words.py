# SPDX-License-Identifier: MIT
"""Errors name keywords in Python, and options on the command line."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from pathlib import Path

import pytest

import luoser
from luoser.api.words import COMMANDS_ONLY, with_keywords
from luoser.errors import LuoserError, SourceError, UsageError
from luoser.limits import Limits
from tests import real
from tests.conftest import Run
from tests.real import ROOT

FROZEN = real.path("7.3-a/frozen")
FUNCTIONS = [getattr(luoser, name) for name in luoser.__all__ if name != "__version__"]
KEYWORDS = {name for function in FUNCTIONS for name in inspect.signature(function).parameters}


@pytest.mark.parametrize(
    ("option", "keyword"),
    [
        ("--page-size decides", "page_size decides"),
        ("--limit roots=N raises this limit, now 16", "limits=Limits(roots=N) raises this limit, now 16"),
        ("give --raw, or its addresses with --map", "give raw, or its addresses with ranges"),
        ("a--b, use --hex; `virsh dump --memory-only`", "a--b, use --hex; `virsh dump --memory-only`"),
    ],
)
def test_an_option_becomes_its_keyword(option: str, keyword: str) -> None:
    assert with_keywords(option) == keyword


NOT_RAISED = ("luoser/cli/", "luoser/checks/", "luoser/liveupdate/")
"""Rooms of which no function of luoser raises an error: a rule only raises what becomes a part of the report."""


def raised() -> list[tuple[str, str]]:
    """(place, option) of what functions of luoser can raise."""
    found = []
    for file in sorted((ROOT / "luoser").rglob("*.py")):
        place = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text())) if not place.startswith(NOT_RAISED) else ():
            if isinstance(node, ast.Raise) and node.exc is not None:
                words = [one.value for one in ast.walk(node.exc) if isinstance(one, ast.Constant)]
                text = " ".join(word for word in words if isinstance(word, str))
                found += [(f"{place}:{node.lineno}", one) for one in re.findall(r"--([a-z][a-z-]*)", text)]
    return found


def test_every_option_in_an_error_has_a_keyword() -> None:
    options = [(place, name) for place, name in raised() if name not in COMMANDS_ONLY | {"limit"}]
    assert len(options) > 10
    assert [(place, name) for place, name in options if with_keywords(f"--{name}") not in KEYWORDS] == []


def test_errors_of_functions_and_of_commands(tmp_path: Path, luoser_command: Run) -> None:
    with pytest.raises(UsageError, match=r"directions: no KHO root at 0x1000"):
        luoser.load(FROZEN, directions={0x1000: luoser.load(FROZEN).handovers[0].direction})
    said = luoser_command("inspect", FROZEN, "--direction", "0x1000=incoming").stderr
    assert b"--direction: no KHO root at 0x1000" in said
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with pytest.raises(SourceError, match=r"if it is a raw image of memory, give raw$"):
        luoser.open(tmp_path / "file")
    with pytest.raises(LuoserError, match=r"limits=Limits\(unpacked=N\) raises this limit, now 1000"):
        luoser.open(FROZEN, limits=Limits(unpacked=1000))


@pytest.mark.parametrize("name", [name for name in luoser.__all__ if name != "__version__"])
def test_functions_are_sent_to_other_processes(name: str) -> None:
    found = getattr(luoser, name)
    assert pickle.loads(pickle.dumps(found)) is found
