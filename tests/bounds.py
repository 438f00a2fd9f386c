# SPDX-License-Identifier: MIT
"""Remove each bound, one at a time, and show the test that notices: the rows of docs/bounds.md, `make bounds`.

    python -m tests.bounds [--page FILE] [NAME...]

A bound is removed by making it 2^62 wherever luoser asks for it, whatever a test or the command line sets; one of the
least that has to be there is made 0. The tests that name it are run until one fails, in a process that may take neither
much memory nor much time: what needs more without the bound is noticed by that, too. A control run shows that the same
test passes in such a process with the bound in place. Exit code 1 if nothing notices one.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from luoser import limits
from tests.real import ROOT

__all__ = ["PAGE", "candidates", "main", "noticed", "page", "rows", "without"]

PAGE = ROOT / "docs" / "bounds.md"
ENDLESS = 1 << 62
_LEAST = ("disk_left",)
"""Bounds of the least that has to be there. Removed, they are 0."""
_SECONDS = 30
"""Processor time of the tests of one bound."""
_WAIT = 4 * _SECONDS
"""The same by the clock: for what waits."""
_MEMORY = 3 << 30
"""Bytes of address space."""


def without(name: str) -> None:
    """Remove a bound, in this process and for good. Tests still see its value."""
    slot, gone = limits.Limits.__dict__[name], 0 if name in _LEAST else ENDLESS

    def value(self: object) -> int:
        frame, own = sys._getframe(1), limits.__name__
        while frame.f_back is not None and frame.f_globals["__name__"] == own:
            frame = frame.f_back
        return gone if frame.f_globals["__name__"].startswith("luoser.") else int(slot.__get__(self))

    setattr(limits.Limits, name, property(value, slot.__set__))


@cache
def _tests() -> dict[str, str]:
    """Source of each test function, by the name that pytest takes."""
    found = {}
    for place in sorted((ROOT / "tests").rglob("test_*.py")):
        path, text = place.relative_to(ROOT).as_posix(), place.read_text()
        if path != "tests/test_bounds.py" and not path.startswith("tests/lab/"):
            functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
            found |= {f"{path}::{one.name}": _source(text, one) for one in functions if one.name.startswith("test_")}
    return found


def _source(text: str, node: ast.FunctionDef) -> str:
    first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def candidates(name: str) -> list[str]:
    """The tests that set or name a bound."""
    named = re.compile(rf"\bLimits\\?\([^()]*\b{name}=|\bLIMITS\.{name}\b|[\"'](--limit[ =])?{name}=|--limit {name}=")
    by_name = re.compile(rf"[\"']{name}[\"'](?s:.*)\b(with_values|Limits)\(")
    return [test for test, source in _tests().items() if named.search(source) or by_name.search(source)]


def noticed(name: str, tests: Sequence[str]) -> str:
    """The first test that fails without a bound, and passes with it. Empty: none does, or there is none."""
    left = list(tests)
    while left and (failed := _first_failure(left, removed=name)):
        if not _first_failure([failed]):
            return failed
        left = left[left.index(failed.partition("[")[0]) + 1 :]
    return ""


def _first_failure(tests: Sequence[str], *, removed: str = "") -> str:
    """The first test that fails, or that was going on when its process ended. removed: a bound."""
    pipe, other = os.pipe()
    child = os.fork()
    if not child:
        os.close(pipe)
        _run(tests, removed, other)
    os.close(other)
    with os.fdopen(pipe) as stream:
        said = [line.split(maxsplit=1) for line in stream.read().splitlines()]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    failed = [test for word, test in said if word == "failed"]
    return said[-1][1] if code and said and not failed else next(iter(failed), "")


def _run(tests: Sequence[str], name: str, pipe: int) -> NoReturn:
    """Run tests, and end this process. name: of a bound that is removed, or empty."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])  # of what ran in this process before
    memory = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(_WAIT)

    class Watch:
        def pytest_runtest_logstart(self, nodeid: str) -> None:
            os.write(pipe, f"at {nodeid}\n".encode())

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                os.write(pipe, f"failed {report.nodeid}\n".encode())

    code = 1
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        if name:
            without(name)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--benchmark-disable"]
        code = pytest.main([*options, "-m", "not slow", *tests], plugins=[Watch()])
    finally:
        os._exit(int(code))


def rows(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(bound, the test that notices that it is gone) of each."""
    for name in names:
        yield name, noticed(name, candidates(name))


_TEXT = """# Bounds

Every bound on the work that a source can cause, and a test that fails when the bound is removed. `make bounds` makes
this page. It makes one bound after the other 2^62 wherever luoser asks for it, whatever the test sets, and runs the
tests that name the bound until one fails that passes with the bound in place. `--limit NAME=VALUE` changes one.

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
