# SPDX-License-Identifier: MIT
"""A group of commands: alone it prints its help, and a name that no command has is answered with the nearest one."""

from __future__ import annotations

import click

from luoser.text import without_secrets

__all__ = ["Group"]


class Group(click.Group):
    """As click's own, whatever its release: alone with exit code 0."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's own."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's own, but the first sentence of each is never cut."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.about(ctx, name)) for name in self.list_commands(ctx)])

    def about(self, ctx: click.Context, name: str) -> str:
        """What a command is for, in a sentence."""
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=1000) if command is not None else ""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {without_secrets(args[0])!r}{self.unknown(args[0])}")
        return super().resolve_command(ctx, args)

    def unknown(self, name: str) -> str:
        """What to do about a name that no command has."""
        from luoser.text import did_you_mean

        names = self.list_commands(click.Context(self))
        return f"{did_you_mean(name, names)}; expected one of {', '.join(names)}"
