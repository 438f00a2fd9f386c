# SPDX-License-Identifier: MIT
"""The page of the benchmarks: ratios, peers that are not there, and exponents."""

from __future__ import annotations

import pytest

from tests.bench.page import Row, exponent, page


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
