# SPDX-License-Identifier: MIT
"""C source as text: what every generator writes alike, and the only way of a foreign name into it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    """Refuse a name that cannot be that of a C array. Raises UsageError."""
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS or name.startswith("__"):
        raise UsageError(
            f"{safe_text(name)!r} cannot name a C array: letters, digits and _, no leading digit, no keyword, "
            "at most 48 characters"
        )


def comment_text(text: str | bytes, limit: int = 72) -> str:
    r"""Foreign text for the inside of a block comment: printable ASCII that can neither end nor start one.

    Whatever is not ASCII becomes \uNNNN, stars and question marks \x2a and \x3f; longer text is cut.
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
    """The initialiser of a char array: a string when it is nothing but one, else character by character."""
    text = raw.rstrip(b"\0")
    if len(text) < len(raw) and set(text) <= _PLAIN:
        return f'"{text.decode("ascii")}"'
    return "{ " + ", ".join(_character(byte) for byte in text) + " }"


def _character(byte: int) -> str:
    return f"'{byte:c}'" if byte in _PLAIN and byte != ord("'") else f"'\\{byte:03o}'"


def number(name: str, c_type: str, value: int) -> str:
    """A number as a person would write it for this member: counts in decimal, the rest in hex from 10 on."""
    if value < 10 or (c_type != "phys" and value < 1 << 31 and _COUNTED.search(name)):
        return str(value)
    return f"{value:#x}" if value < 1 << 32 else f"{value:#x}ULL"


def width(text: str) -> int:
    """Columns of a line, tabs to the next multiple of eight."""
    return len(text.expandtabs(8))


Argument = str | tuple[str, Sequence[str]]
"""An argument, or a call in its place: what opens it, and its own arguments."""


def call(indent: str, opening: str, arguments: Sequence[Argument], closing: str = ");") -> list[str]:
    """`opening(a, b);` on as few lines as it takes, continued below the first argument."""
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
    """`left = right;` on one line or two."""
    line = f"{indent}{left} = {right};"
    return [line] if width(line) <= WIDTH else [f"{indent}{left} =", f"{indent}\t{right};"]


def fill(indent: str, items: Iterable[str]) -> list[str]:
    """`a, b, c,` on lines as full as they can be."""
    lines: list[str] = []
    for item in items:
        if lines and width(f"{lines[-1]} {item},") <= WIDTH:
            lines[-1] += f" {item},"
        else:
            lines.append(f"{indent}{item},")
    return lines


def head(name: str, layout: Layout, data: bytes, source: str, *more: str) -> list[str]:
    """Licence, and a comment that says what this is and where it comes from."""
    said = [
        f"{name}: {layout.name}, {len(data)} bytes",
        comment_text(layout.summary),
        f"Seen in: {comment_text(layout.seen_in, 66)}",
        f'Made by luoser from "{comment_text(source, 54)}"',
    ]
    lines = ["// SPDX-License-Identifier: GPL-2.0-only OR MIT", "/*", *(f" * {line}" for line in said)]
    if more:
        lines += [" *", *(f" * {line}" for line in more)]
    return [*lines, " */"]
