# SPDX-License-Identifier: MIT
"""C source text: what all generators share. Every name from outside passes a function of this module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import wrap

from luoser.abi.registry import Layout
from luoser.errors import UsageError
from luoser.text import safe_text

__all__ = [
    "WIDTH",
    "Argument",
    "assignment",
    "call",
    "check_name",
    "comment_text",
    "fill",
    "function",
    "head",
    "number",
    "text_literal",
    "width",
]

WIDTH = 80
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """auto break case char const continue default do double else enum extern float for goto if inline int long
        register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
        asm bool false main true typeof""",
    )
)
_COUNTED = re.compile(r"count|^nr_|_nr_|num|version|order|pages|index")
_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\?')


def check_name(name: str) -> None:
    """Raises UsageError for a name that is not valid for a C array."""
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS or name.startswith("__"):
        raise UsageError(
            f"{safe_text(name)!r} is not a valid name of a C array: expected at most 48 letters, digits and _, no "
            "digit or __ in front, not a keyword"
        )


def comment_text(text: str | bytes, limit: int = 72) -> str:
    r"""Text from outside, made safe for a block comment: printable ASCII that cannot end or start a comment.

    Other characters become \uNNNN, stars \x2a, question marks \x3f.

    limit: maximum number of characters. Longer text is cut.
    """
    made = ""
    for character in safe_text(text):
        code = ord(character)
        if character in "*?":
            character = f"\\x{code:02x}"
        elif code > 0x7E:
            character = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        if len(made) + len(character) > limit:
            return made + "..."
        made += character
    return made


def text_literal(raw: bytes) -> str:
    """The C initialiser of a char array: a string if possible, otherwise a list of characters."""
    text = raw.rstrip(b"\0")
    if len(text) < len(raw) and set(text) <= _PLAIN:
        return f'"{text.decode("ascii")}"'
    return "{ " + ", ".join(_character(byte) for byte in text) + " }"


def _character(byte: int) -> str:
    return f"'{byte:c}'" if byte in _PLAIN and byte != ord("'") else f"'\\{byte:03o}'"


def number(name: str, c_type: str, value: int) -> str:
    """A number as a C literal: counts in decimal, other numbers from 10 on in hex.

    name, c_type: of the member, which show whether it is a count.
    """
    if value < 10 or (c_type != "phys" and value < 1 << 31 and _COUNTED.search(name)):
        return str(value)
    return f"{value:#x}" if value < 1 << 32 else f"{value:#x}ULL"


def width(text: str) -> int:
    """Width of a line in columns, with tab stops every eight columns."""
    return len(text.expandtabs(8))


Argument = str | tuple[str, Sequence[str]]
"""An argument of a call: a text, or a nested call as (opening, arguments)."""


def call(indent: str, opening: str, arguments: Sequence[Argument], closing: str = ");") -> list[str]:
    """C lines of a call `opening a, b closing`. Further lines are aligned below the first argument.

    opening: text up to and including the parenthesis.
    closing: text after the last argument.
    """
    column = width(indent + opening)
    below = "\t" * (column // 8) + " " * (column % 8)
    lines, line = [], indent + opening
    for index, argument in enumerate(arguments):
        end = "," if index + 1 < len(arguments) else closing
        piece = argument if isinstance(argument, str) else f"{argument[0]}{', '.join(argument[1])})"
        if index and width(f"{line} {piece}{end}") > WIDTH:
            lines.append(line)
            line = below
        elif index:
            line += " "
        if isinstance(argument, tuple) and width(line + piece + end) > WIDTH:
            *whole, line = call(line, argument[0], argument[1], f"){end}")
            lines += whole
        else:
            line += piece + end
    return [*lines, line]


def assignment(indent: str, left: str, right: str) -> list[str]:
    """C lines of `left = right;`: one, or two if it is too long."""
    line = f"{indent}{left} = {right};"
    return [line] if width(line) <= WIDTH else [f"{indent}{left} =", f"{indent}\t{right};"]


def function(kind: str, rest: str) -> list[str]:
    """C lines that begin a function `static kind rest`: one, or two if it is too long."""
    line = f"static {kind} {rest}"
    return [line] if width(line) <= WIDTH else [f"static {kind}", rest]


def fill(indent: str, items: Iterable[str]) -> list[str]:
    """C lines of `a, b, c,`, each with as many items as fit."""
    lines: list[str] = []
    for item in items:
        if lines and width(f"{lines[-1]} {item},") <= WIDTH:
            lines[-1] += f" {item},"
        else:
            lines.append(f"{indent}{item},")
    return lines


def head(
    name: str, layout: Layout, data: bytes, source: str, notes: Iterable[str] = (), more: Iterable[str] = ()
) -> list[str]:
    """The first C lines of a file: licence, and a comment on the blob and its origin.

    name:   of the array.
    source: what the blob was made from.
    notes:  what else is to be said of the blob, from outside.
    more:   further lines of the comment.
    """
    said = [
        f"{name}: {layout.name}, {len(data)} bytes",
        comment_text(layout.summary),
        f"Seen in: {comment_text(layout.seen_in, 66)}",
        f'Made by luoser from "{comment_text(source, 54)}"',
    ]
    said += [line for note in notes for line in wrap(comment_text(note, 600), 72, subsequent_indent="  ")]
    lines = ["// SPDX-License-Identifier: GPL-2.0-only OR MIT", "/*", *(f" * {line}" for line in said)]
    further = [f" *{line}" if line[:1] in ("", "\t") else f" * {line}" for line in more]
    return [*lines, *([" *", *further] if further else []), " */"]
