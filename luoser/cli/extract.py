# SPDX-License-Identifier: MIT
"""`luoser extract`: writes the pages of the handovers as a small core, or one memfd, or one node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import click

from luoser.cli import complete
from luoser.cli.common import Reading, echo_json, format_option
from luoser.cli.many import many_sources

__all__ = ["command"]


_NAME = "{name}"


def _key(path: str) -> str:
    """The key in a file, without the end of its line. Raises SourceError for what cannot be read, or is large."""
    from luoser.memory.file import read_file

    return read_file(path, limit="blob_size").decode("utf-8", "surrogateescape").rstrip("\r\n")


def _targets(options: dict[str, Any], sources: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    """The options for each of several sources: each is written to a file of its own name.

    Raises UsageError for an output that has no place for the name, for two that would have one name, and for one that
    is a source of another, which would be replaced before it is read.
    """
    from luoser.errors import UsageError
    from luoser.output import PACKED, need_local
    from luoser.text import is_url, safe_text, source_name, without_secrets

    target, known = options["target"], dict[str, str]()
    need_local(target)
    if _NAME not in target:
        raise UsageError(f"--output {safe_text(target)}: several sources, one file; give a name such as {_NAME}.elf.xz")
    files = {identity for source in sources for identity in map(_identity, source) if identity is not None}
    for source in sources:
        path = PurePath(without_secrets(source[0]).partition("?")[0] if is_url(source[0]) else source[0])
        name = path.stem if path.suffix in PACKED else path.name
        if (other := known.setdefault(name, source[0])) != source[0]:
            both = f"{source_name(other)} and {source_name(source[0])}"
            raise UsageError(f"{both} would be one file: both are named {safe_text(name)}; extract one of them alone")
        made = target.replace(_NAME, name)
        if _identity(made) in files:
            raise UsageError(f"{safe_text(made)}: output and input are the same file; give another output")
        yield {**options, "target": made}


def _identity(name: str) -> tuple[int, int] | None:
    """What a file has in common with no other one, under any name. None: there is no such file."""
    try:
        found = Path(name).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


@click.command("extract")
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(),
    help=f"File to write. Of several sources: {_NAME} in it stands for the name of each, without .xz and the like.",
)
@click.option(
    "--memfd",
    metavar="SESSION/TOKEN",
    shell_complete=complete.memfds,
    help="Write the contents of this preserved memfd instead of a core; or @ADDRESS of a descriptor, as `luoser "
    "inspect --salvage` finds it.",
)
@click.option(
    "--blob",
    metavar="WHERE",
    shell_complete=complete.nodes,
    help="Write the bytes of one node instead of a core: an address, or a path such as luo.sessions[0].files[2].",
)
@click.option(
    "--no-contents",
    is_flag=True,
    help="Leave out all bytes that are not a structure of the handover or of the kernel: the cut can be handed on.",
)
@click.option(
    "--hash-names",
    metavar="FILE",
    type=click.Path(),
    help="Replace names of sessions, unknown sub-trees and reserve_mem regions by hashes with the key in FILE; implies "
    "--no-contents.",
)
@format_option("line", "jsonl")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@many_sources(_targets)
def command(
    reading: Reading,
    target: str,
    output: str,
    memfd: str | None,
    blob: str | None,
    no_contents: bool,
    hash_names: str | None,
    force: bool,
) -> None:
    """Write a small ELF core with only the pages of the handovers in SOURCE, to attach to a bug report.

    `inspect` shows the same for it as for SOURCE. A core whose name ends with .xz, .gz, .bz2 or .zst is compressed.

    It has whole pages, with whatever else is in them: of the structures, of drivers, and of files and folios of the
    KHO self-test up to 64 KiB each. It has no other memory of guests or of the kernel.

    With --no-contents it has, to the byte, nothing but structures and zeros: those of the handovers (roots, maps,
    sessions, descriptors, device lists), what leads to them (setup_data, /chosen, scratch areas, VMCOREINFO), and the
    variables, symbols, types, objects and page tables of the kernel that were read. Numbers that users chose are among
    that (tokens, sizes), and names. With --hash-names the names of sessions, of reserve_mem regions, and of sub-trees
    that luoser does not know are hashes.

    What is left out is excluded: commands say that they did not look at it. Cuts can be compared if their names have
    the same key. Take a long random one, of at least 16 characters: whoever can guess it can guess the names.

    \b
      luoser extract vmcore -o small.elf.xz
      luoser extract vmcore -o public.elf.xz --hash-names key
      luoser extract vmcore -o disk.img --memfd vm-web-01/0x1a
      luoser extract vmcore -o disk.img --memfd @0x1ad2000
      luoser extract dumps/*.elf -o 'cuts/{name}.xz'
    """
    from luoser.cli.document import need_pages
    from luoser.extracts.memfd import memfd_address
    from luoser.extracts.parts import write_part
    from luoser.output import need_other
    from luoser.reader import memfd_at
    from luoser.render.out import line
    from luoser.text import safe_text

    need_other(target, [*reading.source, *([reading.symbols] if reading.symbols is not None else [])])
    with reading.open() as memory:
        need_pages(memory)
        by_address = memfd is not None and memfd_address(memfd) is not None
        said = write_part(
            target,
            memory,
            lambda one, contents=not by_address: reading.read(one, contents=contents, need_root=not by_address),
            memfd=memfd,
            blob=blob,
            memfd_at=memfd_at,
            force=force,
            no_contents=no_contents,
            hash_names=_key(hash_names) if hash_names is not None else None,
        )
    if output == "jsonl":
        echo_json({"schema": "luoser/extract/1", "path": target, "holds": said})
        return
    line((safe_text(target), "name"), f": {said}")
