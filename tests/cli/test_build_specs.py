# SPDX-License-Identifier: MIT
"""The shipped descriptions make what they say."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import luoser
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


@pytest.mark.parametrize("name", ["pci-version-2", "pci-v2-block", "pci-v2-u64", "pci-v2-u32"])
def test_a_device_without_a_refcount_is_in_use(name: str) -> None:
    """With 0 it would be a hole, or finished."""
    devices = [{"bdf": "0000:04:01.0"}, {"bdf": "0000:05:00.1"}]
    made = luoser.build({"handovers": [{"pci": [{"layout": name, "devices": devices}]}]})
    assert made.image is not None and made.differences == ()
    (found,) = luoser.read(made.image.memory()).handovers[0].pci
    assert [(device.name, device.number("refcount")) for device in found.devices] == [
        ("0000:04:01.0", 1),
        ("0000:05:00.1", 1),
    ]
    if "block" not in name and "version" not in name:
        blob = luoser.decode(luoser.build({"layout": name, "devices": devices}).data, name)
        assert blob.devices is not None and [device.number("refcount") for device in blob.devices] == [1, 1]


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


# -- for a kernel that boots --


INCOMING = '{"handovers": [{"direction": "incoming", "luo": {"sessions": [{"name": "vm", "files": [{}]}]}}]}'


@pytest.mark.parametrize(("machine", "base"), [("x86-64", 0x20000000), ("arm64", 0x60000000)])
def test_the_machine_says_where_an_image_is(luoser_command: Run, tmp_path: Path, machine: str, base: int) -> None:
    (tmp_path / "spec").write_text(INCOMING)
    out, words = tmp_path / "out", ("build", str(tmp_path / "spec"), "--machine", machine)
    made = luoser_command(*words, "-o", str(out))
    assert made.returncode == 0
    with luoser.open(out) as memory:
        (handover,) = luoser.read(memory).handovers
        assert min(part.start for part in memory.segments) >= base
        words_said = f"to boot with: root {handover.address:#x}, scratch array {handover.scratch_array:#x} of 32"
        assert words_said.encode() in made.stderr
    again = luoser_command(*words, "--base", "0x30000000", "-o", str(tmp_path / "other"))
    assert b"scratch array 0x34000000 of" in again.stderr


def test_what_a_kernel_is_told_is_written(luoser_command: Run, tmp_path: Path) -> None:
    spec, node, chosen = (str(tmp_path / name) for name in ("spec", "node", "chosen.dts"))
    Path(spec).write_text(INCOMING)
    for machine, option, target in (("x86-64", "--setup-data", node), ("arm64", "--chosen", chosen)):
        words = ("build", spec, "--machine", machine, "-o", str(tmp_path / machine))
        assert luoser_command(*words, option, target).returncode == 0
        other = "--chosen" if option == "--setup-data" else "--setup-data"
        refused = luoser_command(*words, other, str(tmp_path / "no"), "--force")
        assert (
            refused.returncode == 2 and f"{other} is for".encode() in refused.stderr and not (tmp_path / "no").exists()
        )
    told = struct.unpack("<QII4Q", Path(node).read_bytes())
    assert told[1:3] == (10, 32) and told[4:] == (4096, 0x24000000, 32)
    assert "linux,kho-fdt = <0x0 0x6" in Path(chosen).read_text()


def test_a_root_without_scratch_has_nothing_to_boot_with(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "spec").write_text('{"handovers": [{}]}')
    refused = luoser_command(
        "build", str(tmp_path / "spec"), "-o", str(tmp_path / "out"), "--setup-data", str(tmp_path / "n")
    )
    assert refused.returncode == 2 and b"expected one incoming root" in refused.stderr


def test_no_output_is_another_one_or_the_spec(luoser_command: Run, tmp_path: Path) -> None:
    spec, out = str(tmp_path / "spec"), str(tmp_path / "out")
    Path(spec).write_text(INCOMING)
    words = ("build", spec, "--machine", "arm64", "--force")
    same = luoser_command(*words, "-o", out, "--chosen", out)
    assert same.returncode == 2 and b"given as two outputs" in same.stderr and not Path(out).exists()
    over = luoser_command(*words, "-o", out, "--chosen", spec)
    assert over.returncode == 2 and b"are the same file" in over.stderr and Path(spec).read_text() == INCOMING
    Path(out).write_text("kept")
    there = luoser_command(*words[:-1], "-o", out, "--chosen", str(tmp_path / "chosen"))
    assert there.returncode == 2 and Path(out).read_text() == "kept" and not (tmp_path / "chosen").exists()


def test_decode_shows_what_a_setup_data_node_points_to(luoser_command: Run, tmp_path: Path) -> None:
    spec, node = str(tmp_path / "spec"), str(tmp_path / "node")
    Path(spec).write_text(INCOMING)
    assert luoser_command("build", spec, "-o", str(tmp_path / "out"), "--setup-data", node).returncode == 0
    shown = luoser_command("decode", node).stdout
    assert b"setup-data" in shown and b"fdt_size 0x1000" in shown and b"scratch_size 0x20" in shown
