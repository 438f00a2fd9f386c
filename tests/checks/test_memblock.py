# SPDX-License-Identifier: MIT
"""Rules on the sub-tree memblock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.checks import check
from tests import real
from tests.checks.mutants import changed, messages


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"size": 0}, "size of 0"),
        ({"name": "sixteen-letters-"}, "more than 15 characters"),
        ({"start": 0x28000820}, "starts at 0x28000820, expected a multiple of 64"),
    ],
)
def test_regions_that_no_kernel_makes(members: dict[str, object], fault: str) -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    region = replace(memblock.reservations[0], **members)  # type: ignore[arg-type]
    report = check(changed("7.3-a/frozen", memblock=replace(memblock, reservations=(region,))), select=("KHO",))
    (word,) = messages(report, "KHO010")
    assert fault in word


def test_regions_with_one_name_and_more_of_them_than_there_can_be() -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    many = replace(memblock, reservations=memblock.reservations[:1] * 9)
    words = messages(check(changed("7.3-a/frozen", memblock=many), select=("KHO",)), "KHO010")
    assert len(words) == 10
    assert "name of another" in words[0] and "at most 8" in words[-1]


def test_as_many_regions_with_as_long_names_as_there_can_be() -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    regions = tuple(replace(memblock.reservations[0], name=f"fourteen-chars{index}") for index in range(8))
    report = check(changed("7.3-a/frozen", memblock=replace(memblock, reservations=regions)), select=("KHO010",))
    assert report.passed == ("KHO010",)


def test_only_the_region_that_is_wrong_is_told() -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    first = memblock.reservations[0]
    regions = (first, replace(first, name="b", size=1), replace(first, name="c", size=0), replace(first, name="d"))
    report = check(changed("7.3-a/frozen", memblock=replace(memblock, reservations=regions)), select=("KHO010",))
    assert [finding.where for finding in report.findings] == ["memblock.reservations[2]"]
