# SPDX-License-Identifier: MIT
"""What the tests of the formats share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import luoser
from luoser.memory.source import Memory
from tests.work import held, steps

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
    """with bounded(): a block that may execute so many lines of Python and take 64 MiB of Python memory."""

    @contextmanager
    def measure(*, lines: int = 100_000, mib: int = 64) -> Iterator[None]:
        with held(mib << 20), steps(lines):
            yield

    return measure
