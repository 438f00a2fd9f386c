# SPDX-License-Identifier: MIT
"""Rules on the scratch areas."""

from __future__ import annotations

import pytest

from luoser.checks import check
from luoser.state import Area, Direction
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
        (AREAS[:1], {"KHO016"}),
    ],
)
def test_scratch_areas(areas: tuple[Area, ...], rules: set[str]) -> None:
    report = check(changed("7.3-a/frozen", scratch=areas, direction=Direction.INCOMING), select=("KHO015", "KHO016"))
    assert rules_found(report) == rules
