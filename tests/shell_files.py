# SPDX-License-Identifier: MIT
"""`python -m tests.shell_files` makes share/ again: manual pages, and completions of bash, zsh and fish."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from luoser import __version__
from luoser.cli.complete import SHELLS
from luoser.cli.main import cli
from tests.command_line import Command, commands

__all__ = ["PLACES", "SHARE", "completions", "main", "manual"]

SHARE = Path(__file__).resolve().parents[1] / "share"
PLACES = {
    "bash": "bash-completion/completions/luoser",
    "zsh": "zsh/site-functions/_luoser",
    "fish": "fish/vendor_completions.d/luoser.fish",
}
"""Path below share of the script of each shell."""
_ESCAPES = str.maketrans(
    {"\\": "\\e", "-": "\\-", "`": "\\(ga", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti", "…": "...", "→": "\\(->"}
)
_EXIT = (
    ("0", "done; sound, equal, or progress"),
    ("1", "findings or differences"),
    ("2", "usage, or input that cannot be read"),
    ("3", "no KHO state found"),
    ("4", "inconclusive"),
)


def completions() -> dict[str, str]:
    """Path below share and text of each script. They ask luoser itself, so that they fit any release of it."""
    made = {PLACES[of.name]: of(cli, {}, "luoser", "_LUOSER_COMPLETE").source() for of in SHELLS}
    return {path: f"{text.strip()}\n" for path, text in made.items()}


def manual() -> dict[str, str]:
    """Path below share and text of the page of each command."""
    return {f"man/man1/{_file(one)}.1": "\n".join(_page(one)) + "\n" for one in commands()}


def _file(one: Command) -> str:
    return one.name.replace(" ", "-")


def _page(one: Command) -> Iterator[str]:
    title, first = _file(one), one.paragraphs[0]
    yield f'.TH {_text(title.upper())} 1 "" "luoser {__version__}" "User Commands"'
    yield from (".SH NAME", f"{_text(title)} \\- {_text(_sentence(first))}")
    yield from (".SH SYNOPSIS", f".B {_text(one.name)}", _text(one.usage))
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(one.paragraphs):
        yield from ((".PP",) if number else ())
        yield _text(paragraph)
    if one.members:
        yield ".SH COMMANDS"
        for below in commands():
            if below.name.rpartition(" ")[0] == one.name:
                yield from (".TP", f".B {_text(below.name)}", _text(_sentence(below.paragraphs[0])))
    yield ".SH OPTIONS"
    for option in one.options:
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
        yield from (".TP", f"{names} \\fI{_text(option.value)}\\fR" if option.value else names, _text(option.help))
    yield ".SH EXIT STATUS"
    for code, meaning in _EXIT:
        yield from (".TP", f".B {code}", meaning)
    if one.examples:
        yield from (".SH EXAMPLES", ".EX", *map(_text, one.examples), ".EE")
    yield from (".SH SEE ALSO", ", ".join(f".BR {_text(name)} (1)" for name in _others(one)).replace(", .BR", ",\n.BR"))


def _others(one: Command) -> Iterator[str]:
    parent = one.name.rpartition(" ")[0].replace(" ", "-")
    yield from [parent] if parent else [f"luoser-{name}" for name in one.members]


def _sentence(text: str) -> str:
    """The first sentence, as the line in NAME has it: without capital and full stop."""
    first = re.split(r"(?<=[.:])\s", text)[0].rstrip(".:")
    return first[0].lower() + first[1:]


def _text(text: str) -> str:
    """A text that is none of troff's commands."""
    escaped = text.translate(_ESCAPES)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def main() -> None:
    """Write all of them anew."""
    for place in (SHARE / "man/man1").glob("*.1"):
        place.unlink()
    for path, text in (completions() | manual()).items():
        (SHARE / path).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / path).write_text(text)


if __name__ == "__main__":
    main()
