# SPDX-License-Identifier: MIT
"""Ranges that become one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from luoser.ranges import merged


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair)))))
def test_merged_ranges_have_the_same_addresses_and_do_not_touch(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert {at for start, end in found for at in range(start, end)} == {at for one in ranges for at in range(*one)}
    assert all(before[1] < after[0] for before, after in pairwise(found))
