# SPDX-License-Identifier: MIT
"""Scenarios for the tests of the model."""

from __future__ import annotations

from typing import Any

from luoser.liveupdate import Driver, SessionMachine, SubsystemMachine, load_scenario, simulate

__all__ = ["BRIDGE", "FOLIO", "GOLDEN", "ROOT", "VF", "golden", "run", "sessions", "switch", "vmm"]

VF, BRIDGE, ROOT = "0000:05:00.1", "0000:04:01.0", "0000:00:01.0"
FOLIO = 0x1F1D28000
GOLDEN: dict[str, Any] = {
    "devices": [
        {"bdf": ROOT, "driver": "pcieport"},
        {"bdf": "0000:03:00.0", "parent": ROOT, "driver": "pcieport"},
        {"bdf": BRIDGE, "parent": "0000:03:00.0", "driver": "pcieport"},
        {"bdf": "0000:05:00.0", "parent": BRIDGE, "driver": "nvme"},
        {"bdf": VF, "parent": BRIDGE, "physfn": "0000:05:00.0", "driver": "pci-lu-stub"},
    ],
    "requested": [VF],
    "places": {"pci folio": FOLIO, f"pci-lu-stub {VF}": 0x1AC6F4000},
}
"""The machine of the v2 cover letter with bridges above 04:01.0, which is on a root bus there."""


def golden(**more: Any) -> dict[str, Any]:
    return {**GOLDEN, **more}


def run(
    until: str = "finish", *, fixed: bool = False, own: dict[str, Driver] | None = None, **more: Any
) -> SubsystemMachine:
    """The golden machine with changes. own: drivers by device."""
    machine = simulate(load_scenario(golden(**more)), until=until, is_fixed=fixed, drivers=own)
    assert isinstance(machine, SubsystemMachine)
    return machine


def switch(**more: Any) -> dict[str, Any]:
    """A device two bridges below a root bus and one right on it, lab drivers everywhere."""
    devices = [
        {"bdf": "0000:00:01.0", "driver": "pcieport"},
        {"bdf": "0000:01:00.0", "parent": "0000:00:01.0", "driver": "pcieport"},
        {"bdf": "0000:02:00.0", "parent": "0000:01:00.0", "driver": "lab"},
        {"bdf": "0000:00:02.0", "driver": "lab"},
    ]
    return {"devices": devices, "requested": ["0000:02:00.0", "0000:00:02.0"], **more}


def vmm(**more: Any) -> dict[str, Any]:
    """Two devices behind one switch and one on a root bus, held by vfio-pci."""
    devices = [
        {"bdf": "0000:00:01.0", "driver": "pcieport"},
        {"bdf": "0000:01:00.0", "parent": "0000:00:01.0", "driver": "pcieport"},
        {"bdf": "0000:02:00.0", "parent": "0000:01:00.0", "driver": "pcieport"},
        {"bdf": "0000:02:01.0", "parent": "0000:01:00.0", "driver": "pcieport"},
        {"bdf": "0000:03:00.0", "parent": "0000:02:00.0", "driver": "vfio-pci"},
        {"bdf": "0000:04:00.0", "parent": "0000:02:01.0", "driver": "vfio-pci"},
        {"bdf": "0000:04:00.1", "parent": "0000:02:01.0", "driver": "vfio-pci", "physfn": "0000:04:00.0"},
        {"bdf": "0000:00:02.0", "driver": "vfio-pci"},
    ]
    asked = {} if "sessions" in more else {"requested": ["0000:03:00.0", "0000:04:00.0"]}
    return {"series": "pci-core-v9", "devices": devices, **asked, **more}


def sessions(until: str = "finish", **more: Any) -> SessionMachine:
    machine = simulate(load_scenario(vmm(**more)), until=until)
    assert isinstance(machine, SessionMachine)
    return machine
