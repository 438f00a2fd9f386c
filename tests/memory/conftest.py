# SPDX-License-Identifier: MIT
"""What the tests of the formats share."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import luoser
from luoser.memory.source import Memory

Opened = Callable[..., Memory]
Bounded = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def open_files(tmp_path: Path) -> Opened:
    """open_files(bytes, ...): the memory of files with these bytes, named so that nothing can be told from it."""

    numbers = itertools.count()

    def make(*contents: bytes) -> Memory:
        files = [tmp_path / f"file-{next(numbers)}" for _ in contents]  # never a name twice: files stay mapped
        for file, data in zip(files, contents, strict=True):
            file.write_bytes(data)
        return luoser.open(*files)

    return make


@pytest.fixture(scope="session")
def bounded() -> Bounded:
    """with bounded(): a block that may take two seconds and 64 MiB of Python memory."""

    @contextmanager
    def measure(*, seconds: float = 2, mib: int = 64) -> Iterator[None]:
        tracemalloc.start()
        start = time.monotonic()
        try:
            yield
            spent, peak = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < mib << 20, f"{peak >> 20} MiB"
        assert spent < seconds, f"{spent:.1f} s"

    return measure
