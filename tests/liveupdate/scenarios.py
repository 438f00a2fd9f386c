# SPDX-License-Identifier: MIT
"""Random scenarios."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st

__all__ = ["DRIVERS", "scenarios"]

DRIVERS = ["lab", "vfio-pci", "pcieport", "idpf", "pci-pf-stub", "nvme", "", "pci-lu-stub"]


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """A tree of up to ten buses, with wishes and faults."""
    devices: list[dict[str, Any]] = []
    bus = 0
    open_buses: list[tuple[int, str | None]] = [(0, None)]
    for _ in range(draw(st.integers(1, 10))):
        number, parent = draw(st.sampled_from(open_buses))
        slot = sum(device["bdf"][5:7] == f"{number:02x}" for device in devices)
        name = f"0000:{number:02x}:{slot:02x}.0"
        is_bridge = draw(st.booleans())
        driver = draw(st.sampled_from(["pcieport", "pcieport", "pcieport", ""] if is_bridge else DRIVERS))
        devices.append({"bdf": name, "driver": driver, **({"parent": parent} if parent else {})})
        if is_bridge:
            bus += 1
            open_buses.append((bus, name))
    names = st.sampled_from([device["bdf"] for device in devices])
    fault = st.fixed_dictionaries(
        {"at": st.sampled_from(["prepare", "freeze", "probe"]), "device": names, "errno": st.just("EBUSY")}
    )
    return {
        "devices": devices,
        "requested": draw(st.lists(names, unique=True)),
        "faults": draw(st.lists(fault, max_size=2)),
    }
