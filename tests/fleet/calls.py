# SPDX-License-Identifier: MIT
"""Calls that tests make in another process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from luoser.fleet.local import alone
from luoser.fleet.task import Task
from luoser.fleet.worker import Worker
from luoser.memory.ending import Ending
from luoser.output import new_file

__all__ = [
    "begin_and_wait",
    "double",
    "end",
    "fill",
    "keep",
    "mark",
    "mark_and_wait",
    "print_and_return",
    "undo_slowly",
    "wait",
    "wait_for",
    "write",
]


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def wait(seconds: float, value: int) -> int:
    """The value, later."""
    time.sleep(seconds)
    return value


def wait_for(path: str, seconds: float) -> None:
    """Return when there is a file, or after some time."""
    end = time.monotonic() + seconds
    while not Path(path).exists() and time.monotonic() < end:
        time.sleep(0.01)


def end(number: int) -> None:
    """End the process as a crash does."""
    os.kill(os.getpid(), number)


def fill(size: int) -> int:
    """Use so many bytes of memory."""
    return len(bytearray(size))


_kept = list[bytearray]()


def keep(size: int) -> int:
    """Use so many bytes of memory, and keep them."""
    _kept.append(bytearray(b"x" * size))
    return size


def print_and_return(text: str) -> str:
    """The text, which goes to all streams, too."""
    os.write(1, text.encode())
    print(text, file=sys.stderr)
    print(text, flush=True)
    return text


def mark(path: str, value: int) -> int:
    """The value. A file shows that the call was made, by which process."""
    Path(path).write_text(str(os.getpid()))
    return value


def mark_and_wait(path: str) -> None:
    """A file shows the process, which never ends."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


def begin_and_wait(path: str) -> None:
    """Wait for a worker that never ends, whose process a file shows."""
    alone(Worker(512 << 20), Task(mark_and_wait, (path,)))


def write(path: str) -> None:
    """Write a file, for ever."""
    with new_file(path, force=False):
        time.sleep(3600)


def undo_slowly(begun: str, undone: str) -> None:
    """Wait for ever. When the process is to end, a file shows, late, that all is as before."""

    def undo() -> None:
        time.sleep(1.5)
        Path(undone).touch()

    Ending(undo)
    Path(begun).touch()
    time.sleep(3600)


SIGKILL = signal.SIGKILL
