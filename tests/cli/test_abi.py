# SPDX-License-Identifier: MIT
"""`luoser abi verify` and `export`: sources, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luoser.kernel.subset import write_btf
from tests import real as dumps
from tests.conftest import Run
from tests.kernel import real
from tests.kernel.compiled import FILE, FILE_SER, btf, dwarf
from tests.kernel.made import Blob
from tests.schemas import errors

MOVED = FILE.replace(FILE_SER, FILE_SER.replace("\tu64 data;\n\tu64 token;\n", "\tu64 token;\n\tu64 data;\n"))


@pytest.mark.parametrize("moment", ["pre", "frozen", "finished"])
def test_a_dump_of_7_3_has_no_difference(moment: str, luoser_command: Run) -> None:
    done = luoser_command("abi", "verify", real.FIXTURES / f"{moment}.elf.xz", "--format", "json")
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert errors(document) == []
    assert {one["result"] for one in document["structs"]} == {"equal", "absent", "unknown"}


@pytest.mark.parametrize("output", ["text", "json", "ktap"])
def test_a_member_that_moved_is_exit_code_1(output: str, tmp_path: Path, luoser_command: Run) -> None:
    done = luoser_command("abi", "verify", "--btf", btf(tmp_path, MOVED), "--format", output)
    assert done.returncode == 1 and b"luo_file_ser" in done.stdout
    assert luoser_command("abi", "verify", "--btf", btf(tmp_path, FILE), "--format", output).returncode == 0


def test_dwarf_says_the_same(tmp_path: Path, luoser_command: Run) -> None:
    assert luoser_command("abi", "verify", "--btf", dwarf(tmp_path, MOVED)).returncode == 1
    assert luoser_command("abi", "verify", "--btf", dwarf(tmp_path, FILE)).returncode == 0


def test_a_dump_without_types_is_inconclusive(luoser_command: Run) -> None:
    done = luoser_command("abi", "verify", dumps.path("7.3-a/frozen"))
    assert done.returncode == 4 and done.stdout == b"" and b"give --btf FILE" in done.stderr


def test_a_kernel_without_kho_is_inconclusive(tmp_path: Path, luoser_command: Run) -> None:
    """Each kernel of x86-64 has struct setup_data."""
    types = real.running("pre").types
    assert types is not None
    (tmp_path / "btf").write_bytes(write_btf(types, types.named("setup_data")))
    done = luoser_command("abi", "verify", "--btf", tmp_path / "btf")
    assert done.returncode == 4 and b"nothing of a handover was compared" in done.stderr and b"1 equal" in done.stdout


@pytest.mark.parametrize("output", ["text", "json", "ktap"])
def test_types_with_nothing_to_compare_are_inconclusive(output: str, tmp_path: Path, luoser_command: Run) -> None:
    made = Blob()
    made.structure(b"foo", 4, (b"a", made.integer(b"int", 4), 0))
    (tmp_path / "btf").write_bytes(made.data())
    done = luoser_command("abi", "verify", "--btf", tmp_path / "btf", "--format", output)
    assert done.returncode == 4 and b"nothing of a handover was compared" in done.stderr and done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either --btf FILE or SOURCE"),
        (["--btf", "x", "y"], "expected either --btf FILE or SOURCE"),
        (["--base", "x", "y"], "--base is for a module that --btf names"),
        (["--btf", "none"], "No such file"),
        (["--btf", "README.md"], "expected BTF, or an ELF file with BTF or DWARF"),
    ],
)
def test_usage(arguments: list[str], message: str, luoser_command: Run) -> None:
    done = luoser_command("abi", "verify", *arguments)
    assert done.returncode not in (0, 1, 4) and message in done.stderr.decode()


@pytest.mark.parametrize(("form", "word"), [("c", b"struct luo_ser {"), ("kaitai", b"  id: luo_v5\n")])
def test_export_writes_one_layout_or_all(form: str, word: bytes, tmp_path: Path, luoser_command: Run) -> None:
    done = luoser_command("abi", "export", "--as", form, "luo-v5")
    assert (done.returncode, done.stderr) == (0, b"") and word in done.stdout
    both = luoser_command("abi", "export", "--as", form, "luo-v5", "luo-v2", "luo-v5")
    every = luoser_command("abi", "export", "--as", form)
    assert len(done.stdout) < len(both.stdout) < len(every.stdout)
    target = tmp_path / "made"
    assert luoser_command("abi", "export", "--as", form, "luo-v5", "-o", target).returncode == 0
    assert target.read_bytes() == done.stdout
    assert luoser_command("abi", "export", "--as", form, "-o", target).returncode == 2
    assert luoser_command("abi", "export", "--as", form, "-o", target, "--force").returncode == 0
    assert target.read_bytes() == every.stdout


def test_what_is_to_be_chosen_from_is_on_one_line(luoser_command: Run) -> None:
    assert b"'--as'. Choose from: c, kaitai\n" in luoser_command("abi", "export").stderr


def test_export_names_the_nearest_layout(luoser_command: Run) -> None:
    done = luoser_command("abi", "export", "--as", "c", "luo-v6")
    assert done.returncode == 2 and b"unknown layout 'luo-v6'" in done.stderr and b"luo-v5" in done.stderr
