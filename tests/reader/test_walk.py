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
    take = walk.take_array if limit == "array_bytes" else walk.take_list
    assert take(HELD + 99, Subject("one", "")) == HELD + 99
    assert not walk.problems
    assert take(3, Subject("another", "")) == 1
    (problem,) = walk.problems
    assert problem.code == "too-many" and f"--limit {limit}=N" in problem.message
