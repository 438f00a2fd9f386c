# SPDX-License-Identifier: MIT
"""`luoser help`: the help of a command."""

from __future__ import annotations

import click

from luoser.cli import complete

__all__ = ["command"]


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]...", shell_complete=complete.commands)
@click.pass_context
def command(context: click.Context, /, names: tuple[str, ...]) -> None:
    """Show the help of a command.

    \b
      luoser help check
      luoser help abi show
    """
    here = context.find_root()
    for name in names:
        group = here.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{here.command_path} has no commands")
        _, found, _ = group.resolve_command(here, [name])
        assert found is not None
        here = click.Context(found, info_name=name, parent=here, **found.context_settings)
    click.echo(here.get_help())
