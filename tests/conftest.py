# SPDX-License-Identifier: MIT
"""What every test may ask for: the real dumps, changed copies of them, and the command line."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from luoser.cli.main import main
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import State
from tests import real

gc.set_threshold(200_000, 100, 1000)  # what the tests keep is large; going through it took a tenth of their time
# The same examples in each run, and nothing that a slow machine can fail. --hypothesis-profile=search looks for others.
_UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("luoser", derandomize=True, database=None, **_UNHURRIED)
settings.register_profile("search", print_blob=True, **_UNHURRIED)
settings.load_profile("luoser")

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def pytest_configure() -> None:
    """Signals end the programs that tests start, also if `nohup` or the background of a shell has them ignored here.

    An ignored signal is ignored in all programs that are started, and their tests would wait for ever.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_sessionfinish() -> None:
    """Keep the last collections of garbage from what the tests keep: a process of pytest-xdist has 10 s to end."""
    gc.freeze()


@pytest.fixture(scope="session")
def dump() -> Callable[[str], Memory]:
    """dump("7.3-a/frozen"): the memory of a real dump, opened once."""
    return real.dump


@pytest.fixture(scope="session")
def state() -> Callable[[str], State]:
    """state("7.3-a/frozen"): what a real dump says, read once."""
    return real.read


@pytest.fixture(scope="session")
def document() -> Callable[[str], dict[str, Any]]:
    """document("7.3-a/frozen"): the JSON document of a real dump."""
    return real.document


@pytest.fixture(scope="session")
def overlay() -> Callable[[str], Overlay]:
    """overlay("7.3-a/frozen"): a new overlay over a real dump."""
    return real.overlay


@pytest.fixture(scope="session")
def luoser_command() -> Run:
    """luoser_command("inspect", path): what the command does, in this process. input: bytes on its standard input.

    It starts in a few hundredths of the time of a process. What it does not catch goes through, and fails the test.
    """

    def run(*arguments: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        words = [os.fspath(entry) for entry in arguments]
        out, err, code = io.BytesIO(), io.BytesIO(), 0
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(real.ROOT)
            patch.setattr(sys, "argv", ["luoser", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input), encoding="utf-8"))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace"))
            try:
                main()
            except SystemExit as done:
                assert isinstance(done.code, int)
                code = done.code
            sys.stdout.flush()
            sys.stderr.flush()
            return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def luoser_process() -> Run:
    """The same in a process of its own. Options as of subprocess.run."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        command = [
            sys.executable,
            "-c",
            "from luoser.cli.main import main; main()",
            *(os.fspath(entry) for entry in arguments),
        ]
        options = {"capture_output": True, "timeout": 600, "cwd": real.ROOT, **options}
        if "stdin" not in options and "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run(command, check=False, **options)

    return run
