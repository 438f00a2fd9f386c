# SPDX-License-Identifier: MIT
"""Changes: below a path, and without those that are not wanted."""

from __future__ import annotations

import pytest

from luoser.changes import Change, Kind, without

CHANGES = [
    Change(kind=Kind.CHANGED, where=where)
    for where in ("pci/0000:41:00.0/flags", "pci/order", "luo/number", "luo/sessions/a/files/0x1", "")
]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ([], [0, 1, 2, 3, 4]),
        (["pci"], [2, 3, 4]),
        (["pci/order"], [0, 2, 3, 4]),
        (["pci/*"], [2, 3, 4]),
        (["*/flags"], [1, 2, 3, 4]),
        (["luo/sessions/?"], [0, 1, 2, 4]),
        (["luo", "pci"], [4]),
        (["pc"], [0, 1, 2, 3, 4]),
    ],
)
def test_without_a_path_and_what_is_below(patterns: list[str], left: list[int]) -> None:
    assert without(CHANGES, patterns) == tuple(CHANGES[index] for index in left)


def test_a_change_below_a_path() -> None:
    assert [change.below("x/y").where for change in CHANGES[1:]] == [
        "x/y/pci/order", "x/y/luo/number", "x/y/luo/sessions/a/files/0x1", "x/y",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "is_left"),
    [
        ("pci/a/resource[2]/flags", False),
        ("*/resource[2]", False),
        ("pci/*/resource", False),
        ("*/resource[1]", True),
        ("*/res", True),
    ],
)
def test_without_an_item_of_a_list(pattern: str, is_left: bool) -> None:
    change = Change(kind=Kind.CHANGED, where="pci/a/resource[2]/flags")
    assert without([change], [pattern]) == ((change,) if is_left else ())
