# SPDX-License-Identifier: MIT
"""Formats in which the results of several sources are one document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module

from luoser.render.tested import Result

__all__ = ["FORMATS", "FRAMED", "inert", "joined"]

FORMATS = ("ktap", "sarif", "junit", "github")
"""Each is a module here with a function `together`."""
FRAMED = ("junit", "github")
"""Those of which a command prints only the part of a source, also if there is but one."""


def joined(output: str, results: Iterable[Result], count: int) -> Iterator[str]:
    """The parts of the document, each as soon as its source was read.

    output:  one of FORMATS.
    results: of each source, in order.
    count:   of them.
    """
    made: Iterator[str] = import_module(f"luoser.render.{output}").together(results, count)
    return made


def inert(text: str) -> str:
    """A safe text in which a runner of GitHub finds no command, if something else is before it on its line."""
    return text.replace("##", "#\\x23")
