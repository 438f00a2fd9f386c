# SPDX-License-Identifier: MIT
"""`luoser compat`: whether one kernel can hand over to another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luoser.cli import complete
from luoser.cli.common import INCONCLUSIVE, Reading, echo_json, format_option

if TYPE_CHECKING:
    from luoser.compat import Profile

__all__ = ["command"]

_RELEASE = re.compile(r"v?\d+\.\d+(\.\d+)?([-+~].*)?")
_ELF, _ET_CORE = b"\x7fELF", 4


@click.command("compat")
@click.argument(
    "writer", metavar="[FROM]", required=False, type=click.Path(readable=False), shell_complete=complete.kernels
)
@click.argument(
    "reader", metavar="[TO]", required=False, type=click.Path(readable=False), shell_complete=complete.kernels
)
@click.option("--matrix", is_flag=True, help="All pairs of released kernels, as a page of Markdown.")
@format_option("text", "json")
def command(writer: str | None, reader: str | None, matrix: bool, output: str) -> None:
    """Say what happens when kernel FROM hands over to kernel TO.

    Each is a release such as 7.3, a vmlinux, a dump, or live:. Strings of KHO, LUO and handlers, FLBs, sub-trees, page
    size, machine and, where both have BTF, the structs are compared.

    Exit code 0: nothing is known against it. 1: it is refused, breaks, or loses the sessions. 4: not known.

    \b
      luoser compat 7.1 7.2
      luoser compat live: vmlinux
    """
    from luoser.compat import clashes, of_release, verdict
    from luoser.errors import UsageError
    from luoser.render.compat import compat_document, matrix_page, print_clashes
    from luoser.render.out import write

    if matrix:
        if writer is not None:
            raise UsageError("--matrix is about all releases; give neither FROM nor TO")
        write(matrix_page(of_release))
        return
    if writer is None or reader is None:
        raise UsageError("expected FROM and TO: releases, vmlinux files, dumps, or live:")
    pair = _profile(writer), _profile(reader)
    found = clashes(*pair)
    if output == "json":
        echo_json(compat_document(*pair, found))
    else:
        print_clashes(*pair, found)
    if code := {"works": 0, "fails": 1, "unknown": INCONCLUSIVE}[verdict(found)]:
        raise SystemExit(code)


def _profile(name: str) -> Profile:
    from luoser.compat import of_file, of_release, of_state
    from luoser.reader.own_types import types_of

    if _RELEASE.fullmatch(name) and not Path(name).exists():
        return of_release(name)
    if _is_vmlinux(name):
        return of_file(name)
    reading = Reading.plain(name)
    with reading.open() as memory:
        state = reading.read(memory)
        types, _ = types_of(memory)
        return of_state(state, machine=memory.machine, types=types)


def _is_vmlinux(name: str) -> bool:
    try:
        with Path(name).open("rb") as file:
            head = file.read(18)
    except OSError:  # a dump that cannot be read says so itself
        return False
    return head.startswith(_ELF) and int.from_bytes(head[16:18], "little") != _ET_CORE
