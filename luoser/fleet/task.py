# SPDX-License-Identifier: MIT
"""A piece of work on one source, and what came of it, wherever it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Done", "Engine", "Task", "in_order"]

_AHEAD = 512
"""Results that may wait for one before them: a slow source does not stop the others, and they do not fill memory."""


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
    """

    number: int
    value: Any = None
    lost: str = ""


class Engine(Protocol):
    """What does tasks."""

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        """The results of tasks as they come.

        tasks:     taken one by one, when there is room for one.
        may_start: whether the task with a number may be started now. The first one that is not done always may.
        """
        ...


def in_order(engine: Engine, tasks: Iterable[Task]) -> Iterator[Done]:
    """The results of tasks in the order of the tasks."""
    held, due = dict[int, Done](), 0
    with closing(engine.completed(tasks, lambda number: number < due + _AHEAD)) as results:  # type: ignore[type-var]
        for done in results:
            held[done.number] = done
            while due in held:
                yield held.pop(due)
                due += 1
