# SPDX-License-Identifier: MIT
"""The commands of luoser as data, for the pages that are made of them: docs/reference/commands.md, man pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from luoser.cli.main import cli

__all__ = ["Command", "Option", "commands"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. names: such as `-o`, `--output`. value: such as `FILE`, empty for a flag."""

    names: tuple[str, ...]
    value: str
    help: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    name:       such as `luoser abi show`.
    usage:      without the name.
    paragraphs: of its description. The first one is one sentence.
    examples:   command lines, some with a remark behind them.
    members:    names of the commands of a group.
    """

    name: str
    usage: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]
    options: tuple[Option, ...]
    members: tuple[str, ...]


def commands() -> Iterator[Command]:
    """All of them by name, the group `luoser` first."""
    yield from _below("luoser", cli, None)


def _below(name: str, command: click.Command, parent: click.Context | None) -> Iterator[Command]:
    context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
    members = command.list_commands(context) if isinstance(command, click.Group) else []
    parts = [part for part in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")) if part.strip()]
    examples = [part.removeprefix("\b\n") for part in parts if part.startswith("\b")]
    yield Command(
        name=name,
        usage=" ".join(("[OPTIONS]", *map(_argument, _arguments(command)), *(("COMMAND ...",) if members else ()))),
        paragraphs=tuple(" ".join(part.split()) for part in parts if not part.startswith("\b")),
        examples=tuple(line.strip() for part in examples for line in part.splitlines()),
        options=tuple(_option(one) for one in command.get_params(context) if isinstance(one, click.Option)),
        members=tuple(members),
    )
    for member in members:
        assert isinstance(command, click.Group)
        found = command.get_command(context, member)
        assert found is not None
        yield from _below(f"{name} {member}", found, context)


def _arguments(command: click.Command) -> list[click.Argument]:
    return [one for one in command.params if isinstance(one, click.Argument)]


def _argument(one: click.Argument) -> str:
    if one.metavar is not None:
        return one.metavar
    name = (one.name or "").upper()
    text = name if one.required else f"[{name}]"
    return f"{text}..." if one.nargs != 1 else text


def _option(one: click.Option) -> Option:
    text = " ".join((one.help or "").split())
    if one.show_default and not one.is_flag:
        text += f" Default: {one.default}."
    return Option(names=(*one.opts, *one.secondary_opts), value="" if one.is_flag else _value(one), help=text)


def _value(one: click.Option) -> str:
    if one.metavar is not None:
        return one.metavar
    if isinstance(one.type, click.Choice):
        return "|".join(map(str, one.type.choices))
    return {"text": "TEXT", "path": "FILE", "integer": "N", "float": "N"}.get(one.type.name, one.type.name.upper())
