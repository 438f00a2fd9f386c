# SPDX-License-Identifier: MIT
"""What is undone however a process ends. Guests that go on are in the tests of QMP and of the debugger stub."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from luoser.memory.ending import Ending
from tests.real import ROOT

_CODE = "import os, signal; from luoser.memory.ending import Ending; ending = Ending(lambda: print('undone')); "


@pytest.mark.parametrize(
    ("code", "returned", "said"),
    [
        ("", 0, "undone\n"),
        ("raise SystemExit(7)", 7, "undone\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM, "undone\n"),
        ("os.kill(os.getpid(), signal.SIGHUP)", 128 + signal.SIGHUP, "undone\n"),
        ("ending.cancel()", 0, ""),
        ("ending.cancel(); os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_it_is_undone_when_the_process_ends(code: str, returned: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CODE + code], check=False, capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert (done.returncode, done.stdout) == (returned, said)


def test_handlers_of_others_are_kept() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ending = Ending(lambda: None)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        ending.cancel()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_sets_no_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: Ending(print).cancel())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
