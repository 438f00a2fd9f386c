# SPDX-License-Identifier: MIT
"""A piece of work on one source, and what came of it, wherever it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Done", "Engine", "Here", "Task", "in_order"]

_AHEAD, _WAITING = 512, 64 << 20
"""Results, and bytes of them, that may wait for one before them: a slow source does not stop the others, and they do
not fill memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """A call to make in another process.

    call:    a function of a module, by which the process finds it. What it returns is pickled.
    args:    for it.
    seconds: after which it is given up. None: no bound.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task.

    number: of the task, from 0 on.
    value:  that the call returned.
    lost:   why there is none, in words. Empty: there is one.
    size:   bytes that the value took on its way.
    """

    number: int
    value: Any = None
    lost: str = ""
    size: int = 0


class Engine(Protocol):
    """What does tasks."""

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        """The results of tasks as they come.

        tasks:     taken one by one, when there is room for one.
        may_start: whether the task with a number may be started now. The first one that is not done always may.
        """
        ...


class Here:
    """An engine that does tasks in this process, one after the other: of what no other process has."""

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        """As of `Engine`. A task's `seconds` are for its call to keep."""
        for number, task in enumerate(tasks):
            yield Done(number, task.call(*task.args))


def in_order(engine: Engine, tasks: Iterable[Task]) -> Iterator[Done]:
    """The results of tasks in the order of the tasks."""
    held, due, waiting = dict[int, Done](), 0, 0

    def may_start(number: int) -> bool:
        return number < due + (_AHEAD if waiting < _WAITING else 1)

    with closing(engine.completed(tasks, may_start)) as results:  # type: ignore[type-var]
        for done in results:
            held[done.number] = done
            waiting += done.size
            while due in held:
                waiting -= held[due].size
                yield held.pop(due)
                due += 1
