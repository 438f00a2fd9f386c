# SPDX-License-Identifier: MIT
"""Options of `luoser build`: none is silently without effect."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.real import ROOT

LIST = str(ROOT / "fixtures/specs/pci-cover-letter.toml")
HANDOVER = str(ROOT / "fixtures/specs/handover.toml")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([LIST, "--kernel", "foo"], "unknown kernel foo"),
        ([LIST, "--kernel", "7.2"], "--kernel is for a SPEC with handovers"),
        ([HANDOVER, "--kernel", "foo"], "unknown kernel foo"),
        ([LIST, "--layout", "pci-lu-v2-03"], "SPEC has pci-lu-v2-06"),
        ([LIST, "--layout", "pci-lu-v2-03", "--mutate", "PCI003"], "SPEC has pci-lu-v2-06"),
        ([HANDOVER, "--layout", "pci-v1-nr"], "--layout pci-v1-nr: SPEC has"),
        ([LIST, "--machine", "arm64"], "--machine is for a whole image"),
        ([LIST, "--base", "0x1000000"], "--base is for"),
        ([LIST, "--name", "x"], "--name is the name of an array in C"),
        ([HANDOVER, "--pad"], "--pad is for a blob"),
        ([HANDOVER, "--format", "c"], "--format c is for one blob"),
        ([LIST, "--format", "elf"], "SPEC is a bare blob"),
        ([LIST, "--all-mutations", "there"], "expected SPEC and -o FILE"),
        ([LIST, "--list-mutations", "luo-v5"], "--list-mutations LAYOUT needs nothing else"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    luoser_command: Run, tmp_path: Path, arguments: list[str], word: str
) -> None:
    result = luoser_command("build", "-o", tmp_path / "out", *arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert word in result.stderr.decode()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], [LIST], ["-o", "x"]])
def test_what_is_missing_is_named(luoser_command: Run, arguments: list[str]) -> None:
    result = luoser_command("build", *arguments)
    assert (result.returncode, result.stdout) == (2, b"") and b"expected SPEC and -o FILE" in result.stderr


@pytest.mark.parametrize("arguments", [[LIST], [LIST, "--format", "kunit"], [HANDOVER], [HANDOVER, "--format", "raw"]])
def test_standard_output_has_the_bytes_of_a_file(luoser_command: Run, tmp_path: Path, arguments: list[str]) -> None:
    assert luoser_command("build", *arguments, "-o", tmp_path / "out").returncode == 0
    result = luoser_command("build", *arguments, "-o", "-")
    assert (result.returncode, result.stdout) == (0, (tmp_path / "out").read_bytes())


def test_an_image_is_compressed_as_its_name_says(luoser_command: Run, tmp_path: Path) -> None:
    luoser_command("build", HANDOVER, "-o", tmp_path / "x.elf")
    assert luoser_command("build", HANDOVER, "-o", tmp_path / "x.elf.xz").returncode == 0
    assert lzma.decompress((tmp_path / "x.elf.xz").read_bytes()) == (tmp_path / "x.elf").read_bytes()


@pytest.mark.parametrize(
    ("kernel", "where", "layout", "size"),
    [
        ("7.1", "luo", "luo_v1", 0),
        ("7.3", "preserved", "kho_radix_node", 4096),
        ("6.18", "preserved", "kho_chunk", 4096),
    ],
)
def test_nodes_whose_layout_the_state_names(
    luoser_command: Run, tmp_path: Path, kernel: str, where: str, layout: str, size: int
) -> None:
    """Of LUO as a devicetree, in a form that is no layout of its own, and of the first page of a map."""
    spec = tmp_path / "spec.toml"
    spec.write_text("[[handovers]]\nmemblock.reservations = [{ name = 'trace', size = '1M' }]\n")
    result = luoser_command("build", spec, "--kernel", kernel, "--blob", where, "-o", "-", "--format", "c")
    assert result.returncode == 0, result.stderr
    assert f"static const u8 {layout}[{size or ''}" in result.stdout.decode()


def test_a_struct_of_a_page_of_another_size_is_refused(luoser_command: Run, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text("source.page_size = 65536\n[[handovers]]\nluo = false\n")
    result = luoser_command("build", spec, "--blob", "preserved", "-o", tmp_path / "out")
    assert result.returncode == 2
    assert b"preserved: kho-radix-node is known for pages of 4 KiB only, found 65536 bytes" in result.stderr


def test_a_negative_says_how_check_finds_it(luoser_command: Run, tmp_path: Path) -> None:
    """Padding of one device that is not zero reads as a list of another layout, in which nothing is wrong."""
    spec, image = tmp_path / "spec.toml", tmp_path / "bad.elf"
    spec.write_text(
        '[[handovers]]\n[[handovers.pci]]\nlayout = "pci-lu-v2-03"\ndevices = [{bdf = "0000:01:00.0", flags = 1}]\n'
    )
    result = luoser_command("build", spec, "-o", image, "--mutate", "PCI006")
    assert b"`luoser check --layout pci-lu-v2-03` finds PCI006; without it another layout" in result.stderr
    assert b"PCI006" not in luoser_command("check", image).stdout
    assert b"PCI006" in luoser_command("check", image, "--layout", "pci-lu-v2-03").stdout
    assert b"--layout" not in luoser_command("build", spec, "-o", tmp_path / "2", "--mutate", "MAP003").stderr
