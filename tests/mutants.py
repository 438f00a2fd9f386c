# SPDX-License-Identifier: MIT
"""Change the source in small ways, one at a time, and show each change that no test notices: `make mutants`.

    python -m tests.mutants [--sample N] [--seed S] [--jobs N] [luoser/checks/pci.py ...]

cosmic-ray makes the changes, in copies of the checkout, which itself stays as it is. A change to a module is judged by
the tests of its name and those that are about its whole room. mutmut cannot be used: it leaves out every decorated
function, and so the body of every rule.

A change that survives is not always a missing test: it can be equivalent, or about the words of a message.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.real import ROOT

ROOMS = ("luoser/checks", "luoser/changes")
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
_LONGEST = 600
"""Seconds after which a test run counts as hung, which is noticed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    module: path below the root. operator, occurrence: as cosmic-ray names it. before, after: the module.
    """

    module: str
    line: int
    operator: str
    occurrence: int
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The lines that differ."""
        rows = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=0)
        return "\n".join(f"    {row}" for row in list(rows)[2:] if not row.startswith("@@"))


# -- what can be changed ----------------------------------------------------------------------------------


def places(module: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """(line, column) to the changes that can be made there, each as operator and occurrence."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast_from_path(ROOT / module)))
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():  # asks for names of variables
            continue
        operator = kind()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            found.setdefault(start, []).append((name, occurrence))
    return found


def changed(before: str, operator: str, occurrence: int) -> str | None:
    """A module with one change; None where that does not change what runs."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text: str | None = mutate_code(before, get_operator(operator)(), occurrence)
    try:
        return text if text is not None and _what_runs(text) != _what_runs(before) else None
    except SyntaxError:
        return None


@cache
def _what_runs(text: str) -> str:
    return ast.dump(_WithoutTypes().visit(ast.parse(text)))


class _WithoutTypes(ast.NodeTransformer):
    """A module without annotations, which are never evaluated, and without the options of dataclasses."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name):
                decorator.keywords = [] if decorator.func.id == "dataclass" else decorator.keywords
        return self.generic_visit(node)


def sample(modules: Sequence[str], count: int, chance: random.Random) -> list[Mutant]:
    """Changes at so many places, each module by the number of its own, at least one of each; all with `count` 0."""
    by_module = {module: places(module) for module in modules}
    total = sum(map(len, by_module.values()))
    chosen: list[Mutant] = []
    for module, found in by_module.items():
        wanted = max(1, round(count * len(found) / total)) if count else total
        chosen += list(_some(module, found, wanted, chance))
    return chosen


def _some(
    module: str, found: dict[tuple[int, int], list[tuple[str, int]]], wanted: int, chance: random.Random
) -> Iterator[Mutant]:
    """One change at each of so many places: an operator has up to eleven others, a loop only one."""
    before, starts = (ROOT / module).read_text(), sorted(found)
    chance.shuffle(starts)
    for start in starts:
        ways = found[start]
        chance.shuffle(ways)
        for operator, occurrence in ways:
            after = changed(before, operator, occurrence)
            if after is not None:
                yield Mutant(module, start[0], operator.removeprefix("core/"), occurrence, before, after)
                wanted -= 1
                break
        if not wanted:
            return


# -- what the tests say -----------------------------------------------------------------------------------


def tests_of(module: str) -> list[str]:
    """The tests that judge a module: those of its own name, then those of its room that are about no module alone.

    Of a module without tests of its own, such as what a room shares, all tests of its room.
    """
    place = Path(module)
    room = ROOT / "tests" / place.parent.relative_to("luoser")
    own = room / f"test_{place.stem}.py"
    modules = {other.stem for other in (ROOT / place.parent).glob("*.py")}
    shared = [test for test in sorted(room.glob("test_*.py")) if test.stem.removeprefix("test_") not in modules]
    return [test.relative_to(ROOT).as_posix() for test in ([own, *shared] if own.exists() else [room])]


def copy(folder: Path) -> Path:
    """A copy of the checkout, with compiled modules that are checked by their contents."""
    shutil.copytree(ROOT, folder, ignore=_NOT_COPIED)
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "luoser"]
    subprocess.run(command, check=True, cwd=folder)
    return folder


def failure(folder: Path, tests: Sequence[str], **more: str) -> str:
    """What the first test that fails in a copy says, "" where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # luoser is installed from the checkout: the copy has to come first
    environment = {**os.environ, "PYTHONPATH": os.fspath(folder), **more}
    try:
        found = subprocess.run(
            command, check=False, cwd=folder, env=environment, timeout=_LONGEST, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_LONGEST} s"
    return found.stdout[-2000:] + found.stderr[-2000:] if found.returncode else ""


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether all tests of its room pass with a change in a copy."""
    place = folder / mutant.module
    place.write_text(mutant.after)
    try:
        return not failure(folder, tests_of(mutant.module), PYTHONDONTWRITEBYTECODE="1")
    finally:
        place.write_text(mutant.before)


def judge(mutants: Sequence[Mutant], jobs: int, folder: Path) -> Iterator[tuple[Mutant, bool]]:
    """(change, whether it survived) of all, as they end."""
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(jobs):
        copies.put(copy(folder / str(number)))
    every = sorted({test for mutant in mutants for test in tests_of(mutant.module)})
    first = copies.get()
    if word := failure(first, every):
        raise SystemExit(f"{word}\nthe tests fail without any change; mend that first")
    copies.put(first)

    def one(mutant: Mutant) -> tuple[Mutant, bool]:
        place = copies.get()
        try:
            return mutant, survives(mutant, place)
        finally:
            copies.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, mutants)


def _options(words: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--sample", type=int, default=100, metavar="N", help="places to change, 0 for all (default 100)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another one gives another sample (default 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="test runs at a time (default 1)")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"files or folders (default {' '.join(ROOMS)})")
    return parser.parse_args(words)


def main(words: Sequence[str] = sys.argv[1:]) -> None:
    """Print every change that survives, and how many did not."""
    options = _options(words)
    modules = []
    for name in options.modules or ROOMS:
        found = sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / name]
        modules += [place.relative_to(ROOT).as_posix() for place in found]
    mutants = sample(modules, options.sample, random.Random(options.seed))
    counts, start = Counter[bool](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="luoser-mutants-") as folder:
        for mutant, survived in judge(mutants, options.jobs, Path(folder)):
            counts[survived] += 1
            word = "survived" if survived else "noticed"
            print(f"{word} {mutant.module}:{mutant.line} {mutant.operator} {mutant.occurrence}", flush=True)
            if survived:
                print(mutant.diff, flush=True)
    print(f"{len(mutants)} changes: {counts[False]} noticed, {counts[True]} survived; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
