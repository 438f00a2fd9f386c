# SPDX-License-Identifier: MIT
"""`luoser map`: the preserved extents."""

from __future__ import annotations

import click

from luoser.cli.common import Reading, echo_json, format_option, read_options

__all__ = ["command"]


@click.command("map")
@format_option("text", "json")
@click.option("--all", "all_", is_flag=True, help="Name every owner of a range.")
@read_options
def command(reading: Reading, output: str, all_: bool) -> None:
    """List the preserved memory of SOURCE by address, like /proc/iomem, with the known owners of each range.

    The totals of the owners follow, and what has no known owner.

    \b
      luoser map vmcore
      luoser map vmcore --format json
    """
    if all_ and output == "json":
        from luoser.errors import UsageError

        raise UsageError("--all is for text: JSON has everything")
    state = reading.load(search=False)
    if output == "json":
        from luoser.state import to_document

        document = to_document(state, full=True, streamed=True)
        kept = ("address", "compatible", "direction", "preserved", "scratch")
        handovers = [{name: handover[name] for name in kept} for handover in document["handovers"]]
        echo_json({"schema": "luoser/map/1", "source": document["source"], "handovers": handovers})
    else:
        from luoser.render.extents import print_extents

        print_extents(state, folded=not all_)
