# SPDX-License-Identifier: MIT
"""Speed and memory as ratios to a peer in the same run. `make bench` runs these; an ordinary test run skips them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bench: measures speed or memory and prints a row; run by make bench")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = "bench" in (config.getoption("-m") or "")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.bench)
            if not chosen:
                item.add_marker(pytest.mark.skip(reason="make bench"))


def best(work: Callable[[], Any], *, rounds: int = 5) -> float:
    """Seconds of processor time, of this process and its children, of the cheapest of several rounds."""
    times = []
    for _ in range(rounds):
        start = _spent()
        work()
        times.append(_spent() - start)
    return min(times)


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.fixture
def row(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """row("work", "figure", "peer", "ratio", "budget"): one row of the table, past pytest's capture."""

    def write(work: str, *cells: str) -> None:
        with capsys.disabled():
            print(f"\n| {' | '.join((work, *cells))} |", end="")

    return write
