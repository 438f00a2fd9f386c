# SPDX-License-Identifier: MIT
"""`luoser extract`: the handover's own pages as a small core, or one preserved memfd as a file."""

from __future__ import annotations

from pathlib import Path

import click

from luoser.cli.common import NoState, read_options, usable_layouts

__all__ = ["command"]


@click.command("extract")
@read_options
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write.")
@click.option(
    "--memfd", metavar="SESSION/TOKEN", help="Put this preserved memfd together again instead of cutting a core."
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    source: tuple[str, ...],
    root: int | None,
    page_size: int | None,
    layouts: tuple[str, ...],
    target: str,
    memfd: str | None,
    force: bool,
) -> None:
    """Cut a small ELF core with only the handover's own pages out of SOURCE: safe to attach to a bug report.

    `inspect` reads the cut exactly like the original. It holds metadata, driver pages and the contents of
    files up to 64 KiB, and no other memory of guests or of the kernel.
    """
    from luoser.errors import UsageError
    from luoser.memory.open import open_memory
    from luoser.memory.recorder import Recorder
    from luoser.output import new_file
    from luoser.reader import read
    from luoser.text import human_size, safe_text
    from luoser.writer.core import write_core

    for name in source:
        if Path(name).exists() and Path(target).exists() and Path(name).samefile(target):
            raise UsageError(f"{safe_text(target)} is the source itself; name another file")
    with open_memory(*source) as below:
        memory = Recorder(below)
        state = read(memory, root=root, page_size=page_size, layouts=usable_layouts(layouts), contents=True)
        if not state.handovers:
            raise NoState(f"{safe_text(source[0])}: no KHO root, nothing to extract")
        with new_file(target, force=force) as file:
            if memfd is not None:
                from luoser.writer.memfd import write_memfd

                report = write_memfd(file, below, state, memfd)
                click.echo(f"{safe_text(target)}: {report}")
            else:
                size = write_core(file, below, memory.pages)
                click.echo(f"{safe_text(target)}: {len(memory.pages)} pages, {human_size(size)}")
