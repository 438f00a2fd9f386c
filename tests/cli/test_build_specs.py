# SPDX-License-Identifier: MIT
"""The shipped descriptions make what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
