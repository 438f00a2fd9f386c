# SPDX-License-Identifier: MIT
"""What every test may ask for: the real dumps, changed copies of them, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import State
from tests import real

settings.register_profile("luoser", deadline=None, derandomize=True, database=None)
settings.load_profile("luoser")

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


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
    """luoser_command("inspect", path): the command in a process of its own. Options as of subprocess.run."""

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
