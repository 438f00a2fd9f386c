# SPDX-License-Identifier: MIT
"""Remove each bound, one at a time, and show the test that notices: the rows of docs/bounds.md, `make bounds`.

    python -m tests.bounds [--page FILE] [NAME...]

A bound is removed by making it 2^62 wherever luoser asks for it, whatever a test or the command line sets. The tests
that name it are run until one fails, in a process that may take neither much memory nor much time: what needs
more without the bound is noticed by that, too. Exit code 1 if nothing notices one.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from luoser import limits
from tests.real import ROOT

__all__ = ["PAGE", "candidates", "main", "noticed", "rows", "without"]

PAGE = ROOT / "docs" / "bounds.md"
ENDLESS = 1 << 62
_SECONDS = 60
"""Processor time of the tests of one bound."""
_MEMORY = 3 << 30
"""Bytes of address space."""


def without(name: str) -> None:
    """Remove a bound, in this process and for good. Tests still see its value."""
    slot = limits.Limits.__dict__[name]

    def value(self: object) -> int:
        frame, own = sys._getframe(1), limits.__name__
        while frame.f_back is not None and frame.f_globals["__name__"] == own:
            frame = frame.f_back
        return ENDLESS if frame.f_globals["__name__"].startswith("luoser.") else int(slot.__get__(self))

    setattr(limits.Limits, name, property(value, slot.__set__))


@cache
def _trees() -> dict[str, tuple[str, ast.Module]]:
    """Text and tree of each file of tests."""
    places = sorted((ROOT / "tests").rglob("test_*.py"))
    texts = {place.relative_to(ROOT).as_posix(): place.read_text() for place in places if "/lab/" not in str(place)}
    return {name: (text, ast.parse(text)) for name, text in texts.items()}


def candidates(name: str) -> list[str]:
    """Tests that name a bound, then files that name it elsewhere, then those of the modules that ask for it."""
    word = re.compile(rf"LIMITS\.{name}\b|\b{name}=|[\"']{name}[\"']")
    own, files = list[str](), list[str]()
    for path, (text, tree) in _trees().items():
        if not word.search(text):
            continue
        found = [
            f"{path}::{node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and word.search(_source(text, node))
        ]
        own += found
        files += [] if found else [path]
    return [*own, *files, *_of_modules(name), "tests/fuzz/test_costs.py"]


def _of_modules(name: str) -> Iterator[str]:
    """The tests of the modules that ask for a bound."""
    word = re.compile(rf"\b(LIMITS|limits)\.{name}\b|[\"']{name}[\"']")
    for place in sorted((ROOT / "luoser").rglob("*.py")):
        test = ROOT / "tests" / place.relative_to(ROOT / "luoser").with_name(f"test_{place.stem}.py")
        if test.exists() and word.search(place.read_text()):
            yield test.relative_to(ROOT).as_posix()


def _source(text: str, node: ast.FunctionDef) -> str:
    first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def noticed(name: str, tests: Sequence[str]) -> str:
    """The first test that fails without a bound. Empty: none does, or there is none."""
    if not tests:
        return ""
    pipe, other = os.pipe()
    child = os.fork()
    if not child:
        os.close(pipe)
        _run(name, tests, other)
    os.close(other)
    with os.fdopen(pipe) as stream:
        said = stream.read().splitlines()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    started = [line.removeprefix("at ") for line in said if line.startswith("at ")]
    if code < 0:  # it took too much, which is what the bound is for
        return started[-1] if started else ""
    return next((line.removeprefix("failed ") for line in said if line.startswith("failed ")), "")


def _run(name: str, tests: Sequence[str], pipe: int) -> None:
    """Run tests without a bound, and end this process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    class Watch:
        def pytest_runtest_logstart(self, nodeid: str) -> None:
            os.write(pipe, f"at {nodeid}\n".encode())

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                os.write(pipe, f"failed {report.nodeid}\n".encode())

    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        without(name)
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-o",
            "addopts=--benchmark-disable",
            "-m",
            "not slow",
        ]
        pytest.main([*options, *tests], plugins=[Watch()])
    finally:
        os._exit(0)


def rows(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(bound, the test that notices that it is gone) of each."""
    for name in names:
        yield name, noticed(name, candidates(name))


_TEXT = """# Bounds

Every bound on the work that a source can cause, and the test that fails when the bound is removed. `make bounds` makes
this page: it makes one after the other 2^62 wherever luoser asks for it, and runs tests until one fails.

| bound | default | on | noticed by |
|---|---:|---|---|
"""


def page(found: Sequence[tuple[str, str]]) -> str:
    """The page docs/bounds.md."""
    known = limits.meanings()
    lines = [f"| `{name}` | {known[name][0]} | {known[name][1]} | `{_plain(test)}` |\n" for name, test in found]
    return _TEXT + "".join(lines)


def _plain(test: str) -> str:
    """A test without the values that it was run with."""
    return test.partition("[")[0] or "nothing"


def main(words: Sequence[str] = sys.argv[1:]) -> None:
    """Say for each bound what notices that it is gone."""
    parser = argparse.ArgumentParser(prog="python -m tests.bounds", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page docs/bounds.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help="bounds (default: all)")
    options = parser.parse_args(words)
    found = []
    for name, test in rows(options.names or list(limits.meanings())):
        found.append((name, test))
        print(f"{name}: {test or 'NOTHING NOTICES'}", flush=True)
    if options.page:
        options.page.write_text(page(found))
    sys.exit(any(not test for _, test in found))


if __name__ == "__main__":
    main()
