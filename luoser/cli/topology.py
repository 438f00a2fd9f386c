# SPDX-License-Identifier: MIT
"""`luoser topology`: the PCI topology of a machine."""

from __future__ import annotations

import click

from luoser.cli.common import echo_json, format_option, limit_option
from luoser.render.out import complain

__all__ = ["command"]


@click.command("topology")
@click.argument("source", required=False, type=click.Path())
@click.option("-o", "--output", "target", type=click.Path(), help="File to write: the snapshot in JSON.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@limit_option
@format_option("text", "json")
def command(source: str | None, target: str | None, force: bool, output: str) -> None:
    """Show the PCI devices of a machine and the bridges above them, or write a snapshot with -o.

    SOURCE is a copy of sysfs, the output of `lspci -vmmnnD -k` or `lspci -D -xxxx`, or JSON; `-` is standard input.
    Without SOURCE it is the sysfs of this machine. Facts that are not in SOURCE are listed as not known.

    \b
      luoser topology -o host.json
      luoser topology lspci.txt
    """
    from luoser.errors import UsageError
    from luoser.output import need_other, new_file
    from luoser.text import safe_text
    from luoser.topology import SYSFS, read_topology, to_document

    if force and target is None:
        raise UsageError("--force replaces the file of -o: give one")
    if target is not None and source is not None:
        need_other(target, [source])
    topology = read_topology(SYSFS if source is None else source)
    if target is not None:
        from luoser.render.jsontext import put_json
        from luoser.render.out import line
        from luoser.render.topology import summary

        with new_file(target, force=force) as file:
            put_json(to_document(topology), lambda piece: file.write(piece.encode()))
        line((safe_text(target), "name"), f": {summary(topology)}")
    elif output == "json":
        echo_json(to_document(topology))
    else:
        from luoser.render.topology import print_topology

        print_topology(topology)
    for remark in topology.remarks:
        complain(safe_text(remark, again=True))
