# SPDX-License-Identifier: MIT
"""The page of the benchmarks: ratios, peers that are not there, and exponents."""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import replace

import pytest

from luoser import fdt
from tests.bench.page import Row, exponent, is_missed, most_time, page


def row(size: int, seconds: float, peer_seconds: float | None = 1.0) -> Row:
    ratio = None if peer_seconds is None else seconds / peer_seconds
    return Row(
        work="count", size=f"{size}", number=size, seconds=seconds, memory=3.2, peer="sum", peer_seconds=peer_seconds,
        ratio=ratio, why="not installed", goal="at most 2",
    )  # fmt: skip


def test_exponent_is_that_of_growth() -> None:
    assert exponent([(10, 1.0), (100, 10.0), (1000, 100.0)]) == pytest.approx(1)
    assert exponent([(10, 1.0), (100, 100.0), (1000, 10_000.0)]) == pytest.approx(2)
    assert exponent([(10, 1.0), (100, 1.0)]) is None


def test_page_has_a_row_for_each_size_and_peer() -> None:
    text = page([row(10, 0.5), row(100, 5.0), row(1000, 50.0, None)])
    assert "| count | 10 | 500.0 ms | 3 MiB | sum 1.00 s | 0.50 | at most 2 |  |" in text
    assert "| count | 1000 | 50.00 s | 3 MiB | sum: not installed |  | at most 2 | 1.00 |" in text


@pytest.mark.parametrize(
    ("goal", "ratio", "missed"),
    [
        ("at most 2", 2.1, True),
        ("at most 2", 2.0, False),
        ("at most 0.33", 0.5, True),
        ("", 9.0, False),
        ("at most 2", None, False),
    ],
)
def test_a_goal_is_missed_by_a_larger_ratio(goal: str, ratio: float | None, missed: bool) -> None:
    assert is_missed(goal, ratio) is missed


def test_page_says_where_the_time_goes_of_what_misses_its_goal() -> None:
    missed = replace(row(10, 50.0), profile=((0.5, "luoser/fdt.py: parse"), (0.25, "len")))
    text = page([missed, row(100, 1.0)])
    assert "| count | 10 | 50.00 | at most 2 | 50 % | `luoser/fdt.py: parse` |\n|  | | | | 25 % | `len` |" in text
    assert "## What misses its goal" not in page([row(10, 1.0)])


def test_functions_of_a_profile_have_no_path_of_the_machine() -> None:
    profile = cProfile.Profile()
    profile.runcall(lambda: fdt.parse(fdt.flatten(fdt.sequential(fdt.Node(b"")))))
    shares, found = zip(*most_time(pstats.Stats(profile), 100), strict=True)
    assert "luoser/fdt.py: parse" in found and "built-in method builtins.len" in found
    assert not any(name.startswith("/") for name in found)
    assert sum(shares) == pytest.approx(1)
    assert list(shares) == sorted(shares, reverse=True)
