# SPDX-License-Identifier: MIT
"""Tasks on the workers of a dask cluster. Each of their threads has a process of its own for them, as on one machine.

Sources are read by the workers: they are URLs, or files that all workers see under one name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from luoser.errors import SourceError, UsageError
from luoser.fleet.local import alone, cores, fair_memory
from luoser.fleet.task import Done, Task
from luoser.fleet.worker import Worker
from luoser.text import safe_text

__all__ = ["Dask"]

_CONNECT = 30
"""Seconds to wait for the scheduler, and for the first worker."""
_DESERTED = 60.0
"""Seconds without a result and without a worker after which the work is given up."""
_QUEUED = 2
"""Tasks handed over for each thread of the cluster, so that none waits for the next one."""


class Dask:
    """An engine of a cluster.

    address: of its scheduler, such as tcp://10.0.0.1:8786.
    memory:  most bytes of memory for one task. None: a fair share of the worker's machine.

    Raises UsageError if distributed is not installed.
    """

    def __init__(self, address: str, *, memory: int | None = None) -> None:
        try:
            import distributed
        except ImportError:
            raise UsageError("--engine dask: needs distributed; pip install 'luoser[dask]'") from None
        self._address, self._memory = address, memory
        self._module: Any = distributed

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        """As of `Engine`. Raises SourceError if there is no scheduler, or no worker (any more)."""
        client = self._client()
        try:
            yield from _Run(client, tasks, may_start, self._memory).results()
        finally:
            client.close()

    def _client(self) -> Any:
        shown = safe_text(self._address)
        try:
            client = self._module.Client(self._address, timeout=_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise SourceError(f"{shown}: no scheduler of dask answers: {safe_text(str(error))}") from None
        try:
            client.wait_for_workers(1, timeout=_CONNECT)
        except TimeoutError:
            client.close()
            raise SourceError(f"{shown}: expected a scheduler with workers, found none within {_CONNECT} s") from None
        return client


class _Run:
    """Tasks, and the futures of a cluster that does them."""

    def __init__(
        self, client: Any, tasks: Iterable[Task], may_start: Callable[[int], bool], memory: int | None
    ) -> None:
        self._client, self._tasks, self._may_start, self._memory = client, iter(tasks), may_start, memory
        self._ready = SimpleQueue[Any]()
        self._running = dict[Any, tuple[int, Task]]()
        self._number = 0

    def results(self) -> Iterator[Done]:
        while self._hand_out() or self._running:
            future = self._next()
            number, task = self._running.pop(future.key)
            if future.status == "lost":  # a worker that was killed had the answer
                self._submit(number, task)
            else:
                yield self._taken(future, number)

    def _hand_out(self) -> bool:
        begun = False
        room = _QUEUED * max(1, sum(self._client.nthreads().values()))
        while len(self._running) < room and self._may_start(self._number):
            task = next(self._tasks, None)
            if task is None:
                return begun
            self._submit(self._number, task)
            self._number, begun = self._number + 1, True
        return begun

    def _submit(self, number: int, task: Task) -> None:
        future = self._client.submit(_do, task, self._memory, pure=False)
        self._running[future.key] = number, task
        future.add_done_callback(self._ready.put)

    def _next(self) -> Any:
        """A future that is done."""
        while True:
            try:
                return self._ready.get(timeout=_DESERTED)
            except Empty:
                if not self._client.nthreads():
                    text = f"no worker of dask is left, for {_DESERTED:g} s; what was done is kept"
                    raise SourceError(text) from None

    @staticmethod
    def _taken(future: Any, number: int) -> Done:
        if future.status == "finished":
            return Done(number, *future.result())
        if future.status == "error":
            return Done(number, None, f"the cluster did not do it: {safe_text(str(future.exception()))}")
        return Done(number, None, f"the cluster did not do it: the task is {future.status}")


_of_thread = threading.local()


def _do(task: Task, memory: int | None) -> tuple[Any, str, int]:
    """(what a task gave, why there is nothing, bytes of the answer), of the process of this thread of a worker.

    memory: as of `Dask`.
    """
    worker = getattr(_of_thread, "worker", None)
    if worker is None:
        worker = _of_thread.worker = Worker(fair_memory(cores()) if memory is None else memory)
    done = alone(worker, task)
    return done.value, done.lost, done.size
