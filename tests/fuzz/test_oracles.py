# SPDX-License-Identifier: MIT
"""What luoser accepts of damaged files, others accept, too: xz, gzip, dtc, libfdt and pyelftools."""

from __future__ import annotations

import ctypes
import io
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import luoser
from luoser.errors import FormatError, LuoserError
from luoser.fdt import parse
from tests.fuzz.containers import CONTAINERS, elf_places, packed
from tests.golden import GOLDEN
from tests.images import Image
from tests.test_fdt import libfdt, needs_libfdt

pytestmark = pytest.mark.slow
ROUNDS = 100


def spans() -> list[tuple[int, bytes]]:
    image = Image(pages=24)
    image.handover()
    return [(0x100000, bytes(image.data[64 << 10 :])), (0x400000, b"x" * 4096)]


def damaged(data: bytes, seed: str, places: list[int]) -> Iterator[bytes]:
    """Copies of a file with one number changed, or cut."""
    rng = random.Random(seed)
    for number in range(ROUNDS):
        made = bytearray(data)
        place = rng.choice(places)
        made[place] = rng.choice([made[place] ^ 1 << rng.randrange(8), 0, 0xFF])
        yield bytes(made[: rng.randrange(len(made))] if number % 8 == 7 else made)


def is_accepted(place: Path, data: bytes) -> bool:
    """Whether luoser reads a file without a word on it."""
    place.write_bytes(data)
    try:
        with luoser.open(place) as memory:
            luoser.read(memory)
            return not memory.remarks
    except LuoserError:
        return False


@pytest.mark.parametrize(("tool", "how"), [("xz", "xz"), ("gzip", "gz")])
def test_a_packed_file_without_a_remark_is_sound_for_its_tool(tmp_path: Path, tool: str, how: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    data, accepted = packed(how, CONTAINERS["elf"](spans(), ())), 0
    for made in [data, *damaged(data, how, list(range(len(data))))]:
        if is_accepted(tmp_path / f"x.{how}", made):
            accepted += 1
            said = subprocess.run([tool, "-tq", tmp_path / f"x.{how}"], check=False, capture_output=True)
            assert said.returncode == 0, said.stderr
    assert accepted


@pytest.mark.skipif(shutil.which("dtc") is None, reason="no dtc here")
@pytest.mark.parametrize("name", ["kho-v4-root.dtb", "pci-luo.dtb"])
def test_a_tree_that_is_parsed_is_one_for_dtc(name: str) -> None:
    data, accepted = (GOLDEN / name).read_bytes(), 0
    for made in [data, *damaged(data, name, list(range(len(data))))]:
        try:
            parse(made)
        except FormatError:
            continue
        accepted += 1
        said = subprocess.run(
            ["dtc", "-q", "-f", "-I", "dtb", "-O", "dts"], check=False, input=made, capture_output=True
        )
        assert said.returncode == 0, said.stderr
    assert accepted


@needs_libfdt
@pytest.mark.parametrize("name", ["kho-v4-root.dtb", "pci-luo.dtb"])
def test_a_tree_that_is_parsed_passes_the_full_check_of_libfdt(name: str) -> None:
    """Which also wants that the root has no name. Kernels do not look at it."""
    library, data, accepted = libfdt(), (GOLDEN / name).read_bytes(), 0
    assert library is not None
    for made in [data, *damaged(data, name, list(range(len(data))))]:
        try:
            is_named = bool(parse(made).root.name)
        except FormatError:
            continue
        accepted += 1
        buffer = ctypes.create_string_buffer(made, len(made))
        assert is_named or library.fdt_check_full(buffer, ctypes.c_size_t(len(made))) == 0
    assert accepted


def test_a_core_without_a_remark_is_one_for_pyelftools(tmp_path: Path) -> None:
    """With the same memory in it."""
    from elftools.elf.elffile import ELFFile

    data, accepted = CONTAINERS["elf"](spans(), ()), 0
    for made in [data, *damaged(data, "elf", sorted(set(elf_places(data))))]:
        if not is_accepted(tmp_path / "core", made):
            continue
        accepted += 1
        found = [one for one in ELFFile(io.BytesIO(made)).iter_segments() if one["p_type"] == "PT_LOAD"]
        with luoser.open(tmp_path / "core") as memory:
            for part in found:
                size = min(part["p_filesz"], part["p_memsz"])
                assert memory.read(part["p_paddr"], size) == part.data()[:size]
    assert accepted
