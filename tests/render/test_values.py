# SPDX-License-Identifier: MIT
"""Values of members as text."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.render.values import value_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([0xFE000000, 0, 0, 0xD0000004, 0, 0, 0], "[0] 0xfe000000, [1-2] 0, [3] 0xd0000004, [4-6] 0"),
        ([0, 0, 0], "[0-2] 0"),
        ([7], "[0] 7"),
        ([], ""),
        (list(range(20)), ", ".join(f"[{place}] {place if place < 10 else hex(place)}" for place in range(20))),
        ([{"size": 0}, {"size": 1}], "[0] { size 0 }, [1] { size 1 }"),
    ],
)
def test_elements_of_an_array_keep_their_places(value: Any, shown: str) -> None:
    assert value_text(value) == shown
