# SPDX-License-Identifier: MIT
"""Rules on the sub-tree kexec-metadata."""

from __future__ import annotations

from dataclasses import replace

from luoser.checks import check
from tests import real
from tests.checks.mutants import changed, rules_found


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
