# SPDX-License-Identifier: MIT
"""Commands on a program print what the command line prints of its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from luoser.drgn import luo
from luoser.errors import SourceError, UsageError
from tests import real
from tests.conftest import Run
from tests.drgn.programs import core, custom, drgn, unpacked

SECONDS = re.compile(r'(?<="seconds": )[0-9.]+')


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(real.path("7.3-a/frozen"), tmp_path_factory.mktemp("core"))


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["inspect", "--full", "--format", "json"],
        ["check"],
        ["check", "--select", "MAP", "--format", "json"],
        ["check", "--format", "junit"],
        ["check", "--format", "github"],
        ["check", "--select", "nope", "--format", "junit"],
        ["inspect", "--root", "0x1000", "--format", "jsonl"],
        ["map"],
        ["pci", "--format", "line"],
        ["hexdump", "luo.sessions[0]"],
    ],
    ids=" ".join,
)
def test_a_command_prints_what_the_command_line_prints(
    path: Path, words: list[str], luoser_command: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    name, *rest = words
    wanted = luoser_command(name, str(path), *rest)
    capfd.readouterr()
    code = luo(core(path), *words)
    found, expected = (SECONDS.sub("", text) for text in (capfd.readouterr().out, wanted.stdout.decode()))
    assert found == expected
    assert code == wanted.returncode


def test_a_tree_is_inspect(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prog, shown = core(path), []
    for name in ("tree", "inspect"):
        assert luo(prog, name, "--summary") == 0
        shown.append(capfd.readouterr().out)
    assert shown[0] == shown[1] and "KHO root" in shown[0]


def test_a_difference_is_from_the_program_to_a_file(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert luo(core(path), "diff", str(real.path("7.3-a/post"))) in (0, 1, 4)
    assert capfd.readouterr().out


def test_ram_can_be_said(capfd: pytest.CaptureFixture[str]) -> None:
    one = real.dump("7.3-a/frozen")
    prog = custom(one)
    with pytest.raises(SourceError, match="say it with --map START:LENGTH@0"):
        luo(prog, "check")
    words = [word for part in one.segments for word in ("--map", f"{part.start:#x}:{part.size:#x}@0")]
    assert luo(prog, "pci", *words) == 0
    assert "0000:" in capfd.readouterr().out


@pytest.mark.parametrize(
    "words", [["--pause"], ["--raw"], ["more.elf"], ["--format", "junit", "more.elf"]], ids=" ".join
)
def test_what_is_not_for_a_debugger_is_refused(path: Path, words: list[str]) -> None:
    with pytest.raises(UsageError, match="debugger"):
        luo(core(path), "check", *words)


def test_a_kernel_without_kho_has_exit_code_3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.set_linux_kernel_custom(real.dump("7.3-a/frozen").info_note, False)
    prog.add_memory_segment(0, 1 << 20, lambda address, count, *_: bytes(count), True)
    assert luo(prog, "inspect", "--map", "0:1M@0") == 3
    assert "no KHO root" in capfd.readouterr().err


def test_the_core_is_not_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match="output and input are the same file"):
        luo(core(path), "extract", "-o", str(path), "--force")
    assert path.read_bytes() == before


def test_a_program_without_memory_is_an_error() -> None:
    program: Any = drgn.Program()
    with pytest.raises(SourceError, match="Linux kernel"):
        luo(program, "inspect")
