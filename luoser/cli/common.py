# SPDX-License-Identifier: MIT
"""What the commands share: options, reading a source, printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click

from luoser.errors import UsageError
from luoser.text import parse_number

__all__ = ["NUMBER", "NoState", "echo_json", "format_option", "load", "read_options", "usable_layouts"]

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


def read_options(command: _Command) -> _Command:
    """SOURCE and the options that say how to read it."""
    for decorator in (
        click.option(
            "--layout",
            "layouts",
            multiple=True,
            metavar="NAME",
            help="Layout to take where the bytes leave a choice; see `luoser abi list`. May be given several times.",
        ),
        click.option(
            "--page-size", type=NUMBER, help="Page size of the machine in bytes, where the source does not say."
        ),
        click.option(
            "--root", type=NUMBER, metavar="ADDRESS", help="Physical address of the KHO root to read, instead of all."
        ),
        click.argument("source", nargs=-1, required=True, type=click.Path()),
    ):
        command = decorator(command)
    return command


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


def load(
    source: tuple[str, ...],
    *,
    root: int | None,
    page_size: int | None,
    layouts: tuple[str, ...],
    contents: bool = False,
) -> Any:
    """The state of a source. Raises NoState where there is none, LuoserError where it cannot be read."""
    from luoser.memory.open import open_memory
    from luoser.reader import read
    from luoser.text import safe_text

    names = usable_layouts(layouts)
    with open_memory(*source) as memory:
        state = read(memory, root=root, page_size=page_size, layouts=names, contents=contents)
    if not state.handovers:
        for problem in state.problems[:_PROBLEMS_SHOWN]:
            click.echo(f"luoser: {safe_text(problem.message, again=True)}", err=True)
        raise NoState(
            f"{safe_text(source[0])}: no KHO root in this {state.source.format} image: no page with a devicetree that "
            "is compatible with kho-vN. Was the kernel booted with kho=on, and does the dump hold all of its memory?"
        )
    return state


def echo_json(document: Any) -> None:
    """One JSON document on stdout, ASCII only, so that no name in it reaches the terminal raw."""
    for piece in _pretty(document, "\n"):
        sys.stdout.write(piece)
    sys.stdout.write("\n")


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
