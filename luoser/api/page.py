# SPDX-License-Identifier: MIT
"""What a report shows of a source: verdict, bytes of its nodes, and the state document."""

from __future__ import annotations

import zlib

from luoser.api.nodes import layout_of, read_bytes
from luoser.checks import check
from luoser.errors import FormatError, MissingMemory
from luoser.limits import LIMITS
from luoser.memory.source import Memory
from luoser.render.hexdump import rows
from luoser.render.jsontext import put_json
from luoser.render.report import Dump, Dumps, Reported, Saved, nodes
from luoser.render.values import machine_text
from luoser.state import State, to_document
from luoser.state.where import Node, extent
from luoser.topology import Topology

__all__ = ["reported"]


def reported(
    state: State, memory: Memory | None, *, topology: Topology | None, next_release: str | None, share: int
) -> Reported:
    """A source as a page shows it.

    state:        of the source, with contents.
    memory:       of the source. None: a document has none.
    topology:     PCI devices of the machine. None: unknown.
    next_release: release of the next kernel. None: unknown.
    share:        number of sources that share the page.
    """
    ram = memory.known_ram if memory is not None else ()
    return Reported(
        state=state,
        report=check(state, topology=topology, next_release=next_release, ram=ram),
        machine=machine_text(memory) if memory is not None else "",
        ram=ram,
        topology=topology,
        dumps=_dumps(memory, state, share),
        saved=_saved(state, share),
    )


def _dumps(memory: Memory | None, state: State, share: int) -> Dumps:
    if memory is None:
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
