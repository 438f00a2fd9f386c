# SPDX-License-Identifier: MIT
"""Files as bytes: what is refused, what unpacking costs, and the holes of sparse files."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

import luoser
from luoser.errors import SourceError
from luoser.limits import Limits, limited
from luoser.memory import file as file_module
from luoser.memory.file import load, runs_of_data
from tests.memory.images import Load, core
from tests.memory.test_open import raw_image
from tests.work import steps


def test_a_small_file_that_unpacks_to_much_is_given_up_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def write(spool: BinaryIO, blocks: list[bytes]) -> None:
        nonlocal written
        written += sum(map(len, blocks))

    monkeypatch.setattr(file_module, "_write_sparse", write)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(32 << 20), 1))
    with limited(Limits(list_size=8 << 20)), pytest.raises(SourceError, match=r"at most 8388608 bytes.*list_size=N"):
        file_module.read_file(tmp_path / "bomb.gz", limit="list_size")
    assert 4 << 20 <= written <= 8 << 20


@pytest.mark.parametrize("in_memory", [0, 1 << 16, 1 << 22])
def test_what_is_unpacked_is_the_same_in_memory_and_on_disk(
    in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(100_000) + bytes(1 << 20) + b"end" + bytes(8192)
    (tmp_path / "packed").write_bytes(gzip.compress(data))
    monkeypatch.setattr(file_module, "_IN_MEMORY", in_memory)
    buffer = load(tmp_path / "packed").buffer
    assert bytes(buffer[:]) == data
    assert isinstance(buffer, bytes) == (len(data) <= in_memory)


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/maps", "/proc/kmsg"])
def test_what_has_no_end_is_not_opened(name: str) -> None:
    with pytest.raises(SourceError, match="of these only"):
        luoser.open(name)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_unpacking_is_bounded_by_a_ratio(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "_FREE_RATIO", 1 << 20)
    (tmp_path / "small").write_bytes(pack(bytes(4 << 20)))
    luoser.open(tmp_path / "small").close()
    with pytest.raises(SourceError, match=r"unpacks to more than 1048576 bytes; limits=Limits\(unpacked_ratio=N\)"):
        luoser.open(tmp_path / "small", limits=Limits(unpacked_ratio=2))


def test_unpacking_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "_DISK_STEP", 1 << 20)
    (tmp_path / "dump").write_bytes(gzip.compress(raw_image()))
    with pytest.raises(SourceError, match=r"it would fill .*TMPDIR.*limits=Limits\(disk_left=N\)"):
        luoser.open(tmp_path / "dump", limits=Limits(disk_left=1 << 60))


def sparse(place: Path, head: bytes, data: dict[int, bytes], size: int) -> Path:
    """A file with holes between its data."""
    with place.open("wb") as out:
        for offset, part in {0: head, **data}.items():
            out.seek(offset)
            out.write(part)
        out.truncate(size)
    if place.stat().st_blocks * 512 >= 1 << 24:
        pytest.skip("this file system has no sparse files")
    return place


def test_holes_of_a_sparse_file_are_known(tmp_path: Path) -> None:
    found = load(sparse(tmp_path / "sparse", b"", {1 << 20: b"x" * 10_000, 3 << 20: b"y"}, 4 << 20)).buffer
    runs = list(runs_of_data(found, 0, len(found)))
    assert len(runs) == 2 and all(
        low <= start < high for (low, high), start in zip(runs, (1 << 20, 3 << 20), strict=True)
    )
    low, high = runs[0]
    assert list(runs_of_data(found, low + 1, high - 1)) == [(low + 1, high - 1)]
    assert list(runs_of_data(found, 0, low + 1)) == [(low, low + 1)]
    assert list(runs_of_data(found, high, 3 << 20)) == []
    (tmp_path / "dense").write_bytes(b"x" * 10_000)
    assert list(runs_of_data(load(tmp_path / "dense").buffer, 5, 7)) == [(5, 7)]


def test_file_system_without_seek_data_has_no_known_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is not that of a hole up to the end, which would make all of the file zeros."""
    path = sparse(tmp_path / "sparse", b"", {1 << 20: b"found"}, 4 << 20)

    def lseek(descriptor: int, place: int, whence: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", lseek)
    assert list(runs_of_data(load(path).buffer, 0, 4 << 20)) == [(0, 4 << 20)]
    with luoser.open(path, raw=True) as memory:
        assert list(memory.find(b"found")) == [1 << 20] and memory.read(1 << 20, 5) == b"found"


def test_data_that_is_appended_while_a_file_is_opened_is_left_out(tmp_path: Path) -> None:
    path = sparse(tmp_path / "sparse", b"", {1 << 20: b"x", 3 << 20: b"y"}, 4 << 20)
    with path.open("rb") as file:
        assert file_module._data(file.fileno(), 2 << 20) == ((1 << 20, (1 << 20) + 4096),)


def test_mapping_that_keeps_its_pages_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of hugetlbfs, of which no part of a huge page can be unmapped."""

    def madvise(*_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(file_module.Mapped, "madvise", madvise, raising=False)
    (tmp_path / "dump").write_bytes(core(Load(0, bytes(8192) + b"found")))
    with luoser.open(tmp_path / "dump") as memory:
        assert list(memory.find(b"found")) == [8192]


def elf(size: int) -> bytes:
    headers = core(Load(0, b""))[:120]
    return headers[:64] + struct.pack("<IIQQQQQQ", 1, 0, 1 << 20, 0, 0, size, size, 0)


SPARSE: dict[str, tuple[Callable[[int], bytes], int]] = {
    "elf": (elf, 1 << 20),
    "lime": (lambda size: struct.pack("<4sIQQQ", b"EMiL", 1, 0, size - 1, 0), 32),
    "raw": (lambda size: b"", 0),
}
"""(head of the file by the bytes of memory, offset of the memory) by format."""


@pytest.mark.parametrize("form", SPARSE)
def test_holes_are_not_searched(form: str, tmp_path: Path) -> None:
    head, start = SPARSE[form]
    size = 256 << 30
    data = {start + (5 << 30): b"MARK" + bytes(4090) + b"AC", start + (5 << 30) + 8192: b"ROSS"}
    with luoser.open(sparse(tmp_path / "dump", head(size), data, start + size)) as memory:
        assert memory.format == form
        with steps(2000):
            assert list(memory.find_pages(b"MARK")) == [5 << 30]
            assert list(memory.find(b"ROSS")) == [(5 << 30) + 8192]


def test_pages_of_a_search_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "dense").write_bytes(b"x" * (96 << 20))
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc")

    def resident() -> int:
        return int(status.read_text().partition("RssFile:")[2].split()[0]) << 10

    with luoser.open(tmp_path / "dense") as memory:
        before = resident()
        assert list(memory.find(b"MARK")) == [] == list(memory.find_pages(b"MARK"))
        assert resident() < before + (32 << 20)
