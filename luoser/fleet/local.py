# SPDX-License-Identifier: MIT
"""Tasks on this machine: some at a time, each in a process that may end without harm to the others."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable, Iterator

from luoser.fleet.task import Done, Task
from luoser.fleet.worker import Worker

__all__ = ["Local", "alone", "cores", "fair_memory"]

_GRACE = 5.0
"""Seconds after its time within which a task may still say itself that it took too long."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def fair_memory(jobs: int) -> int:
    """Bytes of memory for each of some processes, so that all of them fit into this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4 // 5 // jobs


class Local:
    """An engine of processes on this machine.

    jobs:   how many tasks are done at a time.
    memory: most bytes of memory for one. None: a fair share of the machine.
    """

    def __init__(self, *, jobs: int, memory: int | None = None) -> None:
        self._jobs, self._memory = jobs, fair_memory(jobs) if memory is None else memory

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        """As of `Engine`."""
        workers = [Worker(self._memory) for _ in range(self._jobs)]
        try:
            yield from _Run(workers, tasks, may_start).results()
        finally:
            for worker in workers:
                worker.end()


def alone(worker: Worker, task: Task) -> Done:
    """What comes of a task that a worker does."""
    return next(_Run([worker], [task], lambda _: True).results())


class _Run:
    """Tasks, and the workers that do them."""

    def __init__(self, workers: list[Worker], tasks: Iterable[Task], may_start: Callable[[int], bool]) -> None:
        self._idle, self._tasks, self._may_start = workers[:], iter(tasks), may_start
        self._selector = selectors.DefaultSelector()
        self._busy = dict[Worker, tuple[int, float, Task]]()
        """Number, deadline and task of each worker that has one."""
        self._number = 0

    def results(self) -> Iterator[Done]:
        with self._selector:
            while self._hand_out() or self._busy:
                now = time.monotonic()
                nearest = min(deadline for _, deadline, _ in self._busy.values())
                wait = max(0.0, nearest - now) if nearest < float("inf") else None
                for key, _ in self._selector.select(wait):
                    worker: Worker = key.fileobj  # type: ignore[assignment]
                    yield self._taken(worker)
                yield from self._expired()

    def _hand_out(self) -> bool:
        """Give tasks to workers that have none. Whether there was one."""
        begun = False
        while self._idle and self._may_start(self._number):
            task = next(self._tasks, None)
            if task is None:
                return begun
            worker = self._idle.pop()
            worker.start(task)
            deadline = float("inf") if task.seconds is None else time.monotonic() + task.seconds + _GRACE
            self._busy[worker] = self._number, deadline, task
            self._selector.register(worker, selectors.EVENT_READ)
            self._number, begun = self._number + 1, True
        return begun

    def _free(self, worker: Worker) -> tuple[int, float, Task]:
        self._selector.unregister(worker)
        self._idle.append(worker)
        return self._busy.pop(worker)

    def _taken(self, worker: Worker) -> Done:
        number, _, _ = self._free(worker)
        return Done(number, *worker.take())

    def _expired(self) -> Iterator[Done]:
        now = time.monotonic()
        for worker in [worker for worker, (_, deadline, _) in self._busy.items() if deadline <= now]:
            number, _, task = self._free(worker)
            worker.end()
            yield Done(number, None, f"not done within {task.seconds:g} s; --timeout gives it more time")
