# SPDX-License-Identifier: MIT
"""Help that fits a terminal of any width."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable

import click
from click.formatting import wrap_text

__all__ = ["Formatter"]

_NARROW = 50
"""Columns below which click does not go, and below which two columns of text are too many."""
_NARROWEST = 24


class Formatter(click.HelpFormatter):
    """As click's own. In a narrow terminal the meaning of an option is below it; a long example takes several lines."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(indent_increment, width, max_width)
        if width is None:
            self.width = min(self.width, max(shutil.get_terminal_size().columns - 2, _NARROWEST))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """As click's own."""
        if self.width >= _NARROW:
            super().write_dl(list(rows), col_max, col_spacing)
            return
        for name, meaning in rows:
            for text, indent in ((name, self.current_indent), (meaning, self.current_indent + 4)):
                space = " " * indent
                self.write(wrap_text(text, self.width, space, space, preserve_paragraphs=True) + "\n")

    def getvalue(self) -> str:
        """As click's own."""
        lines = (line.rstrip(" ") for line in super().getvalue().splitlines())
        return "".join(f"{row}\n" for line in lines for row in _folded(line, self.width))


def _folded(line: str, width: int) -> list[str]:
    """The lines of an example: a command, which is still one in a shell, and what it is for."""
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    command, *words = re.split(r" {2,}", line.strip(), maxsplit=1)
    rows = textwrap.wrap(
        command,
        width - 2,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    more = textwrap.wrap(" ".join(words), width, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    ")
    return [*(f"{row} \\" for row in rows[:-1]), rows[-1], *more]
