# SPDX-License-Identifier: MIT
"""`luoser extract`: writes the pages of the handovers as a small core, or one memfd, or one node."""

from __future__ import annotations

import click

from luoser.cli import complete
from luoser.cli.common import Reading, read_options

__all__ = ["command"]


@click.command("extract")
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write.")
@click.option(
    "--memfd",
    metavar="SESSION/TOKEN",
    shell_complete=complete.memfds,
    help="Write the contents of this preserved memfd instead of a core.",
)
@click.option(
    "--blob",
    metavar="WHERE",
    shell_complete=complete.nodes,
    help="Write the bytes of one node instead of a core: an address, or a path such as luo.sessions[0].files[2].",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@read_options
def command(reading: Reading, target: str, memfd: str | None, blob: str | None, force: bool) -> None:
    """Write a small ELF core with only the pages of the handovers in SOURCE, to attach to a bug report.

    `inspect` shows the same for it as for SOURCE. It has metadata, driver pages and the contents of files, and of
    folios of the KHO self-test, up to 64 KiB each, but no other memory of guests or of the kernel. A core whose name
    ends with .xz, .gz, .bz2 or .zst is compressed.

    \b
      luoser extract vmcore -o small.elf.xz
      luoser extract vmcore -o disk.img --memfd vm-web-01/0x1a
    """
    from luoser.cli.document import need_pages
    from luoser.extracts.parts import write_part
    from luoser.output import need_other
    from luoser.render.out import line
    from luoser.text import safe_text

    need_other(target, [*reading.source, *([reading.symbols] if reading.symbols is not None else [])])
    with reading.open() as memory:
        need_pages(memory)
        said = write_part(
            target, memory, lambda one: reading.read(one, contents=True), memfd=memfd, blob=blob, force=force
        )
    line((safe_text(target), "name"), f": {said}")
