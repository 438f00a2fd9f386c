# SPDX-License-Identifier: MIT
"""`luoser decode`: one blob or folio, without other memory."""

from __future__ import annotations

import click

from luoser.cli import complete
from luoser.cli.common import NUMBER, echo_json, format_option, hex_options, limit_option

__all__ = ["command"]


@click.command("decode")
@click.argument("file", type=click.Path())
@click.option(
    "--as",
    "layout",
    default="auto",
    show_default=True,
    metavar="LAYOUT",
    shell_complete=complete.layouts,
    help="Layout of the blob; see `luoser abi list`.",
)
@click.option("--offset", type=NUMBER, default=0, help="Number of bytes of FILE to skip.")
@limit_option
@hex_options
@format_option("text", "json")
def command(file: str, layout: str, offset: int, is_hex: bool, word: int | None, output: str) -> None:
    """Decode a preserved folio, sub-tree blob or block page that was dumped to FILE (`-` is standard input).

    With `--as auto` the layout is determined by the bytes. If several layouts fit, all of them are listed.

    \b
      luoser decode folio.bin
      luoser decode --hex pasted.txt --as pci-lu-v2-03
      luoser decode --hex kdb.txt --word 8
    """
    from luoser.errors import FormatError, SourceError, UsageError
    from luoser.memory.file import read_file
    from luoser.reader.blob import decode
    from luoser.text import safe_text

    try:
        data = read_file(file, limit="list_size")
    except SourceError as error:
        raise SourceError(f"{error}{_hint(file)}") from error
    try:
        if is_hex:
            from luoser.hextext import parse_hex

            data = parse_hex(data, word=word)
        if offset >= len(data):
            raise UsageError(f"offset {offset:#x}: expected less than its size, {len(data):#x} bytes")
        blob = decode(data[offset:], None if layout == "auto" else layout)
    except (FormatError, UsageError) as error:
        hint = "" if is_hex else _hint(file)
        raise type(error)(f"{safe_text(file)}: {error}{hint}") from error
    if output == "json":
        from luoser.state import blob_document

        echo_json(blob_document(blob, path=file, streamed=True))
    else:
        from luoser.render.blob import print_blob

        print_blob(blob)


def _hint(file: str) -> str:
    from luoser.cli.hints import dump_hint  # late: it needs all formats of dumps

    return dump_hint(file)
