# SPDX-License-Identifier: MIT
"""Budgets of one reading: what may be read in addition to what a source holds."""

from __future__ import annotations

import pytest

from luoser.limits import Limits, limited
from luoser.memory.raw import RawMemory
from luoser.reader.walk import Subject, Walk

HELD = 3 * 4096


@pytest.mark.parametrize("limit", ["array_bytes", "list_bytes"])
def test_what_exceeds_the_budget_is_cut_and_said_to_be(limit: str) -> None:
    with limited(Limits(**{limit: 100})):
        walk = Walk(RawMemory("x", b"x" * HELD))
    assert walk.take_bytes(limit, HELD + 99, Subject("one", "")) == HELD + 99
    assert not walk.problems
    assert walk.take_bytes(limit, 3, Subject("another", "")) == 1
    (problem,) = walk.problems
    assert problem.code == "too-many" and f"--limit {limit}=N" in problem.message
