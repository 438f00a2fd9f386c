# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import pytest

from luoser.fleet.task import Done, Here, Task, in_order


class _Given:
    """An engine that gives results in a fixed order."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.is_closed = numbers, False

    def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
        try:
            for number in self.numbers:
                yield Done(number)
        finally:
            self.is_closed = True


@pytest.mark.parametrize("numbers", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_any_order_becomes_that_of_the_tasks(numbers: tuple[int, ...]) -> None:
    assert [done.number for done in in_order(_Given(*numbers), [])] == [0, 1, 2]


def test_the_engine_ends_with_what_reads_its_results() -> None:
    engine = _Given(0, 1, 2)
    results = in_order(engine, [])
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert engine.is_closed


def test_this_process_does_tasks_itself() -> None:
    assert [done.value for done in in_order(Here(), [Task(os.getpid, ()), Task(abs, (-1,))])] == [os.getpid(), 1]
