# SPDX-License-Identifier: MIT
"""The work of a simulation grows with the number of devices, not with its square."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.liveupdate import load_scenario, simulate
from tests.work import steps


def scenario(count: int, series: str | None) -> dict[str, Any]:
    """Seven devices below each root port."""
    devices: list[dict[str, str]] = []
    for port in range(count // 8):
        bridge = f"0000:00:{port >> 3:02x}.{port & 7}"
        devices.append({"bdf": bridge, "driver": "pcieport"})
        driver = "vfio-pci" if series else "pci-lu-stub"
        devices += [
            {"bdf": f"0000:{1 + port:02x}:{slot:02x}.0", "parent": bridge, "driver": driver} for slot in range(7)
        ]
    names = [device["bdf"] for device in devices if "parent" in device]
    if series is None:
        return {"devices": devices, "requested": names}
    files = [{"token": number, "device": name} for number, name in enumerate(names)]
    sessions = [{"name": f"vm-{start}", "files": files[start : start + 16]} for start in range(0, len(files), 16)]
    return {"devices": devices, "series": series, "sessions": sessions}


def work(count: int, series: str | None, *, is_fixed: bool) -> int:
    made = load_scenario(scenario(count, series))
    with steps(10_000_000) as taken:
        machine = simulate(made, is_fixed=is_fixed)
    assert machine.error is None
    return taken()


@pytest.mark.parametrize(
    ("series", "is_fixed"),
    [(None, False), (None, True), ("pci-core-v5", False), ("pci-core-v7", False), ("pci-core-v9", False)],
)
def test_four_times_the_devices_are_four_times_the_work(series: str | None, is_fixed: bool) -> None:
    """Without the series whose lists are sorted: those move the rest of the list for each device."""
    few, many = work(64, series, is_fixed=is_fixed), work(256, series, is_fixed=is_fixed)
    assert many < 5 * few
