# SPDX-License-Identifier: MIT
"""Rules on the scratch areas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.checks import Severity, check
from luoser.state import Area, Direction
from tests import real
from tests.checks.mutants import changed, rules_found

AREAS = (Area(address=0x1000000, size=0x400000), Area(address=0x2000000, size=0x800000))


@pytest.mark.parametrize(
    ("areas", "rules"),
    [
        (AREAS, set()),
        ((*AREAS, Area(address=0x1000000, size=0)), set()),
        ((*AREAS, Area(address=0x1400000, size=0x400000)), set()),
        ((*AREAS, Area(address=0x1000000, size=0x400000)), {"KHO015"}),
        ((*AREAS, Area(address=0x4000000, size=0x401000)), {"KHO016"}),
        ((AREAS[0], Area(address=0x2000000, size=0)), {"KHO016"}),
        ((Area(address=0x1000000, size=0), AREAS[1]), {"KHO016"}),
        ((*AREAS, Area(address=0x1001000, size=0)), {"KHO016"}),
        ((*AREAS, Area(address=0x13FF000, size=0x1000)), {"KHO015", "KHO016"}),
        ((), {"KHO016"}),
        (AREAS[:1], {"KHO016"}),
    ],
)
def test_scratch_areas(areas: tuple[Area, ...], rules: set[str]) -> None:
    report = check(changed("7.3-a/frozen", scratch=areas, direction=Direction.INCOMING), select=("KHO015", "KHO016"))
    assert rules_found(report) == rules


@pytest.mark.parametrize(
    ("compatible", "page_size", "unit"),
    [
        ("kho-v1", 4096, 2 << 20),
        ("kho-v3", 4096, 2 << 20),
        ("kho-v4", 4096, 4 << 20),
        ("kho-v9", 4096, 4 << 20),
        ("kho-v3", 16384, 32 << 20),
        ("kho-v4", 16384, 32 << 20),
        ("kho-v3", 65536, 512 << 20),
        ("kho-v4", 65536, 512 << 20),
    ],
)
def test_what_scratch_areas_are_aligned_to(compatible: str, page_size: int, unit: int) -> None:
    state = real.read("7.3-a/frozen")
    state = replace(state, source=replace(state.source, page_size=page_size))
    for areas, rules in (
        ((Area(address=unit, size=unit), Area(address=3 * unit, size=5 * unit)), set()),
        ((Area(address=unit, size=unit), Area(address=3 * unit, size=unit // 2)), {"KHO016"}),
        ((Area(address=unit, size=unit), Area(address=3 * unit + unit // 2, size=unit)), {"KHO016"}),
    ):
        report = check(changed(state, scratch=areas, compatible=compatible), select=("KHO016",))
        assert rules_found(report) == rules


def test_what_is_wrong_with_scratch_areas_is_told_with_its_place() -> None:
    empty = Area(address=0x4000000, size=0)
    for areas, places in (
        ((empty, AREAS[1]), [("scratch[0]", "the low scratch area is empty")]),
        ((AREAS[1], empty), [("scratch[1]", "the global scratch area is empty")]),
        (AREAS[1:], [("scratch", "scratch areas: expected at least 2, low memory and global, found 1")]),
    ):
        state = changed("7.3-a/frozen", scratch=areas, direction=Direction.INCOMING)
        found = check(state, select=("KHO016",)).findings
        assert [(finding.where, finding.message) for finding in found] == places


@pytest.mark.parametrize(
    ("size", "ram", "is_small"),
    [(16 << 20, 1 << 30, True), (32 << 20, 1 << 30, False), (32 << 20, 2 << 30, True)],
)
def test_scratch_has_to_hold_the_memmap(size: int, ram: int, is_small: bool) -> None:
    areas = (Area(address=0x1000000, size=size // 2), Area(address=0x8000000, size=size // 2))
    state = changed("7.3-a/frozen", scratch=areas, direction=Direction.INCOMING)
    report = check(state, select=("KHO016",), ram=((0, ram),))
    assert [finding.severity for finding in report.findings] == ([Severity.ERROR] if is_small else [])
    assert not check(state, select=("KHO016",)).findings  # RAM is unknown


def test_scratch_that_is_too_small_for_any_machine() -> None:
    areas = (Area(address=0x1000000, size=2 << 20), Area(address=0x8000000, size=2 << 20))
    state = changed("7.3-a/frozen", scratch=areas, compatible="kho-v3", direction=Direction.INCOMING)
    (finding,) = check(state, select=("KHO016",)).findings
    assert finding.severity is Severity.ERROR and "4 MiB in all, expected 5 MiB" in finding.message
