# SPDX-License-Identifier: MIT
"""What has to be undone however luoser ends, as a guest that was stopped has to be continued."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

__all__ = ["Ending"]


class Ending:
    """Calls a function when Python ends, and lets SIGTERM and SIGHUP end it in order, until `cancel`.

    SIGKILL and SIGQUIT cannot be helped.
    """

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo
        self._signals: dict[int, Any] = {}
        atexit.register(undo)
        if threading.current_thread() is threading.main_thread():
            ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
            self._signals = {number: signal.signal(number, _end) for number in ends}

    def cancel(self) -> None:
        """Nothing is left to be undone."""
        atexit.unregister(self._undo)
        with suppress(ValueError):  # not the main thread
            for number, handler in self._signals.items():
                signal.signal(number, handler)


def _end(number: int, frame: object) -> NoReturn:
    """Signal handler: exit with the code of the signal, through every `finally`."""
    raise SystemExit(128 + number)
