# SPDX-License-Identifier: MIT
"""What /proc says of memory that nobody touched, tried on the memory of this process."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luoser.memory.untouched import untouched

BLOCK = 1 << 20
SIZE = 8 * BLOCK


@contextmanager
def mapped(descriptor: int, flags: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Memory and where it is; ctypes holds it while it is looked at."""
    memory = mmap.mmap(descriptor, SIZE, flags=flags)
    holder = ctypes.c_char.from_buffer(memory)
    try:
        yield memory, ctypes.addressof(holder)
    finally:
        del holder
        memory.close()


def blocks(start: int) -> list[bool]:
    return list(untouched(os.getpid(), [(start + place, BLOCK) for place in range(0, SIZE, BLOCK)]))


def test_private_memory_is_touched_where_it_was_written_or_read() -> None:
    with mapped(-1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as (memory, start):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        assert blocks(start) == [True] * 8
        memory[BLOCK] = 1
        memory[4 * BLOCK - 1] = 1
        assert memory[6 * BLOCK] == 0
        assert blocks(start) == [True, False, True, False, True, True, False, True]


@pytest.fixture
def shared_file() -> Iterator[int]:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, SIZE)
    yield descriptor
    os.close(descriptor)


def test_shared_memory_is_touched_where_the_file_has_data_even_if_another_process_wrote_it(shared_file: int) -> None:
    with mapped(shared_file, mmap.MAP_SHARED) as (memory, start):
        assert blocks(start) == [True] * 8
        os.pwrite(shared_file, b"x", 3 * BLOCK + 5)
        memory[5 * BLOCK] = 1
        assert blocks(start) == [True, True, True, False, True, False, True, True]


def test_looking_touches_nothing(shared_file: int) -> None:
    with mapped(shared_file, mmap.MAP_SHARED) as (_, start):
        blocks(start)
        assert os.fstat(shared_file).st_blocks == 0


def test_part_of_a_file_has_its_offset() -> None:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, 2 * SIZE)
    os.pwrite(descriptor, b"x", SIZE + 2 * BLOCK)
    memory = mmap.mmap(descriptor, SIZE, flags=mmap.MAP_SHARED, offset=SIZE)
    holder = ctypes.c_char.from_buffer(memory)
    assert blocks(ctypes.addressof(holder)) == [True, True, False, True, True, True, True, True]
    del holder
    memory.close()
    os.close(descriptor)


def test_of_a_private_mapping_of_a_file_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * SIZE)
    with (tmp_path / "file").open("rb") as file, mapped(file.fileno(), mmap.MAP_PRIVATE) as (_, start):
        assert blocks(start) == [False] * 8


def test_of_a_shared_file_on_a_disk_nothing_is_known(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(SIZE)
        with mapped(file.fileno(), mmap.MAP_SHARED) as (_, start):
            assert blocks(start) == [False] * 8


def test_of_addresses_that_are_not_mapped_nothing_is_known() -> None:
    with mapped(-1, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as (_, start):
        assert list(untouched(os.getpid(), [(0, BLOCK), (1 << 60, BLOCK), (start, 1 << 40)])) == [False] * 3


def test_process_that_has_ended_is_an_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(OSError):
        list(untouched(process.pid, [(0, BLOCK)]))
