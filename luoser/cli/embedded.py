# SPDX-License-Identifier: MIT
"""The commands inside of another program, on memory that it has open: of a debugger. They never end that program."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

import click

from luoser.cli.failures import failure
from luoser.cli.main import cli
from luoser.errors import LuoserError, SourceError, UsageError
from luoser.memory.open import offered
from luoser.memory.raw import Range
from luoser.memory.source import Memory
from luoser.render.out import line, prepare
from luoser.text import did_you_mean, safe_text

__all__ = ["COMMANDS", "run"]

COMMANDS = {
    "tree": "inspect",
    **{name: name for name in ("inspect", "check", "map", "pci", "hexdump", "diff", "extract", "report")},
}
"""Commands by the name that they have here: those whose first argument is a source, which is left out."""


def run(words: Sequence[str], *, source: str, opener: Callable[[Sequence[Range]], Memory]) -> int:
    """Run a command. What it prints goes to `sys.stdout`.

    words:  the command and its arguments, without SOURCE. None of them, or only `-h`: help.
    source: path that stands for the memory.
    opener: as of `luoser.memory.open.offered`.

    Returns the exit code. Raises UsageError for what cannot be done, SourceError and other errors of luoser, for what
    cannot be read.
    """
    with _streams(), offered(source, opener):
        try:
            with cli.make_context("luo", _arguments(words, source)) as context:
                cli.invoke(context)
        except click.exceptions.Exit as done:
            return done.exit_code
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 0
        except click.Abort:
            raise KeyboardInterrupt from None
        except click.UsageError as error:
            raise UsageError(safe_text(error.format_message(), again=True)) from None
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (LuoserError, BrokenPipeError):
            raise
        except (OSError, MemoryError) as error:
            raise SourceError(safe_text(failure(error), again=True)) from None
    return 0


def _arguments(words: Sequence[str], source: str) -> list[str]:
    """The arguments of `luoser`. Raises UsageError for a command that does not read the source."""
    name, *rest = words or ["help"]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("help", "-h", "--help"):
        _print_help()
        raise click.exceptions.Exit(0)
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UsageError(f"no command {safe_text(name)!r}{did_you_mean(name, list(COMMANDS))}; expected one of {known}")
    if "--help" in rest or "-h" in rest:
        line("Here SOURCE is the memory that is open, and is left out, as are vmcore and the like in the examples.")
    return [COMMANDS[name], source, *rest]


def _print_help() -> None:
    """What there is. `tree` is the name of `inspect` for who expects one."""
    group = click.Context(cli)
    line("luo COMMAND [OPTION]...  as on the command line of luoser, without SOURCE; `luo help COMMAND` has all")
    for name, command in COMMANDS.items():
        about = f"As {command}." if name != command else cli.about(group, command)
        line((f"{name:<8}", "name"), f"  {about}", first="  ", rest=" " * 12)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """stdout and stderr that take any text. Afterwards they are as before."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [(stream, stream.errors) for stream in streams]
    prepare()
    try:
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(ValueError):  # closed in the meantime
                stream.reconfigure(errors=errors)
