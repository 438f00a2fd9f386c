# SPDX-License-Identifier: MIT
"""A state document in place of a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import real
from tests.conftest import Run
from tests.work import held


@pytest.fixture
def document(luoser_command: Run, tmp_path: Path) -> Path:
    place = tmp_path / "state.json"
    dump = real.path("7.3-a/frozen")
    place.write_bytes(luoser_command("inspect", dump, "--full", "--contents", "--format", "json").stdout)
    return place


@pytest.mark.parametrize("command", ["inspect", "pci", "map"])
def test_it_is_shown_like_its_dump(luoser_command: Run, document: Path, command: str) -> None:
    of_document = luoser_command(command, document).stdout.splitlines()
    of_dump = luoser_command(command, real.path("7.3-a/frozen")).stdout.splitlines()
    skipped = 2 if command == "inspect" else 0
    assert of_document[skipped:] == of_dump[skipped:]


def test_it_is_checked(luoser_command: Run, document: Path) -> None:
    result = luoser_command("check", document)
    assert result.returncode == 0 and b"verdict  sound" in result.stdout


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_its_kernel_is_shown(luoser_command: Run, document: Path, command: str) -> None:
    assert b"elf, kernel 7.3.4, 4 KiB pages" in luoser_command(command, document).stdout.splitlines()[0]


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_it_is_named_with_its_dump(luoser_command: Run, document: Path, command: str) -> None:
    said = f"{document}  state document of {real.path('7.3-a/frozen')}, elf"
    assert luoser_command(command, document).stdout.decode().startswith(said)


@pytest.mark.parametrize(
    "arguments", [["--layout", "pci-lu-v2-03"], ["--page-size", "4K"], ["--pause"], ["--base", "0"]]
)
def test_options_without_effect_are_refused(luoser_command: Run, document: Path, arguments: list[str]) -> None:
    result = luoser_command("inspect", document, *arguments)
    assert result.returncode == 2 and b"a state document" in result.stderr


def test_one_root_of_it(luoser_command: Run, document: Path) -> None:
    assert luoser_command("inspect", document, "--root", "0x5cd000").returncode == 0
    assert luoser_command("inspect", document, "--root", "0x1000").returncode == 2


def test_it_has_no_pages(luoser_command: Run, document: Path, tmp_path: Path) -> None:
    assert b"no pages" in luoser_command("extract", document, "-o", tmp_path / "x").stderr
    assert b"no pages" in luoser_command("hexdump", document, "luo").stderr


def test_it_may_begin_with_a_byte_order_mark(luoser_command: Run, document: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.json"
    marked.write_bytes(b"\xef\xbb\xbf" + document.read_bytes())
    assert luoser_command("pci", marked).stdout == luoser_command("pci", document).stdout


def test_another_document_is_refused(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"schema": "luoser/findings/2", "findings": []}')
    result = luoser_command("inspect", tmp_path / "x")
    assert (result.returncode, result.stdout) == (2, b"") and b"Traceback" not in result.stderr


def test_it_takes_no_more_memory_than_it_has_bytes(luoser_command: Run, tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    place.write_text('{"schema": ')
    with held(8 << 20):
        assert b"invalid JSON" in luoser_command("inspect", place).stderr
    found = luoser_command("inspect", place, "--limit", "spec_size=5").stderr
    assert b"file too large: expected at most 5 bytes, found 11; --limit spec_size=N" in found


def test_it_is_text(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b'{"schema":\n"\xff"}')
    assert b"line 2, column 2: expected UTF-8, found byte 0xff" in luoser_command("map", tmp_path / "state.json").stderr
