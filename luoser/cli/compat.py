# SPDX-License-Identifier: MIT
"""`luoser compat`: whether one kernel can hand over to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from luoser.cli import complete
from luoser.cli.common import INCONCLUSIVE, Reading, echo_json, format_option, limit_option, timeout_option

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import State

__all__ = ["command"]


@click.command("compat")
@click.argument(
    "writer", metavar="[FROM]", required=False, type=click.Path(readable=False), shell_complete=complete.kernels
)
@click.argument(
    "reader", metavar="[TO]", required=False, type=click.Path(readable=False), shell_complete=complete.kernels
)
@click.option("--matrix", is_flag=True, help="All pairs of released kernels, as a page of Markdown.")
@limit_option
@timeout_option
@format_option("text", "json")
def command(writer: str | None, reader: str | None, matrix: bool, output: str, timeout: float | None) -> None:
    """Say what happens when kernel FROM hands over to kernel TO.

    Each is a release such as 7.3, a vmlinux, a dump, or live:. The version strings of KHO and LUO, file handlers, FLBs,
    sub-trees, page size and machine are compared, and the structs if both have BTF.

    Exit code 0: nothing is known against it. 1: it is refused, breaks, or loses the sessions. 4: not known.

    \b
      luoser compat 7.1 7.2
      luoser compat live: vmlinux
    """
    from luoser.api.kernels import profile_of
    from luoser.clashes import compare, of_release
    from luoser.errors import UsageError
    from luoser.render.compat import compat_document, matrix_page, print_compat
    from luoser.render.out import write

    if matrix:
        if writer is not None:
            raise UsageError("--matrix is about all releases; give neither FROM nor TO")
        if output != "text":
            raise UsageError("--matrix is a page of Markdown: leave out --format")
        write(matrix_page(of_release))
        return
    if writer is None or reader is None:
        raise UsageError("expected FROM and TO: releases, vmlinux files, dumps, or live:")
    opened = partial(_opened, timeout=timeout)
    found = compare(profile_of(writer, opened), profile_of(reader, opened))
    if output == "json":
        echo_json(compat_document(found))
    else:
        print_compat(found)
    if code := {"works": 0, "fails": 1, "unknown": INCONCLUSIVE}[found.verdict]:
        raise SystemExit(code)


@contextmanager
def _opened(name: str, *, timeout: float | None) -> Iterator[tuple[State, Memory | None]]:
    from luoser.cli.document import memory_of

    reading = replace(Reading.plain(name), timeout=timeout)
    with reading.open() as memory:
        yield reading.read(memory), memory_of(memory)
