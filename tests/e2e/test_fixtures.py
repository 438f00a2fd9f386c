# SPDX-License-Identifier: MIT
"""The recorded live updates of `fixtures/guests`, before the judge of `make e2e`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.fixtures import recorded
from tests.e2e.judge import judged

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"
CASES = sorted(case.name for case in GUESTS.iterdir() if case.is_dir())


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_live_update_agrees_with_its_kernels(case: str) -> None:
    found = list(judged(recorded(GUESTS / case), whole=False))
    assert [one for one in found if one.fault] == []
    assert {"pre", "frozen", "post", "finished", "frozen2"} <= {one.moment for one in found}
    of_frozen = {one.what for one in found if one.moment == "frozen"}
    assert {"check", "debugfs out", "sessions and files", "devices", "map, pages of files"} <= of_frozen
