# SPDX-License-Identifier: MIT
"""What a piece of work costs, in units that are the same on an idle and on a busy machine."""

from __future__ import annotations

import importlib
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory

__all__ = ["Counted", "held", "lines", "processor_time", "steps"]

_IMPORT = importlib._bootstrap._find_and_load.__code__  # type: ignore[attr-defined]


@contextmanager
def steps(most: int) -> Iterator[Callable[[], int]]:
    """A block that may execute `most` lines of Python. At the next one the test fails, so an endless loop ends too.

    Counted are the lines of all functions that the block calls, those of libraries as well, and each turn of a loop
    on one line. Not counted: the block's own lines, what an import executes, which happens once in a process, and the
    work inside of one built-in function, such as a copy of many bytes. Yields what returns their number so far.
    """
    taken = imports = 0

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal taken
        if event == "line":
            taken += 1
            if taken > most:
                pytest.fail(f"more than {most} lines were executed, the last one in {frame.f_code.co_qualname}")
        return line

    def imported(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal imports
        imports -= event == "return"
        return imported

    def call(frame: FrameType, _event: str, _: Any) -> Any:
        nonlocal imports
        if frame.f_code is _IMPORT:
            imports += 1
            return imported
        return None if imports else line

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield lambda: taken
    finally:
        sys.settrace(before)


def lines(work: Callable[[], object], *, most: int = 20_000_000) -> int:
    """Number of lines of Python that a piece of work executes, counted as in `steps`."""
    with steps(most) as taken:
        work()
        return taken()


@contextmanager
def held(most: int) -> Iterator[None]:
    """A block whose Python objects may take `most` bytes at once, those from before it left out."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak} bytes"


def processor_time(work: Callable[[], object], *, rounds: int = 3) -> float:
    """Seconds that a processor works on it, in the fastest of some rounds.

    The last resort, for work inside of built-in functions: to be compared with a peer in the same test, at a
    multiple that no other load of the machine explains.
    """
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


class Counted(Overlay):
    """A source that counts the bytes that are read of it, and the reads. most: the test fails when it is more bytes."""

    def __init__(self, below: Memory, *, most: int | None = None) -> None:
        super().__init__(below)
        self.most, self.bytes, self.reads = most, 0, 0

    def read(self, address: int, size: int) -> bytes:
        self.bytes, self.reads = self.bytes + size, self.reads + 1
        if self.most is not None and self.bytes > self.most:
            pytest.fail(f"more than {self.most} bytes were read, the last ones at {address:#x}")
        return super().read(address, size)
