# SPDX-License-Identifier: MIT
"""Pages with one owner for each byte, written as an ELF core or a flat image."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import luoser
from luoser.errors import MissingMemory, UsageError
from luoser.writer.image import Image, write_image


def image(*pieces: tuple[int, bytes]) -> Image:
    made = Image(4096)
    for address, data in pieces:
        made.put(address, data, f"piece at {address:#x}")
    return made


def test_what_was_put_is_there_and_the_rest_of_its_pages_is_zero() -> None:
    made = image((0x5FFE, b"abcd"), (0x9000, b"x"))
    assert list(made.pages) == [0x5000, 0x6000, 0x9000]
    assert made.memory().read(0x5FFC, 8) == b"\0\0abcd\0\0"
    assert made.end == 0xA000
    with pytest.raises(MissingMemory):
        made.memory().read(0x7000, 1)


@pytest.mark.parametrize(("start", "size"), [(0x1000, 4), (0x1003, 1), (0xFFF, 2), (0x1002, 100), (0x1000, 4096)])
def test_two_things_at_one_place_are_refused(start: int, size: int) -> None:
    made = image((0x1000, b"abcd"))
    with pytest.raises(UsageError, match=r"other at 0x[0-9a-f]+ and piece at 0x1000 at 0x1000 overlap"):
        made.put(start, bytes(size), "other")


def test_neighbours_share_a_page() -> None:
    made = image((0x1000, b"ab"), (0x1004, b"ef"), (0x1002, b"cd"))
    assert made.memory().read(0x1000, 6) == b"abcdef"
    assert [(start, end) for start, end, _ in made.pieces] == [(0x1000, 0x1002), (0x1002, 0x1004), (0x1004, 0x1006)]


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_the_image_as_a_source_is_that_of_the_written_core(page_size: int, tmp_path: Path) -> None:
    made = Image(page_size)
    for page in (*range(1, 260), 300, 302):  # more than a run
        made.put(page * page_size, bytes([page % 7]) * page_size, "a page")
    for page in (3, 256, 257, 300):
        made.patch(page * page_size - 3, b"abcdef")
    made.patch(302 * page_size - 3, b"abc")
    made.patch(302 * page_size + page_size - 4096, b"MARK")
    write_image(str(tmp_path / "core"), made, "elf", force=False)
    own = made.memory()
    with luoser.open(tmp_path / "core") as core:
        assert [(one.start, one.size) for one in own.segments] == [(one.start, one.size) for one in core.segments]
        assert own.held == core.held
        for pattern in (b"abcdef", b"def", b"abc", b"\3\3", b"nothing"):
            assert list(own.find(pattern)) == list(core.find(pattern)), pattern
        for prefix, at in ((b"def", 0), (b"MARK", 0), (b"abcdef", 4093), (b"\3", 7)):
            assert list(own.find_pages(prefix, at=at)) == list(core.find_pages(prefix, at=at)), prefix
        assert list(own.find(b"abcdef")) == [page * page_size - 3 for page in (3, 256, 257, 300)]
        assert own.read(2 * page_size, 9 * page_size) == core.read(2 * page_size, 9 * page_size)


@pytest.mark.parametrize("copied", [deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_a_copy_is_another_image(copied: Callable[[Image], Image]) -> None:
    made = image((0x1000, b"ab"))
    other = copied(made)
    other.patch(0x1000, b"x")
    other.put(0x2000, b"c", "more")
    assert (made.read(0x1000, 2), other.read(0x1000, 2)) == (b"ab", b"xb")
    assert list(made.pages) == [0x1000] and list(other.pages) == [0x1000, 0x2000]
    with pytest.raises(UsageError, match="overlap"):
        other.put(0x1001, b"y", "again")
    made.drop()
    assert made.pages == {} and other.read(0x2000, 1) == b"c"


def test_an_empty_image() -> None:
    assert image().end == 0 and image().pages == {}


def test_elf_core(tmp_path: Path) -> None:
    made = image((0x1000, b"a"), (0x2000, b"b"), (0x8000_0000_0000, b"c"))
    write_image(str(tmp_path / "core"), made, "elf", force=False)
    with (tmp_path / "core").open("rb") as file:
        loads = [part for part in ELFFile(file).iter_segments() if part["p_type"] == "PT_LOAD"]
        places = [(part["p_paddr"], part["p_memsz"], part.data()[:1]) for part in loads]
    assert places == [(0x1000, 0x2000, b"a"), (0x8000_0000_0000, 0x1000, b"c")]
    with luoser.open(tmp_path / "core") as memory:
        assert memory.read(0x2000, 1) == b"b"


def test_flat_image_is_sparse(tmp_path: Path) -> None:
    made = image((0x1000, b"a"), (0x4000_0000, b"b"))
    write_image(str(tmp_path / "raw"), made, "raw", force=False)
    found = (tmp_path / "raw").stat()
    assert found.st_size == 0x4000_1000 and found.st_blocks * 512 < 1 << 20
    with (tmp_path / "raw").open("rb") as file:
        assert os.pread(file.fileno(), 1, 0x1000) + os.pread(file.fileno(), 1, 0x4000_0000) == b"ab"


def test_flat_image_beyond_a_terabyte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"flat image too large: .* write an ELF core instead"):
        write_image(str(tmp_path / "raw"), image((1 << 40, b"a")), "raw", force=False)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("form", ["elf", "raw"])
def test_an_existing_file_stays(tmp_path: Path, form: str) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        write_image(str(place), image((0, b"a")), form, force=False)
    assert place.read_text() == "mine"
    write_image(str(place), image((0, b"a")), form, force=True)
    assert place.read_bytes() != b"mine"


@pytest.mark.parametrize("form", ["raw", "elf"])
def test_pages_are_written_without_copies_of_all_of_them(form: str, tmp_path: Path) -> None:
    made = Image(4096)
    for page in range(8192):
        made.put(4096 * page, page.to_bytes(2, "little") * 2048, "a page")
    tracemalloc.start()
    write_image(str(tmp_path / "image"), made, form, force=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20 << 20  # the core is copied in pieces of 16 MiB
    with luoser.open(tmp_path / "image") as memory:
        assert memory.read(0, 8192 * 4096) == b"".join(made.pages.values())


def test_zeros_of_pages_are_not_kept() -> None:
    """Most pages of a handover are nearly empty."""
    made = Image(4096)
    for page in range(1024):
        made.put(page * 4096, b"entry".ljust(4096, b"\0"), "a page")
    made.patch(4096, bytes(5))
    assert len(pickle.dumps(made)) < 128 << 10
    assert made.pages == {page * 4096: (b"" if page == 1 else b"entry").ljust(4096, b"\0") for page in range(1024)}
