# SPDX-License-Identifier: MIT
"""`luoser inspect`: the whole state of a source."""

from __future__ import annotations

import click

from luoser.cli.common import Reading, echo_json, format_option, read_options

__all__ = ["command"]


@click.command("inspect")
@read_options
@format_option("text", "json")
@click.option("--full", is_flag=True, help="Show extents, node and block addresses and folio lists, for `build`, too.")
@click.option(
    "--contents", is_flag=True, help="Show the bytes of driver pages and of files up to 64 KiB, too; implies --full."
)
@click.option("--pending", is_flag=True, help="Say why, if what the running kernel will hand over is not known.")
def command(reading: Reading, output: str, full: bool, contents: bool, pending: bool) -> None:
    """Show everything that is handed over in SOURCE: KHO roots, preserved memory, LUO, PCI devices.

    The first lines have the source and the verdict of `luoser check`. Broken, missing and stale structures are listed
    as problems at the end. Neither changes the exit code.
    """
    with reading.open() as memory:
        state = reading.read(memory, contents=contents or output == "text", pending=pending)  # `check` needs them
        ram, kernel = memory.known_ram, memory.vmcoreinfo.get("OSRELEASE")
    if output == "json":
        from luoser.state import to_document

        echo_json(to_document(state, full=full or contents))
    else:
        from luoser.checks import check
        from luoser.render.findings import print_head
        from luoser.render.tree import print_state

        print_head(check(state, ram=ram), state.source, kernel=kernel)
        print_state(state, full=full or contents)
