# SPDX-License-Identifier: MIT
"""The golden files are what their script makes, and its lists are of layouts that luoser knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luoser.abi.pci import LAYOUTS, PciLayout, layout
from tests import golden, real


def on_disk(root: Path) -> dict[str, bytes]:
    return {
        place.relative_to(root).as_posix(): place.read_bytes()
        for place in sorted(root.rglob("*"))
        if place.is_file() and place.name != "README.md"
    }


def test_the_script_remakes_the_files_byte_for_byte(tmp_path: Path) -> None:
    code = "import pathlib, sys; from tests import golden; golden.main(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=real.ROOT)
    shipped = on_disk(golden.GOLDEN)
    made_by_build = {name for name in shipped if str(name).split("/")[0] in ("lists", "luo")}
    assert on_disk(tmp_path) == {name: data for name, data in shipped.items() if name not in made_by_build}


def test_no_list_is_of_a_layout_that_luoser_does_not_know() -> None:
    assert [name for name in golden.FORMS if layout(name) is None] == []


@pytest.mark.parametrize("form", LAYOUTS, ids=lambda form: form.name)
def test_list_is_made_apart_from_its_layout(form: PciLayout) -> None:
    if form.name not in golden.FORMS:
        pytest.skip("a layout that nobody has written down apart from the code yet")
    assert (form.name in golden.BLOCK_FORMS) == (form.blocks is not None)
    assert (golden.FORMS[form.name].bus is not None) == (form.bus is not None)


def test_the_writer_makes_the_bytes_of_the_log() -> None:
    devices = [
        golden.Dev(domain=0, bdf=0x0501, flags=1, driver=b"pci-lu-stub", data=0x1AC6F4000),
        golden.Dev(domain=0, bdf=0x0408, flags=2, driver=b"pcieport"),
    ]
    assert golden.FORMS["pci-lu-v2-06"].blob(devices) == golden.CATALOGUE["pci-folio.bin"]
    newest = golden.FORMS["pci-version-2"]
    assert newest.blob(devices, first=0x1F1D29000) == golden.CATALOGUE["pci-version-2.bin"]
    assert newest.block_page(devices) == golden.CATALOGUE["pci-version-2.block.bin"]


def test_the_files_name_no_place_of_a_machine() -> None:
    text = (golden.GOLDEN / "README.md").read_text() + Path(golden.__file__).read_text()
    assert not any(place in text for place in ("/work/", "/home/", "/tmp/"))
