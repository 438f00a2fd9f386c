# SPDX-License-Identifier: MIT
"""The recorded live updates of `fixtures/guests`, before the judge of `make e2e`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import luoser
from luoser.state import State
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


def wrong(state: State) -> State:
    """A reading with another number, half of each reservation, no metadata and no devices."""
    handovers = []
    for one in state.handovers:
        luo = one.luo
        if luo is not None and luo.number is not None:
            luo = replace(luo, number=luo.number + 5)
        memblock = one.memblock
        if memblock is not None:
            half = tuple(replace(area, size=area.size // 2) for area in memblock.reservations)
            memblock = replace(memblock, reservations=half)
        handovers.append(replace(one, luo=luo, memblock=memblock, kexec_metadata=None, pci=()))
    return replace(state, handovers=tuple(handovers))


def test_a_wrong_reading_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = luoser.read
    monkeypatch.setattr(luoser, "read", lambda *given, **options: wrong(read(*given, **options)))
    faults = {one.what for one in judged(recorded(GUESTS / CASES[-1]), whole=False) if one.fault}
    assert {"live update number", "kexec-metadata", "devices", "reserve_mem, outgoing"} <= faults
