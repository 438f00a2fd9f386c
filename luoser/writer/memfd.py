# SPDX-License-Identifier: MIT
"""A preserved memfd as a file again: folios at their indices, holes as holes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from luoser.errors import MissingMemory, UsageError
from luoser.limits import LIMITS
from luoser.memory.source import Memory
from luoser.state import File, Handover, MapStatus, Memfd, PreservedMap, State
from luoser.text import parse_number, safe_text

__all__ = ["write_memfd"]


def write_memfd(file: BinaryIO, memory: Memory, state: State, name: str) -> str:
    """Write the memfd SESSION/TOKEN; gives a line on what was written, with the SHA-256 of the file.

    Where the preserved map is intact a folio is as large as its order says, else one page. Raises UsageError
    when there is no such memfd, when several handovers have one, or when a page of it cannot be read: a file
    with made-up bytes is worse than none.
    """
    handover, memfd = _find(state, name)
    page, found = state.source.page_size, handover.preserved.map
    if len(memfd.folios.list) != memfd.folios.count:
        have, count = len(memfd.folios.list), memfd.folios.count
        raise UsageError(f"memfd {safe_text(name)}: only {have} of its {count} folios are listed in the source")
    if memfd.size > LIMITS.decompressed:
        raise UsageError(f"memfd {safe_text(name)}: its descriptor says {memfd.size:#x} bytes, which is not believed")
    file.truncate(memfd.size)
    written = 0
    for offset, address, size in _pieces(memfd, page, found):
        try:
            data = memory.read(address, size)
        except MissingMemory as error:
            raise UsageError(
                f"memfd {safe_text(name)}: the folio for offset {offset:#x} cannot be read: {error}"
            ) from None
        file.seek(offset)
        file.write(data)
        written += size
    file.flush()
    digest = _digest(file)
    order = (
        ""
        if handover.preserved.status is MapStatus.INTACT
        else "; the map is not readable, each folio was taken for one page"
    )
    return f"{memfd.size} bytes, {written} of them from folios, sha256 {digest}{order}"


def _pieces(memfd: Memfd, page: int, found: PreservedMap | None) -> Iterator[tuple[int, int, int]]:
    """(offset in the file, physical address, bytes) of each folio, cut at the end of the file."""
    for folio in memfd.folios.list:
        offset = folio.index * page
        if not folio.address or offset >= memfd.size:
            continue
        block = found.find(folio.address) if found is not None else None
        size = page << block.order if block is not None and block.address == folio.address else page
        yield offset, folio.address, min(size, memfd.size - offset)


def _digest(file: BinaryIO) -> str:
    with open(file.fileno(), "rb", closefd=False) as again:
        again.seek(0)
        return hashlib.file_digest(again, "sha256").hexdigest()


def _find(state: State, name: str) -> tuple[Handover, Memfd]:
    session_name, _, token_text = name.rpartition("/")
    try:
        token = parse_number(token_text)
    except ValueError:
        raise UsageError(f"{safe_text(name)!r}: expected SESSION/TOKEN such as vm-web-01/0x1b") from None
    found = [
        (handover, file)
        for handover in state.handovers
        for file in _files(handover, session_name)
        if file.token == token
    ]
    if not found:
        raise UsageError(f"no file {token:#x} in a session {safe_text(session_name)!r}; `luoser inspect` lists them")
    if len(found) > 1:
        roots = ", ".join(f"{handover.address or 0:#x}" for handover, _ in found)
        raise UsageError(f"{safe_text(name)} is in several handovers ({roots}): name one with --root")
    handover, file = found[0]
    if file.memfd is None:
        raise UsageError(f"{safe_text(name)} is no readable memfd but {safe_text(file.compatible)}")
    return handover, file.memfd


def _files(handover: Handover, name: str) -> Iterator[File]:
    for session in handover.luo.sessions if handover.luo is not None else ():
        if session.name == name or safe_text(session.name) == name:
            yield from session.files
