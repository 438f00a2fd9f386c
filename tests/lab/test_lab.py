# SPDX-License-Identifier: MIT
"""Whole machines: dumps of 1 GiB by QEMU and makedumpfile, which are too large to be committed.

LUOSER_LAB names a directory with one directory per run of the lab: MOMENT.elf, MOMENT.raw and MOMENT.kdump-zlib
by QEMU's dump-guest-memory, MOMENT.elf-paging with paging=true, and crash/vmcore-* by makedumpfile after a panic;
in elf/ a copy of /proc/vmcore and makedumpfile's ELF dumps (-E -d 31, -F -E -d 31, -F -E -d 1, -F -c -d 31) of it.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import luoser
from luoser.cli.main import cli
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.extracts.core import write_core
from luoser.memory.elf import ElfMemory
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.state import to_document

LAB = os.environ.get("LUOSER_LAB")
if not LAB:
    pytest.skip("LUOSER_LAB names no directory with dumps of the lab", allow_module_level=True)
pytestmark = pytest.mark.slow
ROOT = Path(LAB)
PAGE = 4096
MAGIC = b"\xd0\x0d\xfe\xed"
MOMENTS = sorted(
    str(file.relative_to(ROOT).with_suffix("")) for file in ROOT.glob("*/*.elf") if file.with_suffix(".raw").exists()
)
CORES = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("*/*.elf"))
CRASHES = sorted(str(file.parent.relative_to(ROOT)) for file in ROOT.glob("*/crash/vmcore-zlib"))
each_moment = pytest.mark.parametrize("moment", MOMENTS or [pytest.param("", marks=pytest.mark.skip("no dumps"))])
each_crash = pytest.mark.parametrize("crash", CRASHES or [pytest.param("", marks=pytest.mark.skip("no vmcores"))])


def document(memory: Memory) -> dict[str, Any]:
    found = to_document(luoser.read(memory, contents=True), full=True)
    del found["source"]
    return found


@cache
def document_of(*names: str) -> dict[str, Any]:
    with luoser.open(*(ROOT / name for name in names)) as memory:
        return document(memory)


def pages_of(memory: Memory, count: int = 2000) -> list[int]:
    """Addresses of pages all over the memory, the same in every run, and those of devicetrees."""
    places = [page for part in memory.segments for page in range(part.start, part.end, PAGE)]
    return sorted({*random.Random(7).sample(places, min(count, len(places))), *memory.find_pages(MAGIC)})


def page(memory: Memory, address: int) -> bytes | PageState:
    try:
        return memory.read(address, PAGE)
    except MissingMemory as error:
        assert memory.page_state(address) is error.state
        return error.state


# -- QEMU's dumps of one moment ----------------------------------------------------------------------------


@each_moment
def test_qemu_elf_and_kdump_give_the_same_document(moment: str) -> None:
    assert document_of(f"{moment}.kdump-zlib") == document_of(f"{moment}.elf")
    assert document_of(f"{moment}.elf")["handovers"]


@each_moment
def test_qemu_raw_gives_the_same_document(moment: str) -> None:
    raw, elf = document_of(f"{moment}.raw"), document_of(f"{moment}.elf")
    assert raw["handovers"] == elf["handovers"]
    assert raw["problems"] == elf["problems"]


@each_moment
def test_qemu_dumps_hold_the_same_bytes(moment: str) -> None:
    with (
        luoser.open(ROOT / f"{moment}.elf") as elf,
        luoser.open(ROOT / f"{moment}.raw") as raw,
        luoser.open(ROOT / f"{moment}.kdump-zlib") as kdump,
    ):
        assert (elf.format, raw.format, kdump.format) == ("elf", "raw", "kdump")
        assert kdump.remarks == []
        end = raw.segments[-1].end
        for address in pages_of(elf):
            assert kdump.read(address, PAGE) == elf.read(address, PAGE)
            if address < end:
                assert raw.read(address, PAGE) == elf.read(address, PAGE)
        trees = list(elf.find_pages(MAGIC))
        assert list(kdump.find_pages(MAGIC)) == trees
        assert list(raw.find_pages(MAGIC)) == [address for address in trees if address < end]
        assert dict(kdump.vmcoreinfo) == dict(elf.vmcoreinfo)
        assert elf.vmcoreinfo


# -- makedumpfile's dumps of one panic ---------------------------------------------------------------------


def descriptors(file: Path) -> dict[int, tuple[int, int]]:
    """(offset, size) of the data of each frame in a kdump file of version 6: seen without luoser."""
    data = file.read_bytes()
    block, sub_blocks, bitmap_blocks = struct.unpack_from("<iiI", data, 428)
    (split,), (first, last) = struct.unpack_from("<i", data, block + 12), struct.unpack_from("<QQ", data, block + 80)
    bitmap = (1 + sub_blocks + bitmap_blocks // 2) * block
    place = (1 + sub_blocks + bitmap_blocks) * block
    frames = [
        frame
        for frame in range(8 * (place - bitmap))
        if data[bitmap + (frame >> 3)] >> (frame & 7) & 1 and (not split or first <= frame < last)
    ]
    table = struct.iter_unpack("<qIIQ", data[place : place + 24 * len(frames)])
    return {frame: (offset, size) for frame, (offset, size, _, _) in zip(frames, table, strict=True)}


def is_whole(file: Path) -> bool:
    """Whether the last page's data is at the end of a kdump file."""
    ends = [place + size for place, size in descriptors(file).values()]
    return all(ends) and max(ends, default=0) == file.stat().st_size


def split_files(crash: str) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in sorted((ROOT / crash).glob("vmcore-split-*"))]


@cache
def is_split_whole(crash: str) -> bool:
    return all(is_whole(ROOT / name) for name in split_files(crash))


def crash_files(crash: str) -> dict[str, list[str]]:
    """Whole dumps by name; a set of split files is one of them, if it is whole."""
    found = {
        file.name: [str(file.relative_to(ROOT))]
        for file in sorted((ROOT / crash).glob("vmcore-*"))
        if "-split-" not in file.name
    }
    return found | ({"split": split_files(crash)} if is_split_whole(crash) else {})


@each_crash
def test_crash_dumps_give_the_same_document(crash: str) -> None:
    wanted = document_of(f"{crash}/vmcore-zlib")
    assert wanted["handovers"]
    for name, files in crash_files(crash).items():
        assert document_of(*files) == wanted, name
    for name, files in crash_files(crash).items():
        if name == "split":
            assert document_of(*files[::-1]) == wanted


@each_crash
def test_crash_dumps_hold_the_same_bytes(crash: str) -> None:
    with luoser.open(ROOT / crash / "vmcore-zlib") as first:
        pages, trees = pages_of(first), list(first.find_pages(MAGIC))
        wanted = [page(first, address) for address in pages]
        assert PageState.EXCLUDED in wanted and any(isinstance(data, bytes) and any(data) for data in wanted)
        for files in crash_files(crash).values():
            with luoser.open(*(ROOT / name for name in files)) as memory:
                assert [page(memory, address) for address in pages] == wanted, files
                assert list(memory.find_pages(MAGIC)) == trees
                assert memory.segments == first.segments
                assert dict(memory.vmcoreinfo) == dict(first.vmcoreinfo)
                assert memory.remarks == []


@each_crash
def test_page_that_the_dump_level_drops_is_excluded(crash: str) -> None:
    with luoser.open(ROOT / crash / "vmcore-zlib") as memory:
        states = {memory.page_state(address) for address in pages_of(memory)}
        assert states == {PageState.EXCLUDED, PageState.PRESENT}
        lost = next(address for address in pages_of(memory) if memory.page_state(address) is PageState.EXCLUDED)
        with pytest.raises(MissingMemory) as caught:
            memory.read(lost + 8, 8)
        assert (caught.value.address, caught.value.state) == (lost, PageState.EXCLUDED)


@each_crash
def test_one_part_of_a_split_dump_says_what_it_is(crash: str) -> None:
    if not is_split_whole(crash):
        pytest.skip("the split files of this run are incomplete")
    for name in split_files(crash):
        with luoser.open(ROOT / name) as memory:
            assert any("split" in remark for remark in memory.remarks)
            assert PageState.ABSENT in {memory.page_state(address) for address in pages_of(memory)}


@each_crash
def test_split_dump_that_ran_out_of_space_says_so(crash: str) -> None:
    """makedumpfile had no room left: the bitmap names pages whose descriptors were never written."""
    if is_split_whole(crash):
        pytest.skip("the split files of this run are whole")
    files = split_files(crash)
    lost = {frame for name in files for frame, (place, size) in descriptors(ROOT / name).items() if not place + size}
    assert lost
    with luoser.open(*(ROOT / name for name in files)) as memory:
        assert any(f"page frame {min(lost):#x} " in remark for remark in memory.remarks)
        assert any("its own header" in remark for remark in memory.remarks)
        for frame in lost:
            assert page(memory, frame * PAGE) is PageState.ABSENT
        for address in pages_of(memory):
            page(memory, address)


@each_crash
def test_parts_of_two_panics_are_refused(crash: str) -> None:
    """The same machine and kernel, booted twice: their split files do not belong together."""
    others = [name for name in CRASHES if name != crash]
    if not others or not split_files(crash) or not split_files(others[0]):
        pytest.skip("the lab has split files of one run only")
    with pytest.raises(SourceError, match="not of the same set"):
        luoser.open(ROOT / split_files(crash)[0], ROOT / split_files(others[0])[1])


@each_crash
def test_cut_vmcore_says_so_and_gives_true_bytes(tmp_path: Path, crash: str) -> None:
    whole = (ROOT / crash / "vmcore-zlib").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) * 2 // 3])
    with luoser.open(ROOT / crash / "vmcore-zlib") as sound, luoser.open(tmp_path / "cut") as memory:
        assert any("truncated" in remark for remark in memory.remarks)
        held = 0
        for address in pages_of(sound):
            found = page(memory, address)
            assert found == page(sound, address) or found is PageState.ABSENT
            held += isinstance(found, bytes)
        assert held
        luoser.read(memory)


# -- ELF cores that map memory twice, or leave some out ----------------------------------------------------

PAGINGS = sorted(str(file.relative_to(ROOT).with_suffix("")) for file in ROOT.glob("*/*.elf-paging"))
VMCORES = sorted(str(file.parent.relative_to(ROOT)) for file in ROOT.glob("*/elf/makedumpfile-E"))


@pytest.mark.parametrize("moment", PAGINGS or [pytest.param("", marks=pytest.mark.skip("no dumps with paging"))])
def test_qemu_dump_with_paging_is_the_same_machine(moment: str) -> None:
    with luoser.open(ROOT / f"{moment}.elf") as plain, luoser.open(ROOT / f"{moment}.elf-paging") as paging:
        assert paging.remarks == []
        assert len(paging.segments) < 10
        for address in pages_of(paging):
            assert page(paging, address) == page(plain, address)
        assert list(paging.find_pages(MAGIC)) == list(plain.find_pages(MAGIC))
    assert document_of(f"{moment}.elf-paging") == document_of(f"{moment}.elf")


each_vmcore = pytest.mark.parametrize("vmcore", VMCORES or [pytest.param("", marks=pytest.mark.skip("no ELF vmcores"))])


@each_vmcore
def test_copy_of_proc_vmcore_says_nothing_of_its_two_texts(vmcore: str) -> None:
    with luoser.open(ROOT / vmcore / "vmcore") as memory:
        assert memory.remarks == []
    assert document_of(f"{vmcore}/vmcore")["handovers"]


@each_vmcore
@pytest.mark.parametrize("name", ["makedumpfile-E", "makedumpfile-FE", "makedumpfile-FE1", "makedumpfile-Fc"])
def test_makedumpfile_elf_holds_true_bytes_and_calls_the_rest_excluded(vmcore: str, name: str) -> None:
    """Not zeros: the pages that -d 31 leaves out are of any contents, which the copy of /proc/vmcore still has."""
    not_zero = 0
    with luoser.open(ROOT / vmcore / "vmcore") as whole, luoser.open(ROOT / vmcore / name) as memory:
        assert memory.remarks == []
        for address in pages_of(whole, 40_000):
            found, wanted = page(memory, address), whole.read(address, PAGE)
            assert found in (wanted, PageState.EXCLUDED), f"{address:#x}"
            not_zero += found is PageState.EXCLUDED and any(wanted)
    assert (not_zero > 0) == (name != "makedumpfile-FE1")
    assert document_of(f"{vmcore}/{name}") == document_of(f"{vmcore}/vmcore")


# -- drgn --------------------------------------------------------------------------------------------------

DRGN = [files[0] for crash in CRASHES for name, files in crash_files(crash).items() if name != "split"]


@pytest.mark.parametrize("name", DRGN)
def test_drgn_reads_the_same_bytes(name: str) -> None:
    drgn_compare(ROOT / name, name)


@each_moment
def test_drgn_reads_the_same_bytes_of_qemu_dumps(tmp_path: Path, moment: str) -> None:
    """QEMU leaves the kernel's name empty but for the machine, which libkdumpfile does not take: filled in a copy."""
    if shutil.which("makedumpfile") is None:
        pytest.skip("makedumpfile is not installed")
    with (ROOT / f"{moment}.kdump-zlib").open("rb") as source:
        subprocess.run(["makedumpfile", "-R", tmp_path / "copy"], stdin=source, check=True, capture_output=True)
    with (tmp_path / "copy").open("r+b") as file:
        for number, text in enumerate((b"Linux", b"lab", b"0", b"#1", b"x86_64", b"(none)")):
            file.seek(12 + 65 * number)
            file.write(text)
    drgn_compare(tmp_path / "copy", f"{moment}.kdump-zlib")


def drgn_compare(file: Path, name: str) -> None:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    program = drgn.Program()
    program.set_core_dump(str(file))
    with luoser.open(ROOT / name) as memory:
        compared = 0
        for address in pages_of(memory):
            found = page(memory, address)
            if isinstance(found, bytes):
                assert program.read(address, PAGE, physical=True) == found, f"{address:#x}"
                compared += 1
            else:
                with pytest.raises(drgn.FaultError):
                    program.read(address, PAGE, physical=True)
        assert compared


# -- extract -----------------------------------------------------------------------------------------------


def extracted(target: Path, *names: str) -> int:
    result = CliRunner().invoke(cli, ["extract", *(str(ROOT / name) for name in names), "-o", str(target)])
    assert result.exit_code == 0, result.output
    return target.stat().st_size


@pytest.mark.parametrize("name", CORES)
def test_cut_of_a_whole_machine_is_small_and_inspects_alike(tmp_path: Path, name: str) -> None:
    assert extracted(tmp_path / "cut", name) < 4 << 20
    with luoser.open(tmp_path / "cut") as memory:
        assert document(memory) == document_of(name)


@each_crash
def test_cut_of_a_vmcore_is_small_and_inspects_alike(tmp_path: Path, crash: str) -> None:
    assert extracted(tmp_path / "cut", f"{crash}/vmcore-zlib") < 4 << 20
    with luoser.open(tmp_path / "cut") as memory:
        assert document(memory) == document_of(f"{crash}/vmcore-zlib")


@each_crash
@pytest.mark.parametrize("seed", range(4))
def test_cut_of_a_vmcore_without_some_of_its_metadata_inspects_alike(crash: str, seed: int) -> None:
    """As if makedumpfile had dropped more: pages that the reading asks for are excluded, or not RAM."""
    rng = random.Random(seed)
    with luoser.open(ROOT / crash / "vmcore-zlib") as memory:
        first = Recorder(memory)
        luoser.read(first, contents=True)
        source = Overlay(memory)
        for address in rng.sample(sorted(first.pages), rng.choice([1, 8, len(first.pages) // 4])):
            source.remove(address, state=rng.choice([PageState.EXCLUDED, PageState.ABSENT]))
        second, file = Recorder(source), io.BytesIO()
        wanted = document(second)
        write_core(file, source, second.asked, answers=second.answers)
        cut = ElfMemory("cut", file.getvalue())
        assert document(cut) == wanted
        assert {page: cut.page_state(page) for page in second.missing} == second.missing


@pytest.mark.parametrize("name", [name for name in CORES if name.endswith("frozen.elf") and "6.1" not in name[:4]])
def test_memfds_come_out_whole(tmp_path: Path, name: str) -> None:
    for token, size in ((0x1A, 4 << 20), (0x1B, 64 << 10), (0x1C, 64 << 20)):
        target = tmp_path / f"{token:x}"
        result = CliRunner().invoke(
            cli, ["extract", str(ROOT / name), "-o", str(target), "--memfd", f"vm-web-01/{token:#x}"]
        )
        assert result.exit_code == 0, result.output
        assert target.stat().st_size == size
    data = (tmp_path / "1b").read_bytes()
    for offset in range(0, len(data), PAGE):
        assert data[offset:].startswith(b"memfd sealed offset %x\0" % offset)
