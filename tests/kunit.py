# SPDX-License-Identifier: MIT
"""The kernel's own reader of KTAP, tools/testing/kunit/kunit.py, from a kernel tree of this machine.

LUOSER_KERNEL_TREE names a tree; without it one of /usr/src, or of `make e2e`, is taken.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.kernels import CACHE

__all__ = ["needs_kunit", "parsed"]

_KUNIT = "tools/testing/kunit/kunit.py"
_COUNTS = re.compile(r"Testing complete\. Ran \d+ tests: (.*)")


@cache
def _tool() -> Path | None:
    named = os.environ.get("LUOSER_KERNEL_TREE")
    trees = (
        [Path(named)] if named else [*Path("/usr/src").glob("linux*"), *sorted(CACHE.glob("*/source"), reverse=True)]
    )
    return next((tree / _KUNIT for tree in trees if (tree / _KUNIT).is_file()), None)


needs_kunit = pytest.mark.skipif(_tool() is None, reason="no kernel tree with kunit.py; LUOSER_KERNEL_TREE names one")


def parsed(text: str, folder: Path) -> tuple[int, dict[str, int], str]:
    """(exit code, tests by their ending, all that it prints) of `kunit.py parse`. folder: for the text."""
    (folder / "ktap").write_text(text)
    tool = _tool()
    assert tool is not None
    command = [sys.executable, str(tool), "parse", str(folder / "ktap")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    counts = _COUNTS.search(result.stdout)
    assert counts is not None, result.stdout + result.stderr
    pairs = (part.split(": ") for part in counts[1].strip().split(", "))
    return result.returncode, {name: int(number) for name, number in pairs}, result.stdout
