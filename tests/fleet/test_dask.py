# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from luoser.errors import SourceError
from luoser.fleet import dask
from luoser.fleet.dask import Dask
from luoser.fleet.task import Task, in_order
from tests.fleet import calls

distributed = pytest.importorskip("distributed")
MEMORY = 512 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler and two workers on this machine, each a process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1", silence_logs=50) as cluster:
        yield cluster


@pytest.fixture
def engine(cluster: Any) -> Dask:
    return Dask(cluster.scheduler_address, memory=MEMORY)


def test_results_come_in_the_order_of_the_tasks(engine: Dask) -> None:
    tasks = [Task(calls.wait, (0.3 if number == 0 else 0.0, number)) for number in range(8)]
    assert [done.value for done in in_order(engine, tasks)] == list(range(8))


def test_equal_tasks_are_all_done(engine: Dask, tmp_path: Path) -> None:
    assert [done.value for done in in_order(engine, [Task(calls.double, (1,))] * 3)] == [2, 2, 2]


def test_a_process_that_ends_costs_its_own_task_only(engine: Dask) -> None:
    tasks = [Task(calls.double, (1,)), Task(calls.end, (calls.SIGKILL,)), Task(calls.double, (2,))]
    first, second, third = in_order(engine, tasks)
    assert (first.value, third.value) == (2, 4) and "ended by signal 9" in second.lost


def test_time_and_memory_are_bounded(engine: Dask) -> None:
    slow, large = in_order(engine, [Task(calls.wait, (60.0, 0), 0.1), Task(calls.fill, (2 * MEMORY,))])
    assert slow.lost.startswith("not done within 0.1 s") and large.lost == "out of memory"


def test_tasks_are_not_all_handed_over_at_once(engine: Dask) -> None:
    waiting, most = 0, 0

    def tasks() -> Iterator[Task]:
        nonlocal waiting, most
        for number in range(100):
            waiting += 1
            most = max(most, waiting)
            yield Task(calls.double, (number,))

    for _ in engine.completed(tasks(), lambda _: True):
        waiting -= 1
    assert (waiting, most < 20) == (0, True)


def test_a_worker_that_is_killed_costs_nothing(cluster: Any, engine: Dask) -> None:
    """What it was doing is done again by others."""
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())

    def kill() -> None:
        time.sleep(1.0)
        with suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    done = list(in_order(engine, [Task(calls.wait, (0.3, number)) for number in range(12)]))
    thread.join()
    assert [one.value for one in done] == list(range(12))


def test_what_a_worker_had_done_when_it_was_killed_is_done_again(cluster: Any, engine: Dask) -> None:
    """Of answers that nobody had fetched."""
    results = engine.completed([Task(calls.double, (number,)) for number in range(4)], lambda _: True)
    first = next(results)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        time.sleep(1.0)
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)  # it is known, and nobody has begun anew
    assert sorted((one.value, one.lost) for one in (first, *results)) == [(0, ""), (2, ""), (4, ""), (6, "")]


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECT", 0.5)
    with pytest.raises(SourceError, match=r"tcp://127\.0\.0\.1:1: no scheduler of dask answers"):
        next(in_order(Dask("tcp://127.0.0.1:1"), [Task(calls.double, (1,))]))


@pytest.mark.parametrize("address", ["", "no such address", "tcp://\x1b[31m"])
def test_an_address_that_is_none_is_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECT", 0.5)
    with pytest.raises(SourceError) as caught:
        next(in_order(Dask(address), [Task(calls.double, (1,))]))
    assert "\x1b" not in str(caught.value)


def test_a_cluster_without_workers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECT", 1)
    options = {"n_workers": 0, "dashboard_address": None, "host": "127.0.0.1", "silence_logs": 50}
    with (
        distributed.LocalCluster(**options) as empty,
        pytest.raises(SourceError, match="scheduler with workers, found"),
    ):
        next(in_order(Dask(empty.scheduler_address), [Task(calls.double, (1,))]))
