# SPDX-License-Identifier: MIT
"""How much of a source may be read."""

from __future__ import annotations

import pytest

from luoser.budget import Budget


def never() -> int:
    pytest.fail("asked for, though there is enough")


def test_what_the_source_holds_is_not_asked_for_while_there_is_enough() -> None:
    budget = Budget(10, never)
    assert [budget.take(4), budget.take(0), budget.take(6)] == [4, 0, 6]


def test_what_the_source_holds_is_added_once() -> None:
    budget = Budget(10, iter([5]).__next__)
    assert [budget.take(8), budget.take(4), budget.take(4), budget.take(4)] == [8, 4, 3, 0]


def test_it_is_used_up_when_more_is_asked_for_than_is_left() -> None:
    budget = Budget(10, lambda: 0)
    budget.take(10)
    assert not budget.is_used_up
    budget.take(1)
    assert budget.is_used_up
