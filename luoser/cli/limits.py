# SPDX-License-Identifier: MIT
"""`luoser limits`: the bounds on the work that a source can cause."""

from __future__ import annotations

import click

from luoser.cli.common import echo_json, format_option

__all__ = ["command"]


@click.command("limits")
@format_option("text", "json")
def command(output: str) -> None:
    """List the bounds on time and memory, with their defaults: other commands raise or lower them with --limit.

    What meets a limit is a problem that names it, and makes the verdict of `check` inconclusive.

    \b
      luoser limits
    """
    from luoser.limits import meanings
    from luoser.render.out import line

    if output == "json":
        rows = [{"name": name, "default": default, "meaning": word} for name, (default, word) in meanings().items()]
        echo_json({"schema": "luoser/limits/1", "limits": rows})
        return
    for name, (default, word) in meanings().items():
        line((f"{name:20}", "name"), f" {default:>14}  {word}", rest=" " * 37)
