# SPDX-License-Identifier: MIT
"""The help of every command, in terminals of any width."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from luoser.cli.main import cli


def commands(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of a command and of all below it."""
    yield names
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from commands(below, *names, name)


ALL = list(commands(cli))


def helped(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], columns: int) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    context = cli.make_context("luoser", [], resilient_parsing=True)
    for name in names:
        assert isinstance(context.command, click.Group)
        found = context.command.get_command(context, name)
        assert found is not None
        context = click.Context(found, info_name=name, parent=context)
    return context.get_help()


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], columns: int
) -> None:
    text = helped(monkeypatch, names, columns)
    assert [line for line in text.splitlines() if len(line) > columns or line != line.rstrip()] == []


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_narrow_help_has_the_same_words(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    wide, narrow = (helped(monkeypatch, names, columns).replace(" \\\n", " ") for columns in (200, 40))
    assert "".join(wide.split()) == "".join(narrow.split())


def test_a_long_example_is_still_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    text = helped(monkeypatch, ("diff",), 80)
    assert "luoser diff --against host1.elf host2.elf host3.elf --ignore \\\n      'pci/*/driver_data'\n" in text
    assert "    luoser report vmcore -o \\\n      report.html\n        a page to attach to a ticket\n" in helped(
        monkeypatch, (), 40
    )
