# SPDX-License-Identifier: MIT
"""How far a long search is, on stderr and only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

__all__ = ["progress"]

_PATIENCE = 1.0
"""Seconds before anything is drawn."""


def progress(what: str) -> Callable[[int, int], None] | None:
    """A function to call with what is done and what there is to do, in bytes; None where nobody would see it."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    began, shown = time.monotonic(), 0.0

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done >= total:
            if shown:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
            shown = 0.0
        elif now - began > _PATIENCE and now - shown > 0.1:
            sys.stderr.write(f"\r\x1b[K{what}: {100 * done // total} % of {total >> 20} MiB")
            sys.stderr.flush()
            shown = now

    return report
