# SPDX-License-Identifier: MIT
"""Formatted output on stdout. rich is imported late, as it is slow to load, and never interprets markup."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["console", "text"]

_PIPE_WIDTH = 1 << 16


def console() -> Console:
    """A console on stdout, as wide as the terminal, or unlimited in a pipe. No colours in a pipe or with NO_COLOR."""
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> None:  # rich would exit with 1, which means findings
            raise BrokenPipeError

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def text(*parts: str | tuple[str, str]) -> Text:
    """One line of text. parts: texts and (text, style) pairs, which must be safe to print."""
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ignore")
