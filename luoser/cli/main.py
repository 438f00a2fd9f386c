# SPDX-License-Identifier: MIT
"""The `luoser` command: a group that imports the module of a command when that command is run."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn, cast

import click

from luoser import __version__
from luoser.cli.failures import UNREADABLE, failure
from luoser.cli.formatter import Formatter
from luoser.cli.group import Group
from luoser.errors import LuoserError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["cli", "main"]

_COMMANDS = {
    "build": "Make golden blobs, C code and memory images from a description.",
    "abi": "List layouts, show one field by field, or detect the layout of a file.",
    "extract": "Write the pages of the handovers, or a preserved memfd, to a file.",
    "check": "Check a handover, and compare it with the machine.",
    "compat": "Say whether one kernel can hand over to another.",
    "diff": "Compare two states.",
    "decode": "Decode one blob or preserved folio.",
    "help": "Show the help of a command.",
    "hexdump": "Show the bytes of one node with the names of the members.",
    "inspect": "Show everything that is handed over, as a tree.",
    "limits": "List the bounds on the work that a source can cause.",
    "map": "List the preserved memory, like /proc/iomem.",
    "report": "Write an HTML page about a source, or about two and their changes.",
    "rules": "List or explain the rules of `check`.",
    "pci": "Show the preserved PCI devices as a table.",
    "survey": "Write tables about many sources, to ask: a Parquet data set.",
    "topology": "Show the PCI topology of a machine, or write a snapshot of it.",
    "simulate": "Simulate a live update of PCI devices.",
}


click.Context.formatter_class = Formatter  # of every command


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return cast(click.Command, importlib.import_module(f"luoser.cli.{cmd_name}").command)

    def unknown(self, name: str) -> str:
        if not (os.path.exists(name) or ":" in name or os.sep in name):  # noqa: PTH110 - a start is to stay fast
            return super().unknown(name)
        from luoser.cli.hints import command_for

        return command_for(name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click's own, without importing every command."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=_COMMANDS[name]) for name in sorted(_COMMANDS) if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def about(self, ctx: click.Context, name: str) -> str:
        return _COMMANDS[name]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="luoser")
def cli() -> None:
    """Read the state that a Linux kernel hands to its successor over kexec.

    SOURCE is a memory dump: an ELF core, a kdump, LiME, AVML or VMware file, or a raw image, also compressed as
    .xz, .gz, .bz2 or .zst; `-` is standard input. Give all files of a split kdump, or a .vmem and its .vmss. `live:` is
    this machine, qmp:SOCKET is a running QEMU guest, gdb:HOST:PORT one with a debugger stub.

    \b
      luoser inspect vmcore             what is handed over
      luoser check vmcore               is it sound?
      luoser diff before after          what changed over the kexec
      luoser check dumps/               the same of many, a line for each
      luoser report vmcore -o report.html   a page to attach to a ticket
      luoser decode folio.bin           a bare blob, also as hex text (--hex)
      luoser build spec.toml -o golden_test.c --format kunit
      luoser help check                 the help of a command

    Exit codes: 0 done, sound or equal, 1 findings or differences, 2 usage or unreadable input, 3 no KHO state found,
    4 inconclusive.
    """


def main() -> None:
    """Entry point. Any error that the input causes is one line on stderr, with exit code 2."""
    if not _has_streams():
        sys.exit(2)
    try:
        _run()
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        _end(done.exit_code)
    except SystemExit as done:
        _end(done.code)
    except click.ClickException as error:
        _show(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        _closed_pipe()
    except (LuoserError, OSError, MemoryError) as error:
        _fail(failure(error))


def _has_streams() -> bool:
    """Prepare stdout and stderr. False, with a line on stderr: stdout is closed."""
    from luoser.render.out import prepare

    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - pathlib is slow to load, and it stays open
    if sys.stdout is None:
        _say("standard output is closed")
        return False
    prepare()
    return True


def _end(code: str | int | None) -> NoReturn:
    """Exit, after all output was written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _closed_pipe()
    except OSError as error:
        _fail(f"standard output: {error.strerror}")
    sys.exit(code)


def _closed_pipe() -> NoReturn:
    """Exit as a process that SIGPIPE ended. What is left in buffers goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    sys.exit(141)


def _say(message: str) -> None:
    """A line on stderr, which may be closed, too."""
    from luoser.render.out import complain

    with contextlib.suppress(OSError, ValueError):
        complain(message)


def _run() -> None:
    """As `cli.main`, but keeps BrokenPipeError: click turns it into exit code 1, which means findings here."""
    if "_LUOSER_COMPLETE" in os.environ:
        from click.shell_completion import add_completion_class

        from luoser.cli.complete import SHELLS

        for shell in SHELLS:
            add_completion_class(shell)
        cli.main(prog_name="luoser")
    with cli.make_context("luoser", sys.argv[1:]) as context:
        cli.invoke(context)


def _show(error: click.ClickException) -> None:
    """As click's own method, but quoted arguments are made safe to print."""
    from luoser.render.out import complain
    from luoser.text import safe_text

    if not isinstance(error, click.UsageError):
        error.show()
        return
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    said = error.format_message().replace("\n\t", " ")  # click lists choices so
    complain(safe_text(said, again=True))


def _fail(message: str) -> NoReturn:
    """Exit with a line on stderr. What stdout did not take is lost."""
    from luoser.text import safe_text

    _say(safe_text(message, again=True))
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(UNREADABLE)
