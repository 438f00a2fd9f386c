# SPDX-License-Identifier: MIT
"""What the commands do, as functions: `luoser.load`, `check`, `diff`, `report`, `compat`, `build` and others."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from luoser.api.sources import Path
from luoser.arguments import need_path
from luoser.errors import UsageError

if TYPE_CHECKING:
    from luoser.api.built import Built
    from luoser.changes import Comparison
    from luoser.checks import Report, Severity
    from luoser.clashes import Compatibility
    from luoser.limits import Limits
    from luoser.memory.raw import Range
    from luoser.memory.source import Memory
    from luoser.state import Blob, Direction, State
    from luoser.symbols import Symbols
    from luoser.topology import Topology

__all__ = ["build", "check", "compat", "decode", "diff", "extract", "load", "report"]


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
    salvage: bool = False,
    ranges: Sequence[Range] = (),
    pause: bool = False,
    raw: bool = False,
    scan: bool = False,
    limits: Limits | None = None,
) -> State:
    """The state of a source, or in a document of `inspect --full --format json`. As `open`, then `read`.

    path, more, ranges, pause, raw, scan: as of `luoser.open`.
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
        document = read_document(need_path(path)) if not more and not raw else None
        if document is not None:
            return document
        known = read_symbols(symbols, SYMBOLS) if isinstance(symbols, str | os.PathLike) else symbols
        with open_memory(path, *more, ranges=ranges, pause=pause, raw=raw, scan=scan) as memory:
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
                salvage=salvage,
            )


def check(
    source: State | Memory | Path,
    *,
    topology: Topology | Path | None = None,
    next_release: str | None = None,
    ram: tuple[tuple[int, int], ...] = (),
    drivers: Collection[str] = (),
    handlers: Collection[str] = (),
    flbs: Collection[str] = (),
    pending: bool = False,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    severity: Severity | Literal["error", "warning", "info"] = "error",
    limits: Limits | None = None,
) -> Report:
    """The report on all handovers of a source.

    source:       a state, a source that is open, or a path.
    topology:     PCI devices of the machine, or the path of what `luoser.topology.read_topology` reads. None: unknown.
    next_release: release of the next kernel. None: unknown.
    ram:          [start, end) ranges of physical memory. Empty: those of the source, if it has memory and knows them.
    drivers:      names of further drivers that are able to live update.
    handlers:     names of further file handlers of the next kernel.
    flbs:         names of further FLBs and sub-trees that the next kernel claims.
    pending:      what the running kernel will hand over has to be judged: if it is not known, that is inconclusive.
    select:       ids, slugs or families of the rules to apply. Empty: all.
    ignore:       ids, slugs or families of the rules to skip. What the source lacks, and a direction that is open, make
                  the verdict inconclusive all the same.
    severity:     findings of this severity and above make the verdict `findings`.
    limits:       bounds on the work. None: the defaults.

    Raises UsageError if no rule is left to apply, for an unknown rule, family or severity, for an empty name, for a
    next release that is none, for drivers without a topology, and as `luoser.open` and `luoser.read` do.
    """
    from luoser.api.sources import opened
    from luoser.checks import check as checked
    from luoser.limits import limited

    with limited(limits), opened(source, contents=True, pending=pending) as (state, memory):
        return checked(
            state,
            topology=_topology(topology),
            next_release=next_release,
            ram=ram or (memory.known_ram if memory is not None else ()),
            drivers=drivers,
            handlers=handlers,
            flbs=flbs,
            pending=pending,
            select=select,
            ignore=ignore,
            severity=severity,
        )


def _topology(given: Topology | Path | None) -> Topology | None:
    from luoser.topology import Topology, read_topology

    if given is None or isinstance(given, Topology):
        return given
    if isinstance(given, str | os.PathLike):
        return read_topology(os.fspath(given))
    raise UsageError(f"--topology: expected a path or a topology, found {type(given).__name__}")


def report(
    source: State | Memory | Path,
    after: State | Memory | Path | None = None,
    *,
    topology: Topology | Path | None = None,
    next_release: str | None = None,
    limits: Limits | None = None,
) -> str:
    """An HTML page about a source, or about two and their changes. Needs jinja2.

    source, after: states, sources that are open, or paths. A state alone has no bytes to show. after: None: only one.
    topology:      as of `luoser.check`.
    next_release:  as of `luoser.check`.
    limits:        bounds on the work, and on the page. None: the defaults.

    Raises UsageError if jinja2 is not installed, and as `luoser.open` and `luoser.read` do.
    """
    from luoser.api.sources import opened
    from luoser.changes import compare
    from luoser.limits import limited
    from luoser.render.report import need_jinja, page

    need_jinja()
    from luoser.api.page import reported

    machine, given = _topology(topology), [source] if after is None else [source, after]
    with limited(limits), ExitStack() as stack:
        pairs = [stack.enter_context(opened(one, contents=True)) for one in given]
        made = [
            reported(state, memory, topology=machine, next_release=next_release, share=len(pairs))
            for state, memory in pairs
        ]
        return page(made, compare(made[0].state, made[1].state) if after is not None else None)


def decode(data: bytes | Path, layout: str | None = None) -> Blob:
    """One blob or preserved folio, without other memory.

    data:   its bytes, or the path of a file with them.
    layout: name of its layout. None: determined by the bytes.

    Raises UsageError for an unknown layout, FormatError for bytes that do not fit, SourceError for a file that cannot
    be read.
    """
    from luoser.memory.file import read_file
    from luoser.reader.blob import decode as decoded

    given = (
        data
        if isinstance(data, bytes | bytearray | memoryview)
        else read_file(need_path(data, "bytes or a path"), limit="list_size")
    )
    return decoded(given, layout)


def diff(
    before: State | Memory | Path,
    after: State | Memory | Path,
    *,
    roots: tuple[int, int] | None = None,
    memories: tuple[Memory | None, Memory | None] = (None, None),
    contents: bool = False,
    ignore: Collection[str] = (),
) -> Comparison:
    """The comparison of two states.

    before, after: states, sources that are open, or paths.
    roots:    addresses of the two handovers to compare. None: pair all handovers.
    memories: the sources of states, for `contents`. None: not available.
    contents: compare the bytes of driver pages and memfd folios, too.
    ignore:   paths that may differ, such as `pci/*/driver_data`.

    Raises UsageError if there is no handover at an address in `roots`, for a path that no change can have, and as
    `luoser.open` and `luoser.read` do.
    """
    from luoser.api.sources import opened
    from luoser.changes import PARTS, compare, need_paths
    from luoser.memory.source import Memory

    need_paths(ignore, PARTS)
    if not isinstance(memories, Sequence) or [isinstance(one, Memory | None) for one in memories] != [True, True]:
        raise UsageError(f"memories: expected two sources, found {memories!r}")
    with opened(before, contents=contents) as (old, of_old), opened(after, contents=contents) as (new, of_new):
        known = of_old or memories[0], of_new or memories[1]
        found = compare(old, new, roots=roots, memories=known, contents=contents)
    return found.without(ignore)


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
    source: Memory | Path,
    target: Path,
    *,
    memfd: str | None = None,
    blob: str | None = None,
    root: int | None = None,
    page_size: int | None = None,
    layouts: Sequence[str] = (),
    force: bool = False,
    no_contents: bool = False,
    hash_names: str | None = None,
) -> str:
    """Write a small core with the pages of the handovers, one memfd, or one node. Returns what was written, in words.

    source: a source that is open, or a path.
    target: path of a new file; the core is compressed if it ends with .xz, .gz, .bz2 or .zst.
    memfd:  SESSION/TOKEN of the memfd to write, or @ADDRESS of a descriptor, as found by salvage. None: none.
    blob:   path or address of the node to write. None: none.
    root, page_size, layouts: as of `luoser.read`.
    force:  replace an existing file.
    no_contents: leave out of the core all that is not a structure of the handover or of the kernel.
    hash_names:  key of the hashes that replace names that users chose; implies `no_contents`. None: keep the names.

    Raises UsageError for a file that exists, if there is no such memfd or node, and for a key of less than 16
    characters; OSError for a file that cannot be written.
    """
    from luoser.api.sources import opened_memory
    from luoser.extracts.parts import write_part
    from luoser.output import need_other
    from luoser.reader import memfd_at, read

    name = need_path(target)
    with opened_memory(source) as memory:
        need_other(name, [memory.path])
        wanted = partial(read, root=root, page_size=page_size, layouts=layouts, contents=True)
        return write_part(
            name,
            memory,
            wanted,
            memfd=memfd,
            blob=blob,
            memfd_at=memfd_at,
            force=force,
            no_contents=no_contents,
            hash_names=hash_names,
        )
