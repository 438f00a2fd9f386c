# SPDX-License-Identifier: MIT
"""`luoser pci`: the preserved PCI devices."""

from __future__ import annotations

import click

from luoser.cli.common import echo_json, format_option, load, read_options

__all__ = ["command"]


@click.command("pci")
@read_options
@format_option("text", "json")
def command(
    source: tuple[str, ...], root: int | None, page_size: int | None, layouts: tuple[str, ...], output: str
) -> None:
    """Show the preserved PCI devices of SOURCE, list by list, in the order of the list."""
    state = load(source, root=root, page_size=page_size, layouts=layouts)
    if output == "json":
        from luoser.state import to_document

        document = to_document(state)
        kept = ("address", "compatible", "direction", "pci")
        handovers = [{name: handover[name] for name in kept} for handover in document["handovers"]]
        echo_json({"schema": "luoser/pci/1", "source": document["source"], "handovers": handovers})
    else:
        from luoser.render.tables import print_devices

        print_devices(state)
