# SPDX-License-Identifier: MIT
"""A bare device list as a state."""

from __future__ import annotations

import pytest

from luoser.errors import UsageError
from luoser.reader.bare import read_bare
from tests.golden import GOLDEN

LIST = (GOLDEN / "pci-folio.bin").read_bytes()


@pytest.mark.parametrize("layout", [None, "pci-lu-v2-06"])
@pytest.mark.parametrize("size", [168, 4096])
def test_its_devices(layout: str | None, size: int) -> None:
    state = read_bare(LIST.ljust(size, b"\0")[:size], layout, path="x")
    (handover,) = state.handovers
    (entry,) = handover.pci
    assert [device.name for device in entry.devices] == ["0000:05:00.1", "0000:04:01.0"]
    assert (entry.layout, entry.address, handover.address, state.problems) == ("pci-lu-v2-06", 0, None, ())


def test_a_list_that_is_cut_off_has_a_problem() -> None:
    state = read_bare(LIST[:100], "pci-lu-v2-06", path="x")
    assert {problem.code for problem in state.problems} == {"short-list"}
    assert all(problem.address is None for problem in state.problems)


@pytest.mark.parametrize(
    ("data", "layout"), [(LIST, "luo-v5"), (LIST, "pci-version-2"), (b"\2\0", "pci-lu-v2-06"), (b"\xff" * 99, None)]
)
def test_what_is_not_a_list(data: bytes, layout: str | None) -> None:
    with pytest.raises(UsageError):
        read_bare(data, layout, path="x")
