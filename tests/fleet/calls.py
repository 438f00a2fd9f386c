# SPDX-License-Identifier: MIT
"""Calls that tests make in another process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

__all__ = ["double", "end", "fill", "keep", "mark", "print_and_return", "wait"]


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def wait(seconds: float, value: int) -> int:
    """The value, later."""
    time.sleep(seconds)
    return value


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


SIGKILL = signal.SIGKILL
