# SPDX-License-Identifier: MIT
"""`luoser abi`: the layout registry."""

from __future__ import annotations

import click

from luoser.cli.common import NUMBER, echo_json, format_option, hex_options
from luoser.cli.group import Group

__all__ = ["command"]


@click.group("abi", cls=Group)
def command() -> None:
    """Layouts by name: all wire layouts that luoser knows, and where each was seen.

    \b
      luoser abi list
      luoser abi show luo-v5
      luoser abi detect folio.bin
    """


@command.command("list")
@click.option("--subject", help="List only layouts of this subject: kho, luo, memfd, pci, …")
@format_option("text", "json")
def list_(subject: str | None, output: str) -> None:
    """List the layouts.

    \b
      luoser abi list --subject pci
    """
    from luoser.abi.registry import layouts
    from luoser.errors import UsageError

    entries = [entry for entry in layouts() if subject in (None, entry.subject)]
    if not entries:
        known = ", ".join(dict.fromkeys(entry.subject for entry in layouts()))
        raise UsageError(f"unknown subject {subject!r}: expected one of {known}")
    if output == "json":
        from luoser.render.layouts import layout_document

        echo_json({"schema": "luoser/abi/1", "layouts": [layout_document(entry) for entry in entries]})
    else:
        from luoser.render.layouts import print_layouts

        print_layouts(entries)


@command.command("show")
@click.argument("name")
@format_option("text", "json")
def show(name: str, output: str) -> None:
    """Show the structs of a layout with offset and size of each field, like pahole.

    \b
      luoser abi show luo-v5
    """
    from luoser.abi.registry import layout, unknown_layout
    from luoser.render.layouts import layout_document, print_layout

    entry = layout(name)
    if entry is None:
        raise unknown_layout(name)
    if output == "json":
        echo_json({"schema": "luoser/abi/1", "layouts": [layout_document(entry)]})
    else:
        print_layout(entry)


@command.command("detect")
@click.argument("file", type=click.Path())
@click.option("--offset", type=NUMBER, default=0, help="Number of bytes of FILE to skip.")
@hex_options
@format_option("text", "json")
def detect(file: str, offset: int, is_hex: bool, word: int | None, output: str) -> None:
    """List the layouts that fit the bytes of FILE, and why. Exit code 1 if none fits.

    \b
      luoser abi detect folio.bin
    """
    from luoser.errors import UsageError
    from luoser.hextext import parse_hex
    from luoser.limits import LIMITS
    from luoser.memory.open import read_file
    from luoser.reader.blob import candidates
    from luoser.text import safe_text

    data = read_file(file, limit=LIMITS.list_size)
    data = parse_hex(data, word=word) if is_hex else data
    if offset >= len(data):
        raise UsageError(f"{safe_text(file)}: offset {offset:#x}: expected less than its size, {len(data):#x} bytes")
    found = candidates(data[offset:])
    if output == "json":
        rows = [{"layout": name, "why": why} for name, why in found]
        echo_json({"schema": "luoser/detect/1", "candidates": rows})
    else:
        from luoser.render.out import line

        for name, why in found:
            line((name, "name"), f": {why}")
        if not found:
            click.echo(f"luoser: {safe_text(file)}: no known layout fits these bytes", err=True)
    if not found:
        raise SystemExit(1)
