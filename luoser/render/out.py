# SPDX-License-Identifier: MIT
"""Text on stdout: all of it goes out here. On a terminal lines wrap between words, and nothing is cut."""

from __future__ import annotations

import codecs
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

__all__ = [
    "Part",
    "Screen",
    "Tree",
    "complain",
    "height",
    "line",
    "paragraph",
    "prepare",
    "screen",
    "table",
    "tree",
    "write",
    "written_for",
]

Part = str | tuple[str, str]
"""A text, or (text, meaning). Texts are one line, and safe to print."""

_STYLES = {"good": "32", "note": "33", "problem": "1;31", "address": "36", "name": "1", "quiet": "2"}
"""What each colour means, in every command."""
_WORD = re.compile(r"\s+|\S+")
_PLAIN = {"→": "->", "…": "...", "│": "|", "├": "|", "└": "`", "─": "-", "≤": "<=", "≥": ">="}
_NARROWEST = 20
_COLUMN_GAP = 3


def prepare() -> None:
    """Make stdout and stderr take any text: what their encoding lacks is written in ASCII."""
    codecs.register_error("luoser", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="luoser")


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lost), error.end


def write(text: str) -> None:
    """Write a text as it is, such as JSON."""
    sys.stdout.write(text)


def line(*parts: Part, first: str = "", rest: str = "  ") -> None:
    """Write a line, on a terminal as many as it takes.

    first: what is before the text. rest: what is before it on lines that go on.
    """
    width = _width()
    if width is None:
        write(first + "".join(part if isinstance(part, str) else part[0] for part in parts).rstrip() + "\n")
        return
    is_coloured = _is_coloured()
    for text in _wrapped(parts, width, first, rest):
        write("".join(_styled(piece, style) if is_coloured else piece for piece, style in text).rstrip() + "\n")


def complain(message: str) -> None:
    """Write `luoser: MESSAGE` on stderr, on a terminal as many lines as it takes."""
    width = _width(sys.stderr)
    text = f"luoser: {message}"
    rows = [text]
    if width is not None and len(text) > width:
        rows = textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    sys.stderr.write("\n".join(rows) + "\n")
    sys.stderr.flush()


class Screen(NamedTuple):
    """What will show a text. width: columns of the terminal; None: it is none."""

    width: int | None
    is_coloured: bool


_elsewhere: ContextVar[Screen | None] = ContextVar("elsewhere", default=None)


def screen() -> Screen:
    """What stdout is."""
    return Screen(_width(), _is_coloured())


@contextmanager
def written_for(shown_on: Screen) -> Iterator[None]:
    """What is written to stdout in the block is shown elsewhere."""
    token = _elsewhere.set(shown_on)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def paragraph(text: str, *, width: int = 100) -> None:
    """Write a text as lines of at most so many columns, or as many as the terminal has if it is narrower."""
    for row in textwrap.wrap(text, min(_width() or width, width), break_long_words=False, break_on_hyphens=False):
        line(row, rest="")


@dataclass(slots=True)
class Tree:
    """A text, and what is below it."""

    parts: tuple[Part, ...]
    children: list[Tree] = field(default_factory=list)

    def add(self, *parts: Part) -> Tree:
        """A new child."""
        child = Tree(parts)
        self.children.append(child)
        return child

    @property
    def size(self) -> int:
        """The number of nodes below it."""
        return sum(1 + child.size for child in self.children)


def tree(root: Tree, *, depth: int | None = None) -> None:
    """Write a tree with guides.

    depth: levels to show below the root. None: all. What is left out is counted.
    """
    for parts, first, rest in _rows(root, "", "", depth):
        line(*parts, first=first, rest=rest)


def height(root: Tree, *, depth: int | None = None, width: int = 80) -> int:
    """The number of lines of a tree on a terminal. depth: as of `tree`. width: in columns."""
    rows = _rows(root, "", "", depth)
    return sum(sum(1 for _ in _wrapped(parts, width, first, rest)) for parts, first, rest in rows)


def _rows(node: Tree, first: str, rest: str, depth: int | None) -> Iterator[tuple[tuple[Part, ...], str, str]]:
    """(parts, what is before them, what is before lines that go on) of a node and of those below it."""
    hidden = node.size if depth == 0 else 0
    more: tuple[Part, ...] = (f"  … {hidden} below",) if hidden else ()
    yield (*node.parts, *more), first, f"{rest}{'│ ' if node.children and not hidden else '  '}"
    for child in () if hidden else node.children:
        is_last = child is node.children[-1]
        below = depth - 1 if depth is not None else None
        yield from _rows(child, f"{rest}{'└' if is_last else '├'}── ", f"{rest}{' ' if is_last else '│'}   ", below)


def table(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), indent: str = "  "
) -> None:
    """Write a table; if a terminal is too narrow for it, one block for each row.

    names: of the columns. right: those that are aligned to the right.
    """
    widths = [max(map(len, column), default=0) for column in zip(names, *rows, strict=True)]
    whole = len(indent) + sum(widths) + _COLUMN_GAP * (len(widths) - 1)
    width = _width()
    if width is not None and whole > width:
        for row in rows:
            for place, (name, cell) in enumerate(zip(names, row, strict=True)):
                if cell:
                    line(
                        (f"{name} " if name else "", "quiet"),
                        cell,
                        first=indent if not place else f"{indent}  ",
                        rest=f"{indent}    ",
                    )
        return
    for number, row in enumerate((names, *rows)):
        cells = [
            cell.rjust(size) if name in right else cell.ljust(size)
            for name, cell, size in zip(names, row, widths, strict=True)
        ]
        text = (" " * _COLUMN_GAP).join(cells)
        line((text, "name") if not number else text, first=indent)


def _width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal. stream: stdout unless given. None: it is not a terminal."""
    if stream is None and (elsewhere := _elsewhere.get()) is not None:
        return elsewhere.width
    stream = stream or sys.stdout
    if not stream.isatty():
        return None
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return max(int(asked), _NARROWEST)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or 80, _NARROWEST)
    except (ValueError, OSError):
        return 80


def _is_coloured() -> bool:
    if (elsewhere := _elsewhere.get()) is not None:
        return elsewhere.is_coloured
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


def _styled(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and text.strip() else text


_Piece = tuple[str, str]


def _wrapped(parts: Sequence[Part], width: int, first: str, rest: str) -> Iterator[list[_Piece]]:
    """Lines of (text, style), at most `width` columns wide unless a word is longer."""
    rest = rest if len(rest) <= width // 2 else rest[: width // 2]
    made: list[_Piece] = [(first, "")]
    column, start, gap = len(first), len(first), ""
    for word in _words(parts):
        size = sum(len(text) for text, _ in word)
        if word[0][0].isspace():
            gap = "".join(text for text, _ in word)
            continue
        if column > start and column + len(gap) + size > width:
            yield made
            made, column, start, gap = [(rest, "")], len(rest), len(rest), ""
        made += [(gap, ""), *word]
        column, gap = column + len(gap) + size, ""
    yield made


def _words(parts: Sequence[Part]) -> Iterator[list[_Piece]]:
    """Words and the gaps between them. A word may have pieces of several styles."""
    word: list[_Piece] = []
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        for match in _WORD.finditer(text):
            if word and match[0].isspace() != word[0][0].isspace():
                yield word
                word = []
            word.append((match[0], style))
    if word:
        yield word
