# SPDX-License-Identifier: MIT
"""Progress of a long search, on stderr and only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from luoser.text import human_size

__all__ = ["progress"]

_PATIENCE = 1.0
"""Seconds before progress is shown."""


def progress(what: str, *, unit: str = "") -> Callable[[int, int], None] | None:
    """A function to call with what is done, and with how much that is in total. None if stderr is not a terminal.

    what: description of the work.
    unit: what is counted. Empty: bytes.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    began, shown, drawn = time.monotonic(), 0.0, 0

    def draw(text: str) -> None:
        nonlocal drawn
        sys.stderr.write(f"\r{text.ljust(drawn)}")  # spaces, not an escape: a dumb terminal shows these
        sys.stderr.flush()
        drawn = len(text)

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done >= total:
            if shown:
                draw("")
                sys.stderr.write("\r")
                sys.stderr.flush()
            shown = 0.0
        elif now - began > _PATIENCE and now - shown > 0.1:
            of = f"{done} of {total} {unit}" if unit else f"{100 * done // total} % of {human_size(total)}"
            draw(f"{what}: {of}")
            shown = now

    return report
