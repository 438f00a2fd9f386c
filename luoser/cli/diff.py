# SPDX-License-Identifier: MIT
"""`luoser diff`: the changes between two states."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from luoser.cli import complete
from luoser.cli.account import note_begun, note_judged, note_read
from luoser.cli.common import NUMBER, Reading, echo_json, format_option, limit_option, timeout_option, within
from luoser.cli.many import each_source, many_options, run_many, sources_of
from luoser.text import counted, source_name, source_names

if TYPE_CHECKING:
    from luoser.changes import Comparison
    from luoser.memory.source import Memory
    from luoser.state import Blob

__all__ = ["command"]

_EXIT = {"equal": 0, "progress": 0, "different": 1, "inconclusive": 4}


@click.command("diff")
@click.argument("sources", nargs=-1, metavar="BEFORE AFTER", type=click.Path(readable=False))
@format_option("text", "line", "json", "jsonl")
@click.option(
    "--against", metavar="BASELINE", type=click.Path(readable=False), help="Compare each source with this one."
)
@click.option(
    "--roots", nargs=2, type=NUMBER, metavar="BEFORE AFTER", help="Physical addresses of the two KHO roots to compare."
)
@click.option("--contents", is_flag=True, help="Compare the bytes of driver pages and memfd folios, too.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    shell_complete=complete.changes,
    help="Paths that may differ, or need not be compared, such as pci/*/driver_data.",
)
@click.option("--all", "all_", is_flag=True, help="List all changes: moved folios and preserved ranges one by one.")
@click.option("--stat", is_flag=True, help="Show only the number of changes.")
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.layouts,
    help="Layout to use where several fit.",
)
@click.option("--page-size", type=NUMBER, help="Page size of the kernel in bytes, if it is not in a source.")
@click.option(
    "--symbols",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="System.map or vmlinux of the running kernel. Given twice: of BEFORE, then of AFTER.",
)
@click.option("--raw", is_flag=True, help="Both sources are raw images, whatever they begin with.")
@many_options
@limit_option
@timeout_option
def command(
    sources: tuple[str, ...],
    output: str,
    against: str | None,
    roots: tuple[int, int] | None,
    contents: bool,
    ignore: tuple[str, ...],
    all_: bool,
    stat: bool,
    layouts: tuple[str, ...],
    page_size: int | None,
    symbols: tuple[str, ...],
    raw: bool,
    timeout: float | None,
    jobs: int | None,
    from_list: str | None,
    memory: int | None,
) -> None:
    """Compare two sources, state documents of `inspect --full --format json`, or bare folios.

    Handovers are paired by root, direction and number. What the next kernel has consumed is progress, not a
    difference. With --against each other source has one line of output. Exit code 0: equal or progress only, 1:
    different, 4: inconclusive, because something could not be compared and nothing else differs. What --ignore names
    may differ, and need not be compared; what is about a whole source cannot be ignored.

    \b
      luoser diff before.elf after.elf
      luoser diff --against host1.elf host2.elf host3.elf --ignore 'pci/*/driver_data'
    """
    from luoser.errors import UsageError

    if against is None and (len(sources) != 2 or from_list is not None):
        given = counted(len(sources), "source") if from_list is None else "a list"
        raise UsageError(f"expected BEFORE and AFTER, or --against BASELINE and sources, found {given}")
    if stat and (output != "text" or against is not None):
        raise UsageError("--stat is for the text of one comparison: leave out --against and --format")
    if len(symbols) > 2:
        raise UsageError(f"--symbols: expected those of BEFORE and AFTER, found {len(symbols)} files")
    how = _Reading(contents, layouts, page_size, symbols, raw, timeout)
    options = {"roots": roots, "how": how, "ignore": ignore, "all_": all_, "stat": stat}
    if against is None:
        first, second = map(_single, sources)
    else:
        found = sources_of(sources, from_list)
        first, second = _single(against), found[0]
    if against is None and output != "jsonl":
        compared(reading=how.of(second, 1), before=first, output=output, **options)
        return
    afters = [second] if against is None else found
    if len(afters) > 1 and any(Path(name).is_fifo() for name in first):
        raise UsageError(f"{source_names(first)}: each comparison reads the baseline, expected a file, found a pipe")
    calls = [(how.of(after, 1), {"before": first, "output": output, **options}) for after in afters]
    run_many("diff", calls, jobs=jobs, memory=memory)


def _single(name: str) -> tuple[str, ...]:
    """The files of the one source that has a name. Raises UsageError if it stands for several."""
    from luoser.errors import UsageError

    found = sources_of((name,), None)
    if len(found) != 1:
        raise UsageError(f"{source_name(name)}: expected one source, found {len(found)}")
    return found[0]


@each_source
def compared(
    *,
    reading: Reading,
    before: tuple[str, ...],
    output: str,
    roots: tuple[int, int] | None,
    how: _Reading,
    ignore: tuple[str, ...],
    all_: bool,
    stat: bool,
) -> None:
    """Compare two sources, and print what differs. Exits as their verdict says.

    reading: of the second source.
    before:  names of the files of the first one.
    how:     both are read.
    Others:  as of the command.
    """
    from luoser.render.changes import changes_document, print_changes, print_changes_line, print_stat

    found = _compare((before, reading.source), roots, how, ignore).without(ignore)
    note_judged(found.verdict.value)
    if output == "line":
        print_changes_line(found, source_names(reading.source))
    elif output in ("json", "jsonl"):
        echo_json(changes_document(found))
    elif stat:
        print_stat(found)
    else:
        print_changes(found, folded=not all_)
    if code := _EXIT[found.verdict.value]:
        raise SystemExit(code)


_Names = tuple[str, ...]
"""Names of the files of one source."""


class _Reading(NamedTuple):
    """How both sources are read. symbols: none, one file for both, or one for each."""

    contents: bool
    layouts: tuple[str, ...]
    page_size: int | None
    symbols: tuple[str, ...]
    raw: bool
    timeout: float | None

    def of(self, source: _Names, side: int) -> Reading:
        """How the first (0) or second (1) source is read."""
        plain = Reading.plain(source[0], layouts=self.layouts, page_size=self.page_size)
        symbols = self.symbols[min(side, len(self.symbols) - 1)] if self.symbols else None
        return replace(plain, source=source, symbols=symbols, raw=self.raw, timeout=self.timeout)


def _compare(
    names: tuple[_Names, _Names], roots: tuple[int, int] | None, reading: _Reading, ignore: tuple[str, ...]
) -> Comparison:
    from luoser.changes import PARTS, Comparison, blob_changes, compare, need_paths
    from luoser.errors import UsageError
    from luoser.state import Blob, Source

    with ExitStack() as stack:
        loaded = _load_both(names, stack, reading)
        first, second = loaded[0][0], loaded[1][0]
        if isinstance(first, Blob) and isinstance(second, Blob):
            if roots is not None or reading.contents or reading.symbols or reading.page_size is not None:
                options = "--roots, --contents, --symbols and --page-size"
                raise UsageError(f"{options} are for dumps: both sources are bare folios")
            need_paths([path for path in ignore if not _is_of_device(path)], _parts_of(first) | _parts_of(second))
            before, after = (Source(path=",".join(name), format="blob") for name in names)
            return Comparison(changes=tuple(blob_changes(first, second)), pairing=(), sources=(before, after))
        if isinstance(first, Blob) or isinstance(second, Blob):
            shown = " and ".join(map(source_names, names))
            raise UsageError(
                f"{shown}: expected both or none to be a bare folio; `luoser extract --blob` writes one of a dump"
            )
        if loaded[0][1] is loaded[1][1] is None and (
            reading.layouts or reading.symbols or reading.page_size is not None
        ):
            raise UsageError("--layout, --symbols and --page-size are for dumps: both sources were read already")
        need_paths(ignore, PARTS)
        memories = loaded[0][1], loaded[1][1]
        return compare(first, second, roots=roots, memories=memories, contents=reading.contents)


def _is_of_device(path: str) -> bool:
    """Whether a path begins with a PCI address: of a device that is in neither folio, but maybe in the next one."""
    from luoser.text import bdf_text, parse_bdf

    name = path.partition("/")[0]
    try:
        return bdf_text(*parse_bdf(name)) == name
    except ValueError:
        return False


def _parts_of(blob: Blob) -> set[str]:
    """What the path of a change of a blob begins with, besides other PCI addresses."""
    devices = (device.name for device in blob.devices or ())
    return {"layout", "fields", "records", "fdt", "order", "bus", *devices}


def _load_both(names: tuple[_Names, _Names], stack: ExitStack, reading: _Reading) -> list[tuple[Any, Memory | None]]:
    """Both sides. Two folios are decoded in one layout if one fits both.

    If no layout fits one of two folios, the layout of the other one is assumed, and that is said.
    """
    from luoser.errors import SourceError
    from luoser.render.out import complain
    from luoser.state import Blob

    found: list[tuple[Any, Memory | None]] = []
    failed = dict[int, SourceError]()
    for side, name in enumerate(names):
        try:
            found.append(_load(name, stack, reading, side))
        except SourceError as error:
            failed[side] = error
            found.append((None, None))
    folios = [one for one, _ in found if isinstance(one, Blob)]
    if failed and (len(failed) == len(names) or not folios):
        raise next(iter(failed.values()))
    if failed:
        (side,), (folio,) = failed, folios
        found[side] = _load(names[side], stack, reading._replace(layouts=(folio.layout,)), side)
        of = source_names(names[1 - side])
        complain(f"{source_names(names[side])}: no known layout fits; assuming {folio.layout}, as of {of}")
    elif len(folios) == len(names) and folios[0].layout != folios[1].layout:
        common = tuple(name for name in folios[0].candidates if name in folios[1].candidates)
        if common:
            how = reading._replace(layouts=common)
            found = [_load(name, stack, how, side) for side, name in enumerate(names)]
    return found


def _load(source: _Names, stack: ExitStack, how: _Reading, side: int) -> tuple[Any, Memory | None]:
    """A state with its memory, or a state of a document or a blob, both without memory. side: 0 before, 1 after."""
    from luoser.errors import SourceError
    from luoser.state.document import read_document

    note_begun()
    is_single, reading = len(source) == 1, how.of(source, side)
    with within(reading.timeout, reading.name):
        document = read_document(source[0]) if is_single and not how.raw else None
    if document is not None:
        note_read(document.source)
        return document, None
    try:
        memory = stack.enter_context(reading.open())
    except SourceError:
        blob = _blob(source[0], how.layouts) if is_single else None
        if blob is None:
            raise
        return blob, None
    return reading.read(memory, contents=how.contents), memory


def _blob(name: str, layouts: tuple[str, ...]) -> Any:
    """The folio or block page in a file. None if it is not one."""
    from luoser.abi.registry import layout, unknown_layout
    from luoser.errors import LuoserError
    from luoser.memory.file import read_file
    from luoser.reader.blob import candidates, decode

    for asked in layouts:
        if layout(asked) is None:
            raise unknown_layout(asked)
    try:
        data = read_file(name, limit="list_size")
        fits = {fit for fit, _ in candidates(data)} if len(layouts) > 1 else set[str]()
        return decode(data, next((asked for asked in layouts if asked in fits), layouts[0] if layouts else None))
    except LuoserError:
        return None
