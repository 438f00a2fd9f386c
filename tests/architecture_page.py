# SPDX-License-Identifier: MIT
"""`python -m tests.architecture_page` makes the two tables of docs/architecture.md again.

<!-- rooms: floors -->      the rooms by floor, with the first line of their docstrings
<!-- rooms: subjects -->    which row has a file of each subject
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.abi_pages import FOLDER
from tests.test_floors import FLOORS, MODULES

__all__ = ["PAGE", "ROWS", "main", "page", "subjects"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
ROWS = ("abi", "reader", "writer", "checks", "writer/mutate", "changes")
_MARKER = re.compile(r"^<!-- rooms: (\w+) -->\n(?:.*\n)*?<!-- end -->$", re.MULTILINE)
_NOT_A_SUBJECT = {"__init__", "blob", "model"}


def page() -> str:
    """The page with fresh tables."""
    return _MARKER.sub(lambda match: "\n".join(_block(match[1])), PAGE.read_text())


def _block(kind: str) -> Iterator[str]:
    yield f"<!-- rooms: {kind} -->"
    yield ""
    yield from {"floors": _floors, "subjects": _subjects}[kind]()
    yield ""
    yield "<!-- end -->"


def _floors() -> Iterator[str]:
    yield "| floor | room | what it is |"
    yield "|---:|---|---|"
    for number, rooms in reversed(list(enumerate(FLOORS))):
        for room in sorted(rooms):
            yield f"| {number} | `{room}` | {_first_line(MODULES[f'luoser.{room}'])} |"


def _first_line(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text())) or "").splitlines()[0]


def subjects() -> list[str]:
    """Names of files that two rows or more have, and that are not tools of their row."""
    found = [place.stem for row in ROWS for place in (ROOT / "luoser" / row).glob("*.py")]
    return sorted({name for name in found if found.count(name) > 1} - _NOT_A_SUBJECT)


def _subjects() -> Iterator[str]:
    yield f"| subject | {' | '.join(f'`{row}`' for row in ROWS)} | page |"
    yield f"|---|{':-:|' * len(ROWS)}---|"
    for name in subjects():
        marks = ["•" if (ROOT / "luoser" / row / f"{name}.py").is_file() else "" for row in ROWS]
        link = f"[{name}.md](abi/{name}.md)" if (FOLDER / f"{name}.md").is_file() else ""
        yield f"| {name} | {' | '.join(marks)} | {link} |"


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
