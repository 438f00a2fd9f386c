# SPDX-License-Identifier: MIT
"""`luoser decode` of hex text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import real
from tests.conftest import Run
from tests.golden import GOLDEN

MD = """\
0xffff888001a97000 0000000000000002 0000000100000501   ................
0xffff888001a97010 00000001ac6f4000 0000000200000408   .@o.............
0xffff888001a97020 0000000000000000 0000000000000000   ................
"""


@pytest.mark.parametrize("command", [["decode", "--as", "pci-lu-v2-03"], ["abi", "detect"]])
@pytest.mark.parametrize("word", [[], ["--word", "8"]])
def test_words_of_a_debugger(luoser_command: Run, tmp_path: Path, command: list[str], word: list[str]) -> None:
    (tmp_path / "md").write_text(MD)
    result = luoser_command(*command, "--hex", tmp_path / "md", *word)
    assert result.returncode == 0
    text = result.stdout.decode()
    if command[0] == "decode":
        assert "0000:05:00.1" in text and "0000:04:01.0" in text and "0x1ac6f4000" in text
    else:
        assert "pci-lu-v2-03" in text


def test_a_word_that_is_not_that_of_the_text_is_refused(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "md").write_text(MD)
    result = luoser_command("decode", "--hex", tmp_path / "md", "--word", "4")
    assert result.returncode == 2 and b"expected words of 8 digits" in result.stderr


def test_word_is_for_hex_text(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "md").write_text(MD)
    result = luoser_command("decode", tmp_path / "md", "--word", "8")
    assert result.returncode == 2 and b"give --hex" in result.stderr


def test_a_file_of_another_kind_says_which_command_reads_it(luoser_command: Run, tmp_path: Path) -> None:
    state, blob, text = tmp_path / "state.json", str(GOLDEN / "pci-folio.bin"), tmp_path / "text"
    frozen = str(real.path("7.3-a/frozen"))
    state.write_bytes(luoser_command("inspect", frozen, "--full", "--format", "json").stdout)
    text.write_text(MD)
    for command, file, words in (
        (["decode"], state, f"it is a state document: luoser inspect {state}"),
        (["decode"], text, "they look like hex text: use --hex"),
        (["abi", "detect"], text, "they look like hex text: use --hex"),
        (["abi", "detect"], frozen, f"it is a dump (elf): luoser inspect {frozen}"),
        (["build", "-o", "x"], frozen, f"it is a dump (elf): luoser inspect {frozen}"),
        (["build", "-o", "x"], blob, f"luoser decode {blob}"),
        (["simulate"], frozen, f"it is a dump (elf): luoser inspect {frozen}"),
    ):
        result = luoser_command(*command, file)
        assert result.returncode in (1, 2) and words in result.stderr.decode(), command


def test_hex_text_that_cannot_be_read_is_named(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("weather\n")
    for command in (["decode"], ["abi", "detect"]):
        result = luoser_command(*command, "--hex", tmp_path / "text")
        assert result.returncode == 2 and f"{tmp_path / 'text'}: hex text line 1".encode() in result.stderr
