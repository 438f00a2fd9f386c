# SPDX-License-Identifier: MIT
"""Shared by the commands: options, reading a source, printing JSON."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from luoser.cli import complete
from luoser.cli.account import is_kept, note_opened, note_read
from luoser.errors import SourceError, UsageError
from luoser.limits import in_force, limited, meanings, with_values
from luoser.render.out import complain
from luoser.text import counted, parse_number, parse_size, rounded_size, safe_text, source_name

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import State

__all__ = [
    "NUMBER",
    "NoState",
    "Reading",
    "beside",
    "echo_json",
    "format_option",
    "hex_options",
    "limit_option",
    "next_option",
    "read_options",
    "timeout_option",
    "topology_option",
    "within",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])
NO_STATE = 3
INCONCLUSIVE = 4
_PROBLEMS_SHOWN = 3


class _Number(click.ParamType):  # type: ignore[type-arg]
    """An unsigned number, 0x… or decimal, or with a unit: 3G."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError:
            self.fail(f"expected a number such as 0x617000, 4096 or 3G, found {value!r}", param, ctx)


NUMBER = _Number()


class _Range(click.ParamType):  # type: ignore[type-arg]
    """START:LENGTH@OFFSET, numbers 0x… or decimal, or with a unit."""

    name = "START:LENGTH@OFFSET"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int | None, int]:
        if isinstance(value, tuple):
            return value
        try:
            start, _, rest = value.partition(":")
            length, _, offset = rest.partition("@")
            return parse_size(start), parse_size(length), parse_size(offset)
        except ValueError:
            self.fail(
                f"expected START:LENGTH@OFFSET such as 0x100000000:0x40000000@0xc0000000, found {value!r}", param, ctx
            )


RANGE = _Range()


class _Limit(click.ParamType):  # type: ignore[type-arg]
    """NAME=VALUE of a limit."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        name, _, number = value.partition("=")
        if name not in meanings():
            self.fail(f"unknown limit {name!r}; `luoser limits` lists all", param, ctx)
        try:
            return name, parse_size(number)
        except ValueError:
            self.fail(f"expected a number such as 1000, 0x1000 or 64M after {name}=, found {number!r}", param, ctx)


def _put_in_force(ctx: click.Context, _: click.Parameter, values: tuple[tuple[str, int], ...]) -> None:
    ctx.with_resource(limited(with_values(in_force(), dict(values))))


limit_option = click.option(
    "--limit",
    multiple=True,
    type=_Limit(),
    shell_complete=complete.limits,
    expose_value=False,
    is_eager=True,
    callback=_put_in_force,
    help="Raise or lower a bound on the work; `luoser limits` lists them. May be given several times.",
)
"""A decorator that adds the option --limit. The limits are in force while the command runs."""
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Give up if it takes longer to open the source, or to read it.",
)
"""A decorator that adds the option --timeout."""


class _Expired(click.ClickException):
    """A source that took too long. Not a LuoserError: no reader may try something else instead."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message on stderr, in the form of all other errors."""
        complain(self.message)


@contextmanager
def within(seconds: float | None, source: str) -> Iterator[None]:
    """Raise _Expired if the block takes longer, also while it waits for a file. None: no bound.

    source: its name, safe to show.
    """
    if seconds is None:
        yield
        return
    text = f"{source}: not read within {seconds:g} s; --timeout gives it more time"

    def expire(*_: object) -> None:
        raise _Expired(text)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Direction(click.ParamType):  # type: ignore[type-arg]
    """ADDRESS=incoming or ADDRESS=outgoing."""

    name = "ADDRESS=DIRECTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        address, _, direction = value.partition("=")
        try:
            if direction in ("incoming", "outgoing"):
                return parse_number(address), direction
        except ValueError:
            pass
        raise click.BadParameter(f"{value!r} is not ADDRESS=incoming or ADDRESS=outgoing", ctx, param)


DIRECTION = _Direction()


class NoState(click.ClickException):
    """No KHO root was found in the source. Exit code 3. state: of the source, without handovers."""

    exit_code = NO_STATE

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state = state

    def show(self, file: Any = None) -> None:
        """Print the message on stderr, in the form of all other errors."""
        complain(self.message)


class _Release(click.ParamType):  # type: ignore[type-arg]
    """Release of a kernel."""

    name = "RELEASE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from luoser.abi.release import release_numbers

        if release_numbers(value) is None:
            self.fail(f"expected a release such as 7.3.4, found {value!r}", param, ctx)
        return str(value)


topology_option = click.option(
    "--topology",
    "topology_of",
    type=click.Path(readable=False),
    metavar="T",
    help="PCI devices of the machine: sysfs, live or a copy, output of lspci, or JSON; see `luoser topology`.",
)
next_option = click.option(
    "--next",
    "next_release",
    type=_Release(),
    shell_complete=complete.releases,
    help="Release of the next kernel, such as 7.3.4.",
)


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """A decorator that adds the option --format, passed as `output`. The first format is the default."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Format of the output.",
    )


def hex_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds --hex and --word, passed as `is_hex` and `word`. Raises UsageError for --word alone."""

    @functools.wraps(command)
    def with_hex(*, is_hex: bool, word: str | None, **rest: Any) -> Any:
        if word is not None and not is_hex:
            raise UsageError("--word is for hex text: give --hex, too")
        return command(is_hex=is_hex, word=int(word) if word is not None else None, **rest)

    for decorator in _HEX_OPTIONS:
        with_hex = decorator(with_hex)
    return with_hex


_HEX_OPTIONS = (
    click.option(
        "--word",
        type=click.Choice(("1", "2", "4", "8")),
        help="Bytes of a word of the hex text that is a little-endian number; 1: the digits are in memory order. "
        "Default: as the ASCII column or the format shows.",
    ),
    click.option(
        "--hex",
        "is_hex",
        is_flag=True,
        help="FILE is hex text: of hexdump, xxd, od, kdb md, gdb x, crash rd, or digits.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """SOURCE and the options that control how it is read.

    source:    paths as the user gave them.
    root:      physical address of the only KHO root to read. None: all.
    page_size: of the kernel, in bytes. None: that of the source.
    layouts:   names of layouts to prefer where several fit.
    symbols:   path of symbols. None: those of the source, if any.
    ranges:    (physical address, size in bytes or None, offset) of the parts of a raw image.
    pc_hole:   physical address where the low memory of a PC ends. None: no hole.
    pause:     stop a running guest while it is read.
    raw:       the source is a raw image.
    no_symbols: use no symbols and types that the user did not give.
    search:    look for all roots, although only one is to be read.
    timeout:   seconds after which opening the source, or reading it, is given up. None: no bound.
    scan:      of a remote source, fetch all that a search needs.
    """

    source: tuple[str, ...]
    root: int | None
    page_size: int | None
    layouts: tuple[str, ...]
    symbols: str | None
    ranges: tuple[tuple[int, int | None, int], ...]
    pc_hole: int | None
    pause: bool
    directions: tuple[tuple[int, str], ...] = ()
    raw: bool = False
    no_symbols: bool = False
    search: bool = False
    timeout: float | None = None
    scan: bool = False

    @classmethod
    def plain(cls, name: str, *, layouts: tuple[str, ...] = (), page_size: int | None = None) -> Reading:
        """A single source without further options."""
        return cls(
            source=(name,),
            root=None,
            page_size=page_size,
            layouts=layouts,
            symbols=None,
            ranges=(),
            pc_hole=None,
            pause=False,
        )

    @property
    def name(self) -> str:
        """The first path, safe to show: no password of a URL."""
        return source_name(self.source[0])

    def open(self) -> Memory:
        """The memory of the source. A long search shows its progress. Raises SourceError."""
        from luoser.memory.open import open_memory
        from luoser.memory.raw import Range, pc_ranges
        from luoser.render.progress import progress

        document = self._document()
        if document is not None:
            return document
        ranges = pc_ranges(self.pc_hole) if self.pc_hole is not None else [Range(*span) for span in self.ranges]
        try:
            with within(self.timeout, self.name):
                memory = open_memory(*self.source, ranges=ranges, pause=self.pause, raw=self.raw, scan=self.scan)
        except SourceError as error:
            raise SourceError(f"{error}{self._blob_hint()}") from error
        memory.on_progress = progress("searching for KHO roots")
        note_opened(memory)
        if memory.aftermath:
            complain(f"{self.name}: {memory.aftermath}")
        return memory

    def read(
        self,
        memory: Memory,
        *,
        contents: bool = False,
        pending: bool = False,
        search: bool = True,
        salvage: bool = False,
        need_root: bool = True,
    ) -> State:
        """The state in a memory.

        contents: read the contents of driver pages and small files, too.
        pending:  say why, if what the running kernel will hand over is not known.
        search:   look for all roots, although only one is to be read. False, or the source is slow: only if the user
                  wants it.

        salvage:  look for things by their shape, too. Then there need not be a root, if something is found.
        need_root: there has to be a KHO root.

        Raises NoState if there is no KHO root, SourceError if nothing shows that the source is an image of memory.
        """
        from luoser.cli.document import DocumentMemory

        if isinstance(memory, DocumentMemory):
            if salvage:
                raise UsageError("--salvage searches memory, and a state document has none: give the dump")
            state = self._of_document(memory.state)
            note_read(state.source)
            return state
        state = self._read(memory, contents, pending, search, salvage)
        note_read(state.source)
        _remark_traffic(memory, self.name)
        if not state.handovers and need_root and not state.salvaged:
            if memory.is_guess and not self.raw and not any(state.problems):
                raise SourceError(
                    f"{self.name}: unknown dump format, and as a raw image it has no KHO root; if it "
                    f"is one, give --raw, or its addresses with --base, --map or --pc-hole{self._blob_hint()}"
                )
            for problem in state.problems[:_PROBLEMS_SHOWN]:
                complain(safe_text(problem.message, again=True))
            raise NoState(
                f"{self.name}: no KHO root in this {state.source.format} source: expected a page with "
                "a devicetree whose compatible is kho-vN; check that the kernel was booted with kho=on and that the "
                "dump has all of its memory",
                state,
            )
        return state

    def _document(self) -> Memory | None:
        """The state document that SOURCE is. None: it is another source. Raises UsageError."""
        from luoser.cli.document import DocumentMemory
        from luoser.state.document import read_document

        with within(self.timeout, self.name):
            state = read_document(self.source[0]) if len(self.source) == 1 and not self.raw else None
        if state is None:
            return None
        if replace(self, root=None, scan=False, timeout=None) != Reading.plain(self.source[0]):
            raise UsageError(f"{self.name}: a state document: it was read already; give only --root")
        return DocumentMemory(self.name, state)

    def _of_document(self, state: State) -> State:
        if self.root is None:
            return state
        handovers = tuple(handover for handover in state.handovers if handover.address == self.root)
        if not handovers:
            raise UsageError(f"no KHO root at {self.root:#x} in this document")
        return replace(state, handovers=handovers)

    def _blob_hint(self) -> str:
        from luoser.cli.hints import blob_hint

        return blob_hint(self.source[0]) if len(self.source) == 1 and not self.raw else ""

    def _read(self, memory: Memory, contents: bool, pending: bool, search: bool, salvage: bool) -> State:
        from luoser.reader import SYMBOLS, read
        from luoser.state import Direction
        from luoser.symbols import read_symbols

        if self.search:  # --scan, not this, agrees to what it costs
            memory.need_search("--search looks for all KHO roots")
        with within(self.timeout, self.name):
            return read(
                memory,
                root=self.root,
                search=self.search or (search and not memory.is_slow),
                page_size=self.page_size,
                layouts=self.layouts,
                contents=contents,
                symbols=read_symbols(self.symbols, SYMBOLS) if self.symbols is not None else None,
                kallsyms=not self.no_symbols,
                pending=pending,
                directions={address: Direction(direction) for address, direction in self.directions},
                salvage=salvage,
            )

    def load(self, *, contents: bool = False, search: bool = True) -> State:
        """The state of the source. As `open`, then `read`."""
        with self.open() as memory:
            return self.read(memory, contents=contents, search=search)


def _remark_traffic(memory: Memory, name: str) -> None:
    """Say on stderr what it has cost to read a remote source."""
    traffic = memory.traffic
    if traffic is not None and not is_kept():
        size = f" of {rounded_size(traffic.size)}" if traffic.size else ""
        complain(f"{name}: {rounded_size(traffic.fetched)}{size} fetched in {counted(traffic.requests, 'request')}")


_READ_OPTIONS = (
    click.option(
        "--layout",
        "layouts",
        multiple=True,
        metavar="NAME",
        shell_complete=complete.layouts,
        help="Layout to use where several fit; see `luoser abi list`. May be given several times.",
    ),
    click.option(
        "--symbols",
        type=click.Path(),
        metavar="FILE",
        help="System.map, copy of /proc/kallsyms, or vmlinux of the running kernel, to make directions certain.",
    ),
    click.option(
        "--no-symbols",
        is_flag=True,
        help="Do not use the symbols and types that the kernel has in its own memory.",
    ),
    click.option(
        "--map",
        "ranges",
        multiple=True,
        type=RANGE,
        help="Raw image: LENGTH bytes from byte OFFSET are at physical address START. May be given several times.",
    ),
    click.option("--base", type=NUMBER, help="Raw image: physical address of its first byte."),
    click.option(
        "--pc-hole", type=NUMBER, help="Raw image without the PCI hole: address of the hole; the rest is at 4 GiB."
    ),
    click.option("--raw", is_flag=True, help="SOURCE is a raw image, whatever it begins with."),
    click.option("--pause", is_flag=True, help="Stop the guest of a qmp: or gdb: source while it is read."),
    click.option("--page-size", type=NUMBER, help="Page size of the kernel in bytes, if it is not in the source."),
    click.option("--root", type=NUMBER, metavar="ADDRESS", help="Physical address of the only KHO root to read."),
    click.option(
        "--search",
        is_flag=True,
        help="With --root: search the source for other roots and kernels, too, on which the direction of a root can "
        "depend. Commands that judge or copy do so in any case, but through gdb: and at a URL.",
    ),
    click.option(
        "--scan",
        is_flag=True,
        help="Of a source at a URL, fetch all that a search for KHO roots needs. Without it what that costs is said.",
    ),
    click.option(
        "--direction",
        "directions",
        multiple=True,
        type=DIRECTION,
        help="Direction of a KHO root: ADDRESS=incoming or ADDRESS=outgoing. It overrides all evidence.",
    ),
    limit_option,
    timeout_option,
)


def _source(*, required: bool) -> Callable[[_Command], _Command]:
    kind = click.Path(readable=False)
    return click.argument("source", nargs=-1, required=required, type=kind, shell_complete=complete.files_of)


def read_options(command: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """A decorator that adds SOURCE and the options for reading it, passed as one `reading`.

    required: whether SOURCE has to be given.
    """

    @functools.wraps(command)
    def with_reading(
        *, ranges: tuple[tuple[int, int | None, int], ...], base: int | None, pc_hole: int | None, **rest: Any
    ) -> Any:
        if bool(ranges) + (base is not None) + (pc_hole is not None) > 1:
            raise UsageError("--map, --base and --pc-hole exclude each other; give only one of them")
        names = ("source", "root", "page_size", "layouts", "symbols", "pause", "directions", "timeout")
        own = {name: rest.pop(name) for name in (*names, "raw", "no_symbols", "search", "scan")}
        if own["search"] and own["root"] is None:
            raise UsageError("--search is for --root: without it the whole source is searched")
        spans = ((base, None, 0),) if base is not None else ranges
        return command(reading=Reading(**own, ranges=spans, pc_hole=pc_hole), **rest)

    for decorator in (*_READ_OPTIONS, _source(required=required)):
        with_reading = decorator(with_reading)
    return with_reading


def beside(source: str, name: str) -> str:
    """The path of a file that an input names: it is in the folder of the input.

    source: the input; `-` is in the current folder.
    name:   as the input has it.

    Raises UsageError for a place outside of that folder, also through a link, as an input could name any file, and for
    what is no file and may wait.
    """
    from pathlib import Path

    folder = Path() if source == "-" else Path(source).parent
    place = folder / name.replace("\0", "")
    is_inside = Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder))
    if "\0" in name or not is_inside or (place.exists() and not (place.is_file() or place.is_dir())):
        raise UsageError(f"{safe_text(name)}: expected a file in the folder of {safe_text(Path(source).name)}")
    return str(place) if place.is_absolute() else f"./{place}"  # never `live:` or `-`


def echo_json(document: Any) -> None:
    """Print a JSON document on stdout. It is ASCII only, so that names in it are safe for a terminal."""
    from luoser.render.jsontext import put_json
    from luoser.render.out import write

    put_json(document, write)
