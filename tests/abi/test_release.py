# SPDX-License-Identifier: MIT
"""Numbers of releases, also of those that no kernel has."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from luoser.abi.release import release, release_numbers
from luoser.checks import check
from luoser.state import to_document
from luoser.state.from_json import from_document
from tests import real

MANY = "9" * 5000


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7.3.4-lab", (7, 3, 4)),
        ("v7.3", (7, 3, 0)),
        (f"{MANY}.3", None),
        (f"7.{MANY}", None),
        (f"7.3.{MANY}", (7, 3, 0)),
        ("\u0667.\u0663", None),
    ],
)
def test_numbers_of_a_release(text: str, numbers: tuple[int, int, int] | None) -> None:
    assert release_numbers(text) == numbers


def test_a_name_of_many_digits_is_that_of_its_series() -> None:
    assert release(f"6.17.{MANY}") == release("6.17")


def test_a_document_with_a_release_of_many_digits_is_read_and_judged() -> None:
    state = real.read("7.3-a/frozen")
    odd = replace(state, source=replace(state.source, kernel=f"7.{MANY}"))
    read = from_document(json.loads(json.dumps(to_document(odd, full=True))))
    assert read == odd
    assert check(read).verdict in ("sound", "inconclusive")
