# SPDX-License-Identifier: MIT
"""The way to stdout for drawn output. rich is loaded here and nowhere earlier; it never sees markup."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["console", "text"]

_PIPE_WIDTH = 1 << 16


def console() -> Console:
    """A console on stdout: as wide as the terminal, unbounded in a pipe; NO_COLOR and pipes get no colours."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def text(*parts: str | tuple[str, str]) -> Text:
    """One line of plain pieces and (piece, style) pairs."""
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ignore")
