# SPDX-License-Identifier: MIT
"""`luoser pci`: the preserved PCI devices."""

from __future__ import annotations

import click

from luoser.cli.common import Reading, echo_json, format_option
from luoser.cli.many import many_sources

__all__ = ["command"]


@click.command("pci")
@format_option("text", "line", "json", "jsonl")
@many_sources()
def command(reading: Reading, output: str) -> None:
    """Show the preserved PCI devices of SOURCE as tables, in the order of the lists. Of several
    sources each is a line: --format text shows the tables of each.

    \b
      luoser pci vmcore
      luoser pci vmcore --layout pci-lu-v2-03
    """
    state = reading.load(search=False)
    if output in ("json", "jsonl"):
        from luoser.state import to_document

        document = to_document(state, streamed=True)
        kept = ("address", "compatible", "direction", "pci")
        handovers = [{name: handover[name] for name in kept} for handover in document["handovers"]]
        echo_json({"schema": "luoser/pci/1", "source": document["source"], "handovers": handovers})
    else:
        from luoser.render.tables import print_devices, print_devices_line

        (print_devices_line if output == "line" else print_devices)(state)
