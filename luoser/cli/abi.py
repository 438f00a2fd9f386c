# SPDX-License-Identifier: MIT
"""`luoser abi`: the layout registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from luoser.cli import complete
from luoser.cli.common import INCONCLUSIVE, NUMBER, echo_json, format_option, hex_options, limit_option
from luoser.cli.group import Group
from luoser.render.out import complain

if TYPE_CHECKING:
    from luoser.kernel.types import Types

__all__ = ["command"]

LIVE = "live:"
OWN_BTF = Path("/sys/kernel/btf/vmlinux")
"""The types of the running kernel, as it shows them itself."""


@click.group("abi", cls=Group)
def command() -> None:
    """Layouts by name: all wire layouts that luoser knows, and where each was seen.

    \b
      luoser abi list
      luoser abi show luo-v5
      luoser abi detect folio.bin
    """


@command.command("list")
@click.option(
    "--subject",
    shell_complete=complete.subjects,
    help="List only layouts of this subject: kho, luo, memfd, pci, …",
)
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
@click.argument("name", shell_complete=complete.layouts)
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


@command.command("export")
@click.option("--as", "form", type=click.Choice(["c", "kaitai"]), required=True, help="Language.")
@click.option("-o", "--output", "target", type=click.Path(), default="-", help="File to write; `-` is standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete.layouts)
def export(form: str, target: str, force: bool, names: tuple[str, ...]) -> None:
    """Write layouts for other tools: all, or those with these names.

    c: a C11 header, for user space and the kernel, that asserts every offset and size when it is compiled. kaitai: a
    description for Kaitai Struct (.ksy).

    \b
      luoser abi export --as c luo-v5 luo-session luo-file -o luo.h
      luoser abi export --as kaitai pci-version-2 -o pci.ksy
    """
    from luoser.abi.registry import layout, layouts, unknown_layout
    from luoser.output import new_output
    from luoser.writer.export import FORMATS

    entries = []
    for name in dict.fromkeys(names):
        entry = layout(name)
        if entry is None:
            raise unknown_layout(name)
        entries.append(entry)
    with new_output(target, force=force, is_text=True) as file:
        file.write(FORMATS[form](entries or layouts()).encode())


@command.command("verify")
@click.option("--btf", "file", type=click.Path(), metavar="FILE", help="BTF, or a vmlinux or module with BTF or DWARF.")
@click.option("--base", type=click.Path(), metavar="FILE", help="Types of the kernel proper, if FILE is of a module.")
@click.argument("source", nargs=-1, type=click.Path(readable=False))
@limit_option
@format_option("text", "json", "ktap")
def verify(file: str | None, base: str | None, source: tuple[str, ...], output: str) -> None:
    """Compare the layouts with a kernel's own types: those of SOURCE, a dump or live:, or of a file.

    Exit code 1 if a struct of the kernel has a form that no layout has, 4 if SOURCE has no types, or no struct of KHO
    or LUO.

    \b
      luoser abi verify vmcore
      luoser abi verify --btf /sys/kernel/btf/vmlinux
    """
    from luoser.errors import UsageError
    from luoser.kernel.types import TypesError
    from luoser.kernel.verify import verify as verified
    from luoser.render.verified import print_verified, verified_document, verified_ktap

    if (file is None) == (not source):
        raise UsageError("expected either --btf FILE or SOURCE")
    if base is not None and file is None:
        raise UsageError("--base is for a module that --btf names")
    types = _types(file, base) if file is not None else _types_of(source)
    try:
        found = verified(types)
    except TypesError as error:
        from luoser.errors import SourceError

        raise SourceError(str(error)) from None
    if output == "json":
        echo_json(verified_document(found, types.where))
    else:
        (print_verified if output == "text" else verified_ktap)(found, types.where)
    if any(one.result == "different" for one in found):
        raise SystemExit(1)
    if not any(one.result == "equal" and one.is_of_handover for one in found):
        complain(f"{types.where}: no struct of KHO or LUO is in these types; nothing of a handover was compared")
        raise SystemExit(INCONCLUSIVE)


def _types(file: str, base: str | None) -> Types:
    from luoser.kernel.files import read_types

    return read_types(file, base=base)


def _types_of(source: tuple[str, ...]) -> Types:
    from luoser.memory.open import open_memory
    from luoser.reader.own_types import types_of

    if source == (LIVE,) and OWN_BTF.exists():
        return _types(str(OWN_BTF), None)
    with open_memory(*source) as memory:
        found, reason = types_of(memory)
    if found is None:
        complain(reason)
        raise SystemExit(INCONCLUSIVE)
    return found


@command.command("detect")
@click.argument("file", type=click.Path())
@click.option("--offset", type=NUMBER, default=0, help="Number of bytes of FILE to skip.")
@limit_option
@hex_options
@format_option("text", "json")
def detect(file: str, offset: int, is_hex: bool, word: int | None, output: str) -> None:
    """List the layouts that fit the bytes of FILE, and why. Exit code 1 if none fits.

    \b
      luoser abi detect folio.bin
    """
    from luoser.errors import FormatError, UsageError
    from luoser.hextext import parse_hex
    from luoser.memory.file import read_file
    from luoser.reader.blob import candidates, hex_hint
    from luoser.text import safe_text

    data = read_file(file, limit="list_size")
    try:
        data = parse_hex(data, word=word) if is_hex else data
    except FormatError as error:
        raise FormatError(f"{safe_text(file)}: {error}") from None
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
            from luoser.cli.hints import dump_hint

            hint = "" if is_hex else hex_hint(data[offset:]) or dump_hint(file)
            complain(f"{safe_text(file)}: no known layout fits these bytes{hint}")
    if not found:
        raise SystemExit(1)
