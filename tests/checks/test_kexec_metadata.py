# SPDX-License-Identifier: MIT
"""Rules on the sub-tree kexec-metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.checks import check
from tests import real
from tests.checks.mutants import NAME, changed, luo_of, messages, reason, rules_found


def test_a_kexec_without_luo_counts_in_one_of_the_numbers_only() -> None:
    state = real.read("7.3-a/frozen")
    metadata = state.handovers[0].kexec_metadata
    assert metadata is not None
    assert "KHO011" not in rules_found(check(changed("7.3-a/frozen", kexec_metadata=replace(metadata, kexec_count=9))))


def test_a_kexec_count_of_0_is_metadata_gone_wrong() -> None:
    metadata = real.read("7.3-a/frozen").handovers[0].kexec_metadata
    assert metadata is not None
    report = check(changed("7.3-a/frozen", kexec_metadata=replace(metadata, kexec_count=0)))
    assert rules_found(report) - {"MAP020"} == {"KHO009"}


@pytest.mark.parametrize(
    ("number", "count", "is_wrong"), [(1, 1, False), (2, 1, True), (1, 2, False), (9, 2, True), (1, 0, False)]
)
def test_live_updates_are_at_most_as_many_as_kexecs(number: int, count: int, is_wrong: bool) -> None:
    metadata = real.read(NAME).handovers[0].kexec_metadata
    assert metadata is not None
    state = changed(NAME, luo=replace(luo_of(), number=number), kexec_metadata=replace(metadata, kexec_count=count))
    words = [] if not is_wrong else [f"liveupdate_number is {number}, expected at most kexec_count, {count}"]
    assert messages(check(state, select=["KHO011"]), "KHO011") == words


def test_without_one_of_the_numbers_there_is_nothing_to_compare() -> None:
    for state in (changed(NAME, kexec_metadata=None), changed(NAME, luo=replace(luo_of(), number=None))):
        assert "to compare" in reason(check(state, select=["KHO011"]), "KHO011")
