# SPDX-License-Identifier: MIT
"""What the commands share: options, reading a source, printing."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from luoser.errors import SourceError, UsageError
from luoser.text import parse_number

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import State

__all__ = [
    "NUMBER",
    "NoState",
    "Reading",
    "echo_json",
    "format_option",
    "json_pieces",
    "read_options",
    "usable_layouts",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])
NO_STATE = 3
_PROBLEMS_SHOWN = 3


class _Number(click.ParamType):  # type: ignore[type-arg]
    """An unsigned number, 0x… or decimal."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_number(value)
        except ValueError:
            self.fail(f"{value!r} is no address or number, such as 0x617000", param, ctx)


NUMBER = _Number()


class _Range(click.ParamType):  # type: ignore[type-arg]
    """START:LENGTH@OFFSET, numbers 0x… or decimal."""

    name = "START:LENGTH@OFFSET"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int | None, int]:
        if isinstance(value, tuple):
            return value
        try:
            start, _, rest = value.partition(":")
            length, _, offset = rest.partition("@")
            return parse_number(start), parse_number(length), parse_number(offset)
        except ValueError:
            self.fail(f"{value!r} is not START:LENGTH@OFFSET, such as 0x100000000:0x40000000@0xc0000000", param, ctx)


RANGE = _Range()


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
    """The source holds no KHO root."""

    exit_code = NO_STATE

    def show(self, file: Any = None) -> None:
        click.echo(f"luoser: {self.message}", err=True)


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """`--format`; the first one is the default."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Form of the output.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """SOURCE as the command line names it, and how to read it."""

    source: tuple[str, ...]
    root: int | None
    page_size: int | None
    layouts: tuple[str, ...]
    symbols: str | None
    ranges: tuple[tuple[int, int | None, int], ...]
    pc_hole: int | None
    pause: bool
    directions: tuple[tuple[int, str], ...] = ()

    @classmethod
    def plain(cls, name: str, *, layouts: tuple[str, ...] = (), page_size: int | None = None) -> Reading:
        """One source without further ado."""
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

    def open(self) -> Memory:
        """The memory; a search in it that takes longer than a second shows how far it is."""
        from luoser.memory.open import open_memory
        from luoser.memory.raw import Range, pc_ranges
        from luoser.render.progress import progress

        ranges = pc_ranges(self.pc_hole) if self.pc_hole is not None else [Range(*span) for span in self.ranges]
        memory = open_memory(*self.source, ranges=ranges, pause=self.pause)
        memory.on_progress = progress("searching for KHO roots")
        return memory

    def read(self, memory: Memory, *, contents: bool = False) -> State:
        """The state of a memory. Raises NoState where there is no root."""
        from luoser.text import safe_text

        try:
            state = self._read(memory, contents, self.symbols if self.symbols is not None else memory.symbols)
        except SourceError as error:
            if self.symbols is not None or memory.symbols is None:
                raise
            memory.remarks.append(f"not used: {error}")  # symbols that nobody asked for
            state = self._read(memory, contents, None)
        if not state.handovers:
            for problem in state.problems[:_PROBLEMS_SHOWN]:
                click.echo(f"luoser: {safe_text(problem.message, again=True)}", err=True)
            raise NoState(
                f"{safe_text(self.source[0])}: no KHO root in this {state.source.format} source: no page with a "
                "devicetree that is compatible with kho-vN. Was the kernel booted with kho=on, and does the dump hold "
                "all of its memory?"
            )
        return state

    def _read(self, memory: Memory, contents: bool, path: str | None) -> State:
        from luoser.reader import SYMBOLS, read
        from luoser.state import Direction
        from luoser.symbols import read_symbols

        return read(
            memory,
            root=self.root,
            page_size=self.page_size,
            layouts=usable_layouts(self.layouts),
            contents=contents,
            symbols=read_symbols(path, SYMBOLS) if path is not None else None,
            directions={address: Direction(direction) for address, direction in self.directions},
        )

    def load(self, *, contents: bool = False) -> State:
        """The state of the source."""
        with self.open() as memory:
            return self.read(memory, contents=contents)


_READ_OPTIONS = (
    click.option(
        "--layout",
        "layouts",
        multiple=True,
        metavar="NAME",
        help="Layout to take where the bytes leave a choice; see `luoser abi list`. May be given several times.",
    ),
    click.option(
        "--symbols",
        type=click.Path(),
        metavar="FILE",
        help="System.map, copy of /proc/kallsyms, or vmlinux of the running kernel: its variables name the roots.",
    ),
    click.option(
        "--map",
        "ranges",
        multiple=True,
        type=RANGE,
        help="Of a raw image: LENGTH bytes from byte OFFSET on lie at physical address START. Several may be given.",
    ),
    click.option("--base", type=NUMBER, help="Of a raw image: physical address of its first byte."),
    click.option(
        "--pc-hole", type=NUMBER, help="Of a raw image without the PC's gap: where memory stops, to go on at 4 GiB."
    ),
    click.option("--pause", is_flag=True, help="Hold the guest of a qmp: source while it is read."),
    click.option("--page-size", type=NUMBER, help="Page size of the machine in bytes, where the source does not say."),
    click.option(
        "--root", type=NUMBER, metavar="ADDRESS", help="Physical address of the KHO root to read, instead of all."
    ),
    click.option(
        "--direction",
        "directions",
        multiple=True,
        type=DIRECTION,
        help="Direction of a KHO root, ADDRESS=incoming or ADDRESS=outgoing; it overrides all evidence.",
    ),
    click.argument("source", nargs=-1, required=True, type=click.Path(readable=False)),
)


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """SOURCE and the options that say how to read it: given to the command as one `reading`."""

    @functools.wraps(command)
    def with_reading(
        *, ranges: tuple[tuple[int, int | None, int], ...], base: int | None, pc_hole: int | None, **rest: Any
    ) -> Any:
        if bool(ranges) + (base is not None) + (pc_hole is not None) > 1:
            raise UsageError("--map, --base and --pc-hole all say where the bytes of an image belong: give one kind")
        names = ("source", "root", "page_size", "layouts", "symbols", "pause", "directions")
        own = {name: rest.pop(name) for name in names}
        spans = ((base, None, 0),) if base is not None else ranges
        return command(reading=Reading(**own, ranges=spans, pc_hole=pc_hole), **rest)

    for decorator in _READ_OPTIONS:
        with_reading = decorator(with_reading)
    return with_reading


def usable_layouts(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if each can decide something. Raises UsageError."""
    from luoser.abi.registry import layout

    for name in names:
        found = layout(name)
        if found is None:
            raise UsageError(f"no layout is named {name!r}; `luoser abi list` names them all")
        if (found.kind != "list" and not found.handler) or found.kind == "fdt":
            raise UsageError(f"layout {name} is never in doubt; --layout takes device lists and file handlers' structs")
    return names


def echo_json(document: Any) -> None:
    """One JSON document on stdout, ASCII only, so that no name in it reaches the terminal raw."""
    for piece in json_pieces(document):
        sys.stdout.write(piece)


def json_pieces(document: Any) -> Iterator[str]:
    """The text of one JSON document, ASCII only."""
    yield from _pretty(document, "\n")
    yield "\n"


def _pretty(value: Any, newline: str) -> Iterator[str]:
    """Indented, but what holds no further lists or objects (a device, an extent) on one line: that is fast, too."""
    if not isinstance(value, dict | list) or not any(isinstance(item, dict | list) for item in _items(value)):
        yield json.dumps(value, ensure_ascii=True)
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    separator = f"{opening}{newline} "
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield separator
        if isinstance(value, dict):
            yield json.dumps(key) + ": "
        yield from _pretty(item, newline + " ")
        separator = f",{newline} "
    yield newline + closing


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
