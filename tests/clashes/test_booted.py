# SPDX-License-Identifier: MIT
"""What kernels did with the handover of another one, and that `luoser compat` says the same."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.clashes import Booted, find_booted, of_release, pairs
from luoser.clashes.booted import of_record
from luoser.render.compat import matrix_page
from tests.e2e.pairs import fault_of, log_of

DONE: dict[str, Any] = {
    "from": "7.3.4",
    "to": "7.2.13",
    "ended": "done",
    "preserved": 7,
    "retrieved": 7,
    "has_luo": True,
    "log": [],
}


@pytest.mark.parametrize("one", pairs(), ids=lambda one: one.words)
def test_kernels_did_what_compat_says(one: Booted) -> None:
    assert fault_of(one) == ""


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({}, "works"),
        ({"retrieved": 6}, "breaks"),
        ({"retrieved": 0, "has_luo": False}, "sessions lost"),
        ({"ended": "panic"}, "breaks"),
        ({"ended": "silent"}, "breaks"),
        ({"log": ["KHO: disabling KHO revival"], "ended": "panic"}, "refused"),
        ({"log": ["test_kho: KHO restore failed"]}, "breaks"),
        ({"preserved": 0, "retrieved": 0}, "breaks"),  # nothing shows that anything was taken over
        ({"preserved": 0, "retrieved": 0, "log": ["test_kho: KHO restore succeeded"]}, "works"),
    ],
)
def test_what_comes_of_a_boot(change: dict[str, Any], result: str) -> None:
    assert of_record({**DONE, **change}).result == result


def test_a_kernel_that_did_something_else_is_a_fault() -> None:
    assert fault_of(of_record(DONE)) == ""
    assert "compat says works, the kernel breaks" in fault_of(of_record({**DONE, "retrieved": 0}))
    refused = {**DONE, "from": "7.1.13", "log": ["KHO: disabling KHO revival"], "retrieved": 0}
    assert "not logged: KHO: setup: handover FDT" in fault_of(of_record(refused)).replace("\\", "")


def test_the_newest_of_a_series_is_taken_and_nothing_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tuple(of_record({**DONE, "from": name}) for name in ("7.3.4", "7.3.10"))
    monkeypatch.setattr("luoser.clashes.booted._recorded", lambda: made)
    assert find_booted("7.3", "7.2") == made[1] and find_booted("7.3.4", "7.2.13") == made[0]
    assert find_booted("7.3", "7.1") is None and find_booted("7.3.5", "7.2") is None and find_booted("7", "7.2") is None
    page = matrix_page(of_release)
    assert "works ✓" in page and "- 7.3.10 → 7.2.13: works, 7 of 7 files retrieved." in page


def test_the_log_of_a_console() -> None:
    console = "[    0.1] KHO: fund at 0x1234\nLOG [    0.1] KHO: found at 0x1234\nLOG [    0.2] usb: x\n"
    assert log_of(console) == ["KHO: found at N"]
    assert log_of(console.partition("LOG")[0]) == ["KHO: fund at N"]  # of a kernel without user space
