# SPDX-License-Identifier: MIT
"""The commands of luoser on the memory of a drgn program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from luoser.cli.embedded import run
from luoser.drgn.source import memory, name_of

if TYPE_CHECKING:
    import drgn

__all__ = ["luo"]


def luo(prog: drgn.Program, *words: str) -> int:
    """Run a command of luoser on a program, as `%luo` does: `luo(prog, "check", "--select", "MAP")`.

    prog:  a drgn program of a Linux kernel.
    words: the command and its arguments, without SOURCE.

    Returns the exit code of the command. What it prints goes to `sys.stdout`. Raises UsageError for what cannot be
    done, SourceError for what cannot be read.
    """
    return run(words, source=name_of(prog), opener=lambda ranges: memory(prog, ranges=ranges))
