# SPDX-License-Identifier: MIT
"""Speed and memory as ratios to peers in the same run. `make bench` runs these; an ordinary test run skips them.

All rows go to docs/benchmarks.md when the whole folder was run.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import re
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.bench.page import Row, is_missed, most_time, page

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
Work = Callable[[], Any]
_ROWS: list[Row] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bench: measures speed or memory and prints a row; run by make bench")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = "bench" in (config.getoption("-m") or "")
    for item in items:
        if HERE in item.path.parents and item.path.name == "test_bench.py":
            item.add_marker(pytest.mark.bench)
            if not chosen:
                item.add_marker(pytest.mark.skip(reason="make bench"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _ROWS and not exitstatus and not session.config.getoption("-k"):
        PAGE.write_text(page(_ROWS))


def spent(work: Work, clock: Callable[[], float]) -> float:
    """Seconds that a work takes. clock: of processor time, in this process and its children, or of the wall."""
    start = clock()
    work()
    return clock() - start


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def profiled(work: Work) -> tuple[tuple[float, str], ...]:
    """Where the time of a work goes, as `most_time` has it; of a process, inside of it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "profile"
        if hasattr(work, "dump_stats"):
            work.dump_stats(place)
        else:
            profile = cProfile.Profile()
            profile.runcall(work)
            profile.dump_stats(place)
        return most_time(pstats.Stats(str(place)))


def peak(work: Work) -> float:
    """MiB of anonymous memory that a work needs at most, sampled in a child process."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        done, most, first = threading.Event(), [0.0], _anonymous()

        def watch() -> None:
            while not done.wait(0.002):
                most[0] = max(most[0], _anonymous() - first)

        threading.Thread(target=watch, daemon=True).start()
        try:
            kept = work()
            most[0] = max(most[0], _anonymous() - first)
            del kept
        finally:
            os.write(writer, f"{most[0]}".encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return float(file.read())


def _anonymous() -> float:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Measure a work beside its peers, by turns, and print a row for each peer."""

    def measure(
        work: str,
        size: str,
        mine: Work,
        peers: Mapping[str, Work | str],
        *,
        number: float = 0,
        goal: str = "",
        rounds: int = 3,
        memory: bool = True,
        wall: bool = False,
    ) -> None:
        """
        size:   in words. number: the same, for the exponent of growth; 0: none.
        peers:  work by name, or why there is none.
        goal:   for the ratio to the first peer.
        memory: whether to measure it, in a run of its own.
        wall:   measure time of the wall, of what is done in parallel.
        """
        clock = time.perf_counter if wall else _spent
        own, theirs = list[float](), {name: list[float]() for name in peers}
        for _ in range(rounds):
            own.append(spent(mine, clock))
            for name, peer in peers.items():
                if not isinstance(peer, str):
                    theirs[name].append(spent(peer, clock))
        most = peak(mine) if memory else None
        for index, (name, peer) in enumerate(peers.items()):
            pairs = [one / max(other, 1e-9) for one, other in zip(own, theirs[name], strict=False)]
            ratio = median(pairs) if pairs else None
            row = Row(
                work=work,
                size=size,
                number=number if not index else 0,
                seconds=median(own),
                memory=most if not index else None,
                peer=name,
                peer_seconds=median(theirs[name]) if theirs[name] else None,
                ratio=ratio,
                why=peer if isinstance(peer, str) else "",
                goal=goal if not index else "",
                profile=profiled(mine) if not index and is_missed(goal, ratio) else (),
            )
            _ROWS.append(row)
            with capsys.disabled():
                print(f"\n{row.line()}", end="")

    return measure
