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
def command(reading: Reading, output: str, full: bool, contents: bool) -> None:
    """Show everything that is handed over in SOURCE: KHO roots, preserved memory, LUO, PCI devices.

    Broken, missing and stale structures are listed as problems at the end. They do not change the exit code.
    """
    state = reading.load(contents=contents)
    if output == "json":
        from luoser.state import to_document

        echo_json(to_document(state, full=full or contents))
    else:
        from luoser.render.tree import print_state

        print_state(state, full=full or contents)
