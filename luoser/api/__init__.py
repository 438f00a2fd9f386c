# SPDX-License-Identifier: MIT
"""What the commands do, as functions: `luoser.load`, `check`, `diff`, `compat`, `build`, `extract`, `decode`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from luoser.api.sources import Path

if TYPE_CHECKING:
    from luoser.api.built import Built
    from luoser.changes import Comparison
    from luoser.clashes import Compatibility
    from luoser.limits import Limits
    from luoser.memory.raw import Range
    from luoser.memory.source import Memory
    from luoser.state import Blob, Direction, State
    from luoser.symbols import Symbols

__all__ = ["build", "compat", "decode", "diff", "extract", "load"]


def load(
    path: Path,
    *more: Path,
    root: int | None = None,
    page_size: int | None = None,
    layouts: Sequence[str] = (),
    contents: bool = False,
    symbols: Symbols | Path | None = None,
    kallsyms: bool = True,
    pending: bool = False,
    directions: Mapping[int, Direction] | None = None,
    ranges: Sequence[Range] = (),
    pause: bool = False,
    raw: bool = False,
    limits: Limits | None = None,
) -> State:
    """The state of a source, or in a document of `inspect --full --format json`. As `open`, then `read`.

    path, more, ranges, pause, raw: as of `luoser.open`.
    symbols: those of the running kernel, or the path of a System.map, a copy of kallsyms, or a vmlinux.
    others:  as of `luoser.read`. A document was read already, so that they are without effect.

    Raises SourceError, and UsageError, as these two do. A source without a KHO root gives a state without handovers.
    """
    from luoser.limits import limited
    from luoser.memory.open import open_memory
    from luoser.reader import SYMBOLS, read
    from luoser.state.document import read_document
    from luoser.symbols import read_symbols

    with limited(limits):
        document = read_document(os.fspath(path)) if not more and not raw else None
        if document is not None:
            return document
        known = read_symbols(symbols, SYMBOLS) if isinstance(symbols, str | os.PathLike) else symbols
        with open_memory(path, *more, ranges=ranges, pause=pause, raw=raw) as memory:
            return read(
                memory,
                root=root,
                page_size=page_size,
                layouts=layouts,
                contents=contents,
                symbols=known,
                kallsyms=kallsyms,
                pending=pending,
                directions=directions,
            )


def decode(data: bytes, layout: str | None = None) -> Blob:
    """One blob or preserved folio, without other memory.

    data:   its bytes.
    layout: name of its layout. None: determined by the bytes.

    Raises UsageError for an unknown layout, FormatError for bytes that do not fit.
    """
    from luoser.reader.blob import decode as decoded

    return decoded(data, layout)


def diff(
    before: State,
    after: State,
    *,
    roots: tuple[int, int] | None = None,
    memories: tuple[Memory | None, Memory | None] = (None, None),
    contents: bool = False,
    ignore: Collection[str] = (),
) -> Comparison:
    """The comparison of two states.

    before, after: the states.
    roots:    addresses of the two handovers to compare. None: pair all handovers.
    memories: the sources of the states, for `contents`. None: not available.
    contents: compare the bytes of driver pages and memfd folios, too.
    ignore:   paths that may differ, such as `pci/*/driver_data`.

    Raises UsageError if there is no handover at an address in `roots`.
    """
    from luoser.changes import compare, without

    found = compare(before, after, roots=roots, memories=memories, contents=contents)
    return replace(found, changes=without(found.changes, tuple(ignore)))


def compat(writer: Path, reader: Path) -> Compatibility:
    """Whether one kernel can hand over to another.

    writer: the running kernel: a release such as `7.3`, or the path of a vmlinux, a dump, or `live:`.
    reader: the next one, given alike.

    Raises UsageError for an unknown release, SourceError for a file that does not say which kernel it is of.
    """
    from luoser.api.kernels import profile_of
    from luoser.api.sources import opened
    from luoser.clashes import compare

    return compare(*(profile_of(os.fspath(name), opened) for name in (writer, reader)))


def build(
    spec: Mapping[str, Any] | Path,
    *,
    kernel: str = "7.3",
    layout: str | None = None,
    blob: str | None = None,
    mutate: str | None = None,
    machine: str | None = None,
    base: int | None = None,
) -> Built:
    """The bytes that a description stands for: one blob, or the memory of a handover.

    spec:    a document of `inspect --full --contents` or `decode`, a short description, or the path of either.
    kernel:  release to assume where the description has no layouts.
    layout:  name of the layout of a list or blob where the description has none.
    blob:    path of the only node to make, such as `pci[0]`. None: all.
    mutate:  id or slug of a rule of `check` to break.
    machine: `x86-64` or `arm64`: what boots with the image. None: as the page size says.
    base:    first physical address of what has none. None: the default of the machine.

    Raises UsageError with the path of a value that is wrong, or for a rule that cannot be broken there.
    """
    from luoser.api.built import built

    return built(spec, kernel=kernel, layout=layout, blob=blob, mutate=mutate, machine=machine, base=base)


def extract(
    memory: Memory,
    target: Path,
    *,
    memfd: str | None = None,
    blob: str | None = None,
    root: int | None = None,
    page_size: int | None = None,
    layouts: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Write a small core with the pages of the handovers, one memfd, or one node. Returns what was written, in words.

    memory: the source.
    target: path of a new file; the core is compressed if it ends with .xz, .gz, .bz2 or .zst.
    memfd:  SESSION/TOKEN of the memfd to write. None: none.
    blob:   path or address of the node to write. None: none.
    root, page_size, layouts: as of `luoser.read`.
    force:  replace an existing file.

    Raises UsageError for a file that exists, and if there is no such memfd or node.
    """
    from luoser.errors import UsageError
    from luoser.extracts.blob import write_blob
    from luoser.extracts.core import write_core
    from luoser.extracts.memfd import write_memfd
    from luoser.memory.recorder import Recorder
    from luoser.output import need_other, new_file, packed_file
    from luoser.reader import read
    from luoser.text import human_size

    if memfd is not None and blob is not None:
        raise UsageError("memfd and blob exclude each other; give only one of them")
    name = os.fspath(target)
    need_other(name, [memory.path])
    record = Recorder(memory)
    state = read(record, root=root, page_size=page_size, layouts=layouts, contents=True)
    with (new_file if memfd or blob else packed_file)(name, force=force) as file:
        if memfd is not None:
            return write_memfd(file, memory, state, memfd)
        if blob is not None:
            return write_blob(file, memory, state, blob)
        size = write_core(file, memory, record.asked, answers=record.answers)
        return f"{len(record.pages)} pages, {human_size(size)}"
