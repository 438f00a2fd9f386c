# SPDX-License-Identifier: MIT
"""`luoser extract`: the handover's own pages as a small core, one preserved memfd or one node as a file."""

from __future__ import annotations

from pathlib import Path

import click

from luoser.cli.common import Reading, read_options

__all__ = ["command"]


@click.command("extract")
@read_options
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write.")
@click.option(
    "--memfd", metavar="SESSION/TOKEN", help="Put this preserved memfd together again instead of cutting a core."
)
@click.option(
    "--blob",
    metavar="WHERE",
    help="Write the bytes of one node instead: an address, or a path such as luo.sessions[0].files[2] or pci[0].",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(reading: Reading, target: str, memfd: str | None, blob: str | None, force: bool) -> None:
    """Cut a small ELF core with only the handover's own pages out of SOURCE: safe to attach to a bug report.

    `inspect` reads the cut exactly like the original. It holds metadata, driver pages and the contents of
    files up to 64 KiB, and no other memory of guests or of the kernel.
    """
    from luoser.errors import UsageError
    from luoser.extract.blob import write_blob
    from luoser.extract.core import write_core
    from luoser.extract.memfd import write_memfd
    from luoser.memory.recorder import Recorder
    from luoser.output import new_file
    from luoser.text import human_size, safe_text

    if memfd is not None and blob is not None:
        raise UsageError("--memfd and --blob are two different files: give one of them")
    for name in reading.source:
        if Path(name).exists() and Path(target).exists() and Path(name).samefile(target):
            raise UsageError(f"{safe_text(target)} is the source itself; name another file")
    with reading.open() as below:
        if below.placeless and memfd is None and blob is None:
            raise UsageError(
                f"{safe_text(reading.source[0])}: blobs of debugfs are no pages to cut out; keep them as they are"
            )
        memory = Recorder(below)
        state = reading.read(memory, contents=True)
        with new_file(target, force=force) as file:
            if memfd is not None:
                report = write_memfd(file, below, state, memfd)
            elif blob is not None:
                report = write_blob(file, below, state, blob)
            else:
                size = write_core(file, below, memory.asked)
                report = f"{len(memory.pages)} pages, {human_size(size)}"
            click.echo(f"{safe_text(target)}: {report}")
