# SPDX-License-Identifier: MIT
"""The committed dumps of one handover in every format: remade, read by luoser, and read by drgn."""

from __future__ import annotations

import gzip
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard

import luoser
from luoser.checks import Verdict, check
from luoser.errors import MissingMemory, PageState
from luoser.memory.open import FORMATS
from luoser.memory.source import Memory
from luoser.state import MapStatus, to_document
from tests import formats, real
from tests.memory import writers
from tests.memory.images import Load, core, note
from tests.memory.writers import PAGE
from tests.writer.helpers import built

SPLIT = {part for parts in formats.SETS.values() for part in parts}
NAMES = sorted(file.name.removesuffix(".xz") for file in formats.FORMATS.glob("*.xz"))
KINDS = sorted({*NAMES, *formats.SETS} - SPLIT)
each_kind = pytest.mark.parametrize("kind", KINDS)


def files(kind: str) -> list[Path]:
    return [formats.FORMATS / f"{name}.xz" for name in formats.SETS.get(kind, (kind,))]


@cache
def remade() -> dict[str, bytes]:
    return formats.files()


def document(memory: Memory) -> dict[str, Any]:
    found = to_document(luoser.read(memory, contents=True), full=True)
    del found["source"]
    return found


def test_there_is_a_file_of_every_format() -> None:
    assert sorted(remade()) == NAMES
    assert all(file.stat().st_size <= 60 << 10 for kind in KINDS for file in files(kind))


def test_every_magic_that_is_recognised_is_that_of_a_file() -> None:
    assert [magics for magics, _ in FORMATS if not any(data.startswith(magics) for data in remade().values())] == []


@pytest.mark.parametrize("name", NAMES)
def test_remaking_gives_the_same_bytes(name: str) -> None:
    is_same = lzma.decompress((formats.FORMATS / f"{name}.xz").read_bytes()) == remade()[name]
    for library, version in formats.libraries(name).items():
        if not is_same and version != formats.MADE_WITH[library]:
            pytest.skip(f"made with {library} {formats.MADE_WITH[library]}, here is {version}")
    assert is_same


def test_the_script_writes_what_it_makes(tmp_path: Path) -> None:
    formats.main(tmp_path, only=["kdump-split-2"])
    (file,) = tmp_path.iterdir()
    assert (file.name, lzma.decompress(file.read_bytes())) == ("kdump-split-2.xz", remade()["kdump-split-2"])


@each_kind
def test_every_format_gives_the_same_document(kind: str) -> None:
    with luoser.open(*files(kind)) as memory:
        assert memory.format == kind.partition("-")[0]
        assert memory.remarks == []
        assert bool(memory.vmcoreinfo) == (kind not in formats.OF_RANGES)
        assert document(memory) == document(real.dump(formats.SOURCE))


@each_kind
def test_every_format_holds_the_pages_and_no_others(kind: str) -> None:
    with luoser.open(*files(kind)) as memory:
        for start, data in formats.runs():
            assert memory.read(start, len(data)) == data
        state = PageState.EXCLUDED if kind.startswith("kdump") else PageState.ABSENT
        for frame in formats.left_out():
            with pytest.raises(MissingMemory) as caught:
                memory.read(frame * PAGE, PAGE)
            assert caught.value.state is memory.page_state(frame * PAGE) is state


def drgn_programs(kind: str, tmp_path: Path) -> list[Any]:
    """A program for each file: drgn opens one file at a time."""
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    programs = []
    for file in files(kind):
        core = tmp_path / file.stem
        core.write_bytes(lzma.decompress(file.read_bytes()))
        programs.append(drgn.Program())
        programs[-1].set_core_dump(core)
    return programs


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=f"{kind} drgn cannot open" if kind in formats.OF_RANGES else kind) for kind in KINDS],
)
def test_drgn_reads_the_same_pages(tmp_path: Path, kind: str) -> None:
    if kind in formats.OF_RANGES:
        pytest.skip("drgn reads ELF and kdump files")
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    programs = drgn_programs(kind, tmp_path)

    def read(frame: int) -> set[bytes]:
        """What the files hold of a page, each of the parts that has it."""
        found = set()
        for program in programs:
            try:
                found.add(program.read(frame * PAGE, PAGE, physical=True))
            except drgn.FaultError:
                continue
        return found

    assert {frame: read(frame) for frame in formats.pages()} == {
        frame: {data} for frame, data in formats.pages().items()
    }
    if kind != "elf-flat":  # there libkdumpfile makes zeros of a page between two segments
        assert [frame for frame in formats.left_out() if read(frame)] == []
    assert all(
        program["UTS_RELEASE"].string_().decode() == real.dump(formats.SOURCE).vmcoreinfo["OSRELEASE"]
        for program in programs
        if kind == "elf"
    )


# -- other page sizes ----------------------------------------------------------------------------------------

SIZES = (4096, 16384, 65536)


@cache
def built_runs(size: int) -> tuple[tuple[int, bytes], ...]:
    """The memory of one handover with pages of this size, as `build` writes it."""
    memfds = [{"memfd": {"size": "192K"}}, {"token": 7, "memfd": {"size": "1M", "seals": ["SHRINK"]}}]
    spec = {
        "source": {"page_size": size},
        "handovers": [
            {
                "memblock": {"reservations": [{"name": "trace", "size": "1M"}]},
                "luo": {"sessions": [{"name": "vm", "files": memfds}]},
                "pci": [{"layout": "pci-lu-v2-03", "devices": [{"bdf": "0000:05:00.1", "flags": 1}]}],
            }
        ],
    }
    return tuple(built(spec)[1].runs())


@cache
def written(size: int) -> dict[str, tuple[bytes, ...]]:
    """The files of each format. A kdump has blocks of the kernel's page size, as makedumpfile writes them."""
    runs = built_runs(size)
    pages = {(start + at) // size: data[at : at + size] for start, data in runs for at in range(0, len(data), size)}
    info = f"OSRELEASE=7.3.0\nPAGESIZE={size}\n".encode()
    shared: dict[str, Any] = {"vmcoreinfo": info, "block": size}
    packs = ("plain", "zlib", "lzo", "snappy", "zstd")
    made = {f"kdump-{pack}": (writers.kdump(pages, pack=pack, **shared),) for pack in packs}
    frames = sorted(pages)
    bounds = [0, frames[len(frames) // 2], frames[-1] + 1]
    made["kdump-split"] = tuple(writers.kdump_set(pages, bounds, **shared))
    made["kdump-split-flat"] = tuple(writers.flattened(part) for part in made["kdump-split"])
    made["kdump-flat"] = (writers.flattened(made["kdump-zlib"][0], piece=16384, zeros=True),)
    notes = note("CORE", bytes(336), 1) + note("VMCOREINFO", info)
    made["elf"] = (core(*(Load(start, data) for start, data in runs), notes=notes),)
    made["elf-flat"] = (writers.flattened(made["elf"][0], piece=65536, zeros=True),)
    made |= {name: (write(runs),) for name, write in formats.OF_RANGES.items()}
    made["vmware"] = writers.vmware(runs)
    image = bytearray(max(start + len(data) for start, data in runs))
    for start, data in runs:
        image[start : start + len(data)] = data
    made["raw"] = (bytes(image),)
    made["elf.gz"] = (gzip.compress(made["elf"][0], 1),)
    made["raw.zst"] = (zstandard.ZstdCompressor().compress(made["raw"][0]),)
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", sorted(written(4096)))
def test_every_format_at_every_page_size_is_one_document(kind: str, size: int, tmp_path: Path) -> None:
    names = [tmp_path / str(number) for number in range(len(written(size)[kind]))]
    for name, data in zip(names, written(size)[kind], strict=True):
        name.write_bytes(data)
    (tmp_path / "elf").write_bytes(written(size)["elf"][0])
    with luoser.open(*names) as memory, luoser.open(tmp_path / "elf") as reference:
        state, wanted = luoser.read(memory, contents=True), luoser.read(reference, contents=True)
        assert state.source.page_size == wanted.source.page_size == size
        (one,) = state.handovers
        assert one.preserved.status is MapStatus.INTACT and one.luo is not None and one.luo.sessions and one.pci
        found, expected = (to_document(found, full=True)["handovers"] for found in (state, wanted))
        assert found == expected
        assert check(state).verdict is Verdict.SOUND
