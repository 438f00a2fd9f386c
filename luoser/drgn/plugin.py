# SPDX-License-Identifier: MIT
"""What drgn loads at its start, by the entry point `drgn.plugins`: the command `%luo`.

What it needs of luoser is imported when it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drgn import Program

__all__: list[str] = []


def _run(prog: Program, name: str, args: Sequence[str], **_: Any) -> int:
    """Run the command. Raises CommandError, which drgn shows as a line."""
    from drgn.commands import CommandError

    from luoser.drgn.command import luo
    from luoser.errors import LuoserError

    try:
        return luo(prog, *args)
    except LuoserError as error:
        raise CommandError(str(error)) from None


with suppress(ImportError):  # drgn before its commands: `luoser.drgn` is of use all the same
    from drgn.commands import argument, custom_command, parse_shell_command

    custom_command(
        name="luo",
        description="show and check what a Linux kernel hands to its successor over kexec (KHO, LUO)",
        usage="**luo** *COMMAND* [*OPTION*]...",
        long_description="Run a command of luoser on this program. Arguments are those of the command line, without "
        "SOURCE; `luo help check` shows them. The exit code is the value of the command: 0 done, sound or equal, 1 "
        "findings or differences, 3 no KHO state, 4 inconclusive.",
        epilog="Such as: luo inspect --summary; luo check --select MAP; luo hexdump 'luo.sessions[0]' | head",
        arguments=(
            argument("COMMAND", help="inspect (or tree), check, map, pci, hexdump, diff, extract or report"),
            argument("OPTION", nargs="*", help="options and arguments of the command"),
        ),
        parse=parse_shell_command,
    )(_run)
