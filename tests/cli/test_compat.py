# SPDX-License-Identifier: MIT
"""`luoser compat` as it is run."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from tests import real
from tests.cli.test_cli import Run
from tests.schemas import errors


@pytest.mark.parametrize(("pair", "code"), [(("7.2", "7.3"), 0), (("6.19", "7.0"), 1), (("6.19", "6.18"), 1)])
def test_exit_codes(luoser_command: Run, pair: tuple[str, str], code: int) -> None:
    assert luoser_command("compat", *pair).returncode == code


def test_the_message_of_the_next_kernel_is_shown(luoser_command: Run) -> None:
    said = luoser_command("compat", "7.1", "7.2").stdout
    assert b"disabling KHO revival" in said and b"no: the live update fails" in said


def test_a_dump_and_a_release(luoser_command: Run) -> None:
    result = luoser_command("compat", real.path("7.3-a/frozen"), "7.2", "--format", "json")
    document = json.loads(result.stdout)
    assert errors(document) == []
    assert (result.returncode, document["verdict"], document["from"]["page_size"]) == (0, "works", 4096)


def test_a_dump_out_of_a_pipe_is_read_whole(luoser_command: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dump")
    data = Path(real.path("7.3-a/frozen")).read_bytes()
    writer = threading.Thread(target=(tmp_path / "dump").write_bytes, args=(data,), daemon=True)
    writer.start()
    result = luoser_command("compat", str(tmp_path / "dump"), "7.3", "--timeout", "60")
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_pipe_without_an_end_is_given_up(luoser_command: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dump")
    held = os.open(tmp_path / "dump", os.O_RDWR)
    try:
        result = luoser_command("compat", str(tmp_path / "dump"), "7.3", "--timeout", "1")
    finally:
        os.close(held)
    assert result.returncode == 2 and b"not read within 1 s" in result.stderr


def test_text_has_all_that_is_compared(luoser_command: Run) -> None:
    text = luoser_command("compat", real.path("7.3-a/frozen"), "7.3").stdout.decode()
    assert "sub-trees LUO kexec-metadata kho_test memblock pci-luo-lab," in text
    assert "FLBs at least liveupdate-test-flb-v0 " in text and "FLBs not known" in text
    assert "lost     subtree: nobody claims sub-tree pci-luo-lab" in text, "as the rule flb-unclaimed says"


@pytest.mark.parametrize(
    "arguments",
    [[], ["7.3"], ["7.3", "--matrix"], ["--matrix", "--format", "json"], ["7.3", "nothing-there"], ["9.9", "7.3"]],
)
def test_what_cannot_be_compared_is_refused(luoser_command: Run, arguments: list[str]) -> None:
    result = luoser_command("compat", *arguments)
    assert result.returncode == 2 and result.stderr


def test_the_page_of_the_docs_is_what_the_command_prints(luoser_command: Run) -> None:
    assert luoser_command("compat", "--matrix").stdout.decode() == (real.ROOT / "docs" / "compat.md").read_text()
