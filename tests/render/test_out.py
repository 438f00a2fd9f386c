# SPDX-License-Identifier: MIT
"""What a terminal shows: all that a pipe gets, whatever its width."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.cli.main import cli
from luoser.render import out
from tests import golden, real
from tests.conftest import Run
from tests.real import ROOT

ENTRY = "from luoser.__main__ import main; main()"
WIDTHS = (40, 60, 80, 100, 200)
QUICK = ("6.18-a/pre", "6.19-a/post", "7.3-a/frozen", "7.3-chain/post")
"""Dumps that `make test` shows in all widths; `make test-slow` shows the others."""
FROZEN = str(real.path("7.3-a/frozen"))
FOLIO = str(golden.GOLDEN / "pci-folio.bin")
COMMANDS = {
    "inspect": ["inspect"],
    "inspect --all": ["inspect", "--all"],
    "pci": ["pci"],
    "check -v": ["check", "-v"],
    "map": ["map"],
}
OTHERS = {
    "diff": ["diff", FROZEN, str(real.path("7.3-a/post"))],
    "diff --all": ["diff", "--all", FROZEN, str(real.path("7.3-chain/frozen2"))],
    "hexdump": ["hexdump", FROZEN, "luo.sessions[0]"],
    "decode": ["decode", FOLIO],
    "rules": ["rules"],
    "rules MAP": ["rules", "MAP"],
    "abi list": ["abi", "list"],
    "abi show": ["abi", "show", "luo-session"],
    "topology": ["topology", str(real.REAL / "7.3-a/topology.json")],
}
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
_GUIDES = str.maketrans("│├└─", "    ")


def shown(width: int, *arguments: str) -> str:
    """What a terminal of so many columns gets, without colours."""
    return _COLOURS.sub(b"", coloured(width, *arguments)).decode().replace("\r\n", "\n")


def coloured(width: int, *arguments: str) -> bytes:
    """What a terminal of so many columns gets."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("4H", 50, width, 0, 0))
    data = bytearray()
    reader = threading.Thread(target=_drain, args=(here, data))
    reader.start()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(there, "w", encoding="utf-8") as terminal:
        patch.delenv("COLUMNS", raising=False)
        patch.delenv("NO_COLOR", raising=False)
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", terminal)
        _run(arguments)
    reader.join()
    os.close(here)
    assert b"\x1b[" in data
    return bytes(data)


def _drain(here: int, data: bytearray) -> None:
    while True:
        try:
            part = os.read(here, 1 << 16)
        except OSError:  # how a pty says that the other side is closed
            return
        if not part:
            return
        data += part


def _run(arguments: Sequence[str]) -> None:
    try:
        cli.main(arguments, standalone_mode=False)
    except SystemExit as done:
        assert done.code in (0, 1, 4)


def piped(*arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        _run(arguments)
        return sys.stdout.getvalue()


def tokens(text: str) -> list[str]:
    return text.translate(_GUIDES).split()


def compare(whole: str, width: int, *arguments: str) -> None:
    terminal = shown(width, *arguments)
    if arguments[0] in ("pci", "topology"):  # the names of columns are repeated where a table does not fit
        assert set(tokens(terminal)) == set(tokens(whole))
    else:
        assert tokens(terminal) == tokens(whole)
    for row in terminal.splitlines():
        assert len(row) <= width or len(tokens(row)) == 1, row


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in real.DUMPS]
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_terminal_has_what_a_pipe_has(command: str, name: str) -> None:
    arguments = [*COMMANDS[command], str(real.path(name))]
    whole = piped(*arguments)
    for width in WIDTHS:
        compare(whole, width, *arguments)


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_on_a_terminal(command: str) -> None:
    whole = piped(*OTHERS[command])
    for width in WIDTHS:
        compare(whole, width, *OTHERS[command])


@pytest.mark.parametrize("columns", [*WIDTHS, None])
def test_an_error_is_not_broken_within_a_word(columns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return columns is not None

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", Terminal())
    out.complain("a.elf: cannot read 0x123456789a000: page 0x123456789a000 is absent (in no segment of the source)")
    told = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert told.split()[:6] == ["luoser:", "a.elf:", "cannot", "read", "0x123456789a000:", "page"]
    assert told.count("0x123456789a000") == 2
    assert (len(told.splitlines()) == 1) is (columns in (200, None))
    assert max(map(len, told.splitlines())) <= (columns or 200)


def test_a_paragraph_fills_the_lines_of_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 60
    for width, most in ((None, 100), (200, 100), (80, 80), (40, 40)):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        monkeypatch.setattr(out, "_width", lambda width=width: width)
        out.paragraph(text)
        rows = sys.stdout.getvalue().splitlines()
        assert max(map(len, rows)) <= most
        assert all(len(row) > most - 6 for row in rows[:-1])


parts = st.lists(st.tuples(st.text("ab01 x-", max_size=12), st.sampled_from(["", "name", "problem"])), max_size=8)


@given(parts=parts, width=st.integers(20, 90), indent=st.integers(0, 12))
def test_lines_wrap_between_words(parts: list[tuple[str, str]], width: int, indent: int) -> None:
    rows = ["".join(text for text, _ in row) for row in out._wrapped(parts, width, " " * indent, " " * (indent + 2))]
    words = "".join(text for text, _ in parts).split()
    assert [word for row in rows for word in row.split()] == words
    for number, row in enumerate(rows):
        assert len(row) <= width or len(row.split()) == 1
        assert not number or row.startswith(" " * min(indent + 2, width // 2))


def test_every_colour_has_a_meaning() -> None:
    used = set()
    for place in (ROOT / "luoser").rglob("*.py"):
        used |= set(
            re.findall(
                r', "(good|note|problem|address|name|quiet|bold|dim|red|green|yellow|cyan)"\)', place.read_text()
            )
        )
    assert used == set(out._STYLES)


def test_what_passed_has_not_the_colour_of_what_was_found(luoser_command: Run, tmp_path: Path) -> None:
    """Of a verdict with an error: the number of errors alone has the colour of a problem."""
    spec, bad = ROOT / "fixtures/specs/handover.toml", tmp_path / "bad.elf"
    luoser_command("build", spec, "-o", bad, "--mutate", "LUO014")
    (said,) = [row for row in coloured(200, "check", str(bad)).splitlines() if row.startswith(b"verdict")]
    red, _, rest = said.partition(b": ")
    assert b"\x1b[" in red and b"error" in red
    assert b"rules passed" in rest and b"\x1b[" not in rest


# -- encodings and closed streams --------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8", "utf-16"])
@pytest.mark.parametrize(
    "arguments", [["inspect", FROZEN], ["check", FROZEN], OTHERS["diff"], ["abi", "list"], ["--help"]]
)
def test_any_encoding_of_stdout(encoding: str, arguments: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=ROOT, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode(encoding)
    assert encoding != "ascii" or text.isascii()
    assert encoding != "ascii" or arguments[0] != "inspect" or "|-- " in text


@pytest.mark.parametrize("arguments", [["inspect", FROZEN], ["--help"], [], ["abi", "list"], ["check", FROZEN]])
def test_closed_stdout_is_one_line(arguments: list[str]) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", ENTRY, *arguments],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (2, b"luoser: standard output is closed\n")


@pytest.mark.parametrize("arguments", [["inspect", FROZEN], ["--help"], ["abi", "list"]])
def test_full_device_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-c", ENTRY, *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1 and b"No space left on device" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["inspect", FROZEN], ["--help"], [], ["map", FROZEN], ["help", "check"], ["pci", FROZEN]]
)
def test_a_broken_pipe_is_141(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_an_interrupt_while_it_starts_is_one_line() -> None:
    code = (
        "import sys; sys.modules['click'] = None\nimport builtins\nreal = builtins.__import__\n"
        "def interrupted(name, *rest, **more):\n    if name == 'click':\n        raise KeyboardInterrupt\n"
        "    return real(name, *rest, **more)\nbuiltins.__import__ = interrupted\n" + ENTRY
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"luoser: interrupted\n")
