# SPDX-License-Identifier: MIT
"""`luoser report`: a source, or two and their changes, as one HTML page."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luoser.cli.common import Reading, next_option, read_options, topology_option

if TYPE_CHECKING:
    from luoser.memory.source import Memory

__all__ = ["command"]


@click.command("report")
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write; - is standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@topology_option
@next_option
@read_options
def command(reading: Reading, target: str, force: bool, topology_of: str | None, next_release: str | None) -> None:
    """Write an HTML page about SOURCE to attach to a ticket: verdict, memory map, devices, sessions, findings, bytes.

    Two sources are BEFORE and AFTER, and the page has their changes, too. Only files that are one dump, such as those
    of a split kdump, are one source. The page is a single file that loads nothing. It has metadata, driver pages and
    the contents of files up to 64 KiB, like the core of `luoser extract`.

    \b
      luoser report vmcore -o report.html
      luoser report before.elf after.elf --topology host.json -o report.html
    """
    from luoser.api.page import reported
    from luoser.changes import compare
    from luoser.cli.document import memory_of
    from luoser.output import need_other, new_output
    from luoser.render.report import need_jinja, page
    from luoser.text import safe_text
    from luoser.topology import read_topology

    need_jinja()
    others = [name for name in (topology_of, reading.symbols) if name is not None]
    need_other(target, [*reading.source, *others])
    topology = read_topology(topology_of) if topology_of is not None else None
    with ExitStack() as stack:
        memories = _open(reading, stack)
        sources = [
            reported(
                one.read(memory, contents=True),
                memory_of(memory),
                topology=topology,
                next_release=next_release,
                share=len(memories),
            )
            for one, memory in memories
        ]
    comparison = compare(sources[0].state, sources[1].state) if len(sources) == 2 else None
    data = page(sources, comparison).encode()
    with new_output(target, force=force, is_text=True) as file:
        file.write(data)
    if target != "-":
        from luoser.render.out import line
        from luoser.text import rounded_size

        line((safe_text(target), "name"), f": {rounded_size(len(data))}")


def _open(reading: Reading, stack: ExitStack) -> list[tuple[Reading, Memory]]:
    """Each source with its memory: one, or two if the files do not belong to one dump."""
    from luoser.errors import SourceError, UsageError
    from luoser.memory.device import LIVE

    count = len(reading.source)
    apart = ("-", LIVE)  # never a part of a dump, and standard input cannot be read twice
    if count == 1 or (not set(apart) & set(reading.source) and not Path(reading.source[0]).is_dir()):
        try:
            return [(reading, stack.enter_context(reading.open()))]
        except (SourceError, UsageError) as error:
            if count == 1:
                raise
            if count > 2:
                raise UsageError(f"{error}; or one source, or two: BEFORE and AFTER; found {count} files") from None
    singles = [replace(reading, source=(name,)) for name in reading.source]
    return [(one, stack.enter_context(one.open())) for one in singles]
