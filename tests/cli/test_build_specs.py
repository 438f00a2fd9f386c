# SPDX-License-Identifier: MIT
"""The shipped descriptions make what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.cli.test_cli import Run
from tests.golden import GOLDEN
from tests.real import ROOT

SPECS = ROOT / "fixtures" / "specs"


def test_the_list_of_the_cover_letter_is_168_bytes(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("build", SPECS / "pci-cover-letter.toml", "-o", tmp_path / "folio")
    assert (result.returncode, result.stderr) == (0, b"")
    made = (tmp_path / "folio").read_bytes()
    assert len(made) == 168 and made == (GOLDEN / "pci-folio.bin").read_bytes()[:168]


def test_padded_it_is_its_folio(luoser_command: Run, tmp_path: Path) -> None:
    luoser_command("build", SPECS / "pci-cover-letter.toml", "-o", tmp_path / "folio", "--pad")
    made = (tmp_path / "folio").read_bytes()
    assert len(made) == 4096 and not any(made[168:])


@pytest.mark.parametrize("kernel", ["7.2", "7.3"])
def test_the_handover_is_clean(luoser_command: Run, tmp_path: Path, kernel: str) -> None:
    place = tmp_path / "handover.elf"
    result = luoser_command("build", SPECS / "handover.toml", "-o", place, "--kernel", kernel)
    assert (result.returncode, result.stderr) == (0, b"")
    checked = luoser_command("check", place, "--format", "json", "--severity", "warning")
    assert (checked.returncode, json.loads(checked.stdout)["findings"]) == (0, [])


def test_the_page_on_building_shows_the_shipped_list() -> None:
    text = (SPECS / "pci-cover-letter.toml").read_text().partition("\n")[2]
    assert text in (ROOT / "docs" / "building.md").read_text()


PAGES = """
[source]
page_size = {size}

[[handovers]]
memblock.reservations = [{{ name = "trace", size = "1M" }}]

[[handovers.luo.sessions]]
name = "vm"
files = [{{ token = 1, memfd = {{ size = "192K" }} }}, {{ token = 2 }}]

[[handovers.pci]]
layout = "pci-lu-v2-03"
devices = [{{ bdf = "0000:05:00.1", flags = ["LU_BUSMASTER"] }}]
"""


@pytest.mark.parametrize("size", [4096, 16384, 65536])
@pytest.mark.parametrize("form", ["elf", "raw"])
def test_an_image_of_each_page_size_reads_back(luoser_command: Run, tmp_path: Path, size: int, form: str) -> None:
    (tmp_path / "spec.toml").write_text(PAGES.format(size=size))
    place = tmp_path / "image"
    result = luoser_command("build", tmp_path / "spec.toml", "-o", place, "--format", form)
    assert (result.returncode, result.stderr) == (0, b"")
    checked = json.loads(luoser_command("check", place, "--format", "json").stdout)
    assert (checked["verdict"], checked["source"]["page_size"]) == ("sound", size)
    shown = luoser_command("inspect", place, "--full", "--contents", "--format", "json")
    (tmp_path / "again.json").write_bytes(shown.stdout)
    result = luoser_command("build", tmp_path / "again.json", "-o", tmp_path / "again", "--format", form)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (tmp_path / "again").read_bytes() == place.read_bytes()


def test_the_segments_of_an_image_are_whole_pages(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(PAGES.format(size=65536))
    luoser_command("build", tmp_path / "spec.toml", "-o", tmp_path / "image")
    with (tmp_path / "image").open("rb") as file:
        elf = ELFFile(file)
        loads = [part.header for part in elf.iter_segments("PT_LOAD")]
        notes = [note["n_name"] for part in elf.iter_segments("PT_NOTE") for note in part.iter_notes()]
    assert loads and all(load.p_paddr % 65536 == 0 and load.p_memsz % 65536 == 0 for load in loads)
    assert "VMCOREINFO" in notes
