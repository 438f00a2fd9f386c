# SPDX-License-Identifier: MIT
"""`luoser report`: a source, or two and their changes, as one HTML page."""

from __future__ import annotations

import zlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luoser.cli.common import Reading, machine_text, next_option, read_options, topology_option

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.render.report import Dump, Dumps, Reported, Saved
    from luoser.state import State
    from luoser.state.where import Node
    from luoser.topology import Topology

__all__ = ["command"]


@click.command("report")
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write; - is standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@topology_option
@next_option
@read_options
def command(reading: Reading, target: str, force: bool, topology_of: str | None, next_release: str | None) -> None:
    """Write an HTML page about SOURCE to attach to a ticket: verdict, memory map, devices, sessions, findings, bytes.

    Two sources are BEFORE and AFTER, and the page has their changes, too. Only files that are one dump, such as those
    of a split kdump, are one source. The page is a single file that loads nothing. It has metadata, driver pages and
    the contents of files up to 64 KiB, like the core of `luoser extract`.

    \b
      luoser report vmcore -o report.html
      luoser report before.elf after.elf --topology host.json -o report.html
    """
    from luoser.abi.release import release_numbers
    from luoser.changes import compare
    from luoser.errors import UsageError
    from luoser.output import need_other, new_output
    from luoser.render.report import need_jinja, page
    from luoser.text import safe_text
    from luoser.topology import read_topology

    need_jinja()
    if next_release is not None and release_numbers(next_release) is None:
        raise UsageError(f"--next: expected a release such as 7.3.4, found {safe_text(next_release)!r}")
    others = [name for name in (topology_of, reading.symbols) if name is not None]
    need_other(target, [*reading.source, *others])
    topology = read_topology(topology_of) if topology_of is not None else None
    with ExitStack() as stack:
        memories = _open(reading, stack)
        sources = [_reported(one, memory, topology, next_release, share=len(memories)) for one, memory in memories]
    comparison = compare(sources[0].state, sources[1].state) if len(sources) == 2 else None
    data = page(sources, comparison).encode()
    with new_output(target, force=force, is_text=True) as file:
        file.write(data)
    if target != "-":
        from luoser.render.out import line
        from luoser.text import rounded_size

        line((safe_text(target), "name"), f": {rounded_size(len(data))}")


def _open(reading: Reading, stack: ExitStack) -> list[tuple[Reading, Memory]]:
    """Each source with its memory: one, or two if the files do not belong to one dump."""
    from luoser.errors import SourceError, UsageError
    from luoser.memory.live import NAME

    count = len(reading.source)
    apart = ("-", NAME)  # never a part of a dump, and standard input cannot be read twice
    if count == 1 or (not set(apart) & set(reading.source) and not Path(reading.source[0]).is_dir()):
        try:
            return [(reading, stack.enter_context(reading.open()))]
        except (SourceError, UsageError) as error:
            if count == 1:
                raise
            if count > 2:
                raise UsageError(f"{error}; or one source, or two: BEFORE and AFTER; found {count} files") from None
    singles = [replace(reading, source=(name,)) for name in reading.source]
    return [(one, stack.enter_context(one.open())) for one in singles]


def _reported(
    reading: Reading, memory: Memory, topology: Topology | None, next_release: str | None, *, share: int
) -> Reported:
    """A source as a page shows it. share: number of sources that share the page."""
    from luoser.checks import check
    from luoser.render.report import Reported

    state = reading.read(memory, contents=True)
    return Reported(
        state=state,
        report=check(state, topology=topology, next_release=next_release, ram=memory.known_ram),
        kernel=memory.vmcoreinfo.get("OSRELEASE", state.source.kernel),
        machine=machine_text(memory),
        ram=memory.known_ram,
        topology=topology,
        dumps=_dumps(memory, state, share),
        saved=_saved(state, share),
    )


def _dumps(memory: Memory, state: State, share: int) -> Dumps:
    from luoser.cli.document import DocumentMemory
    from luoser.limits import LIMITS
    from luoser.render.report import Dumps, nodes

    if isinstance(memory, DocumentMemory):
        return Dumps(note="The source is a state document, which has no bytes of memory.")
    shown: list[Dump] = []
    left = LIMITS.report_hex // share
    for where, node in nodes(state):
        if left <= 0 or len(shown) >= LIMITS.report_rows:
            note = "The bytes of further nodes are not in this page: luoser hexdump SOURCE WHERE shows them, or "
            return Dumps(shown=tuple(shown), note=f"{note}--limit report_hex=N takes more into the page.")
        dump = _dump(memory, state, where, node)
        left -= sum(map(len, dump.rows)) + 100
        shown.append(dump)
    return Dumps(shown=tuple(shown))


def _dump(memory: Memory, state: State, where: str, node: Node) -> Dump:
    from luoser.cli.hexdump import layout_of, read_bytes
    from luoser.errors import FormatError, MissingMemory
    from luoser.limits import LIMITS
    from luoser.render.hexdump import rows
    from luoser.render.report import Dump
    from luoser.state.where import extent

    start, size, _ = extent(state, node)
    size = start + size - node.address
    shown = min(size, LIMITS.report_node)
    try:
        data, gap = read_bytes(memory, node.address, min(size, LIMITS.contents_size))
    except MissingMemory as error:
        return Dump(where=where, address=node.address, layout="", rows=(), note=f"Not in the source: {error}.")
    layout, why = layout_of(data, None, node.layout)
    try:
        lines = tuple(rows(data, node.address, layout, length=shown))
    except FormatError as error:
        why = f"not {layout.name if layout is not None else 'known'}: {error}"
        layout, lines = None, tuple(rows(data, node.address, None, length=shown))
    name = layout.name if layout is not None else "no layout"
    note = f"The first {shown} of {size} bytes; luoser hexdump SOURCE '{where}' shows all." if shown < size else ""
    return Dump(where=where, address=node.address, layout=f"{name} ({why})", rows=lines, note=f"{gap} {note}".strip())


def _saved(state: State, share: int) -> Saved:
    """The fullest document of a state that a page has room for."""
    from luoser.limits import LIMITS
    from luoser.render.report import Saved
    from luoser.state import to_document

    ways = (
        (True, "The state document, as luoser inspect --full --contents --format json prints it: luoser reads it."),
        (False, "The state document without ranges, folios and contents: the whole of it is too large for this page."),
    )
    for full, what in ways:
        data = _packed(to_document(state, full=full), LIMITS.report_state // share)
        if data is not None:
            return Saved(data=data, what=what)
    return Saved(
        data=None,
        what="The state document is too large for this page: luoser inspect --full --contents --format json prints "
        "it, or --limit report_state=N takes more into the page.",
    )


class _TooMuchError(Exception):
    """The packed document is larger than it may be."""


def _packed(document: object, most: int) -> bytes | None:
    """A JSON document, packed with gzip, the same for the same document. None: it takes more than `most` bytes."""
    from luoser.render.jsontext import put_json

    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    made = bytearray()

    def put(piece: str) -> None:
        made.extend(packer.compress(piece.encode()))
        if len(made) > most:
            raise _TooMuchError

    try:
        put_json(document, put)
    except _TooMuchError:
        return None
    made += packer.flush()
    return bytes(made) if len(made) <= most else None
