# SPDX-License-Identifier: MIT
"""What the PCI subsystem of the kernel that hands over shares with that of the one that takes over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from luoser.liveupdate.memory import Pages
from luoser.liveupdate.subsystems.luo import Luo
from luoser.liveupdate.subsystems.series import Series
from luoser.liveupdate.trace import Failure, Panic, Trace
from luoser.liveupdate.tree import PciDevice, Tree

__all__ = ["DEPENDED", "PREFIX", "REQUESTED", "Side"]

REQUESTED, DEPENDED = 1, 2
"""In v2 LU_BUSMASTER and LU_BUSMASTER_BRIDGE, in v1 two bits of struct device."""
PREFIX = "PCI liveupdate:"


@dataclass(slots=True, kw_only=True)
class Side:
    """faults: errno by (callback, device); of `walk`, the driver's callbacks iterate over buses."""

    trace: Trace
    pages: Pages
    luo: Luo
    tree: Tree
    series: Series
    is_fixed: bool = False
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def log(self, text: str) -> None:
        self.trace.log(f"{PREFIX} {text}")

    def log_device(self, device: PciDevice, text: str) -> None:
        self.trace.log(f"{device.label} {PREFIX} {text}")

    def has_ops(self, device: PciDevice) -> bool:
        """Whether a device's driver has a table of callbacks."""
        if device.driver is None or (device.driver.name == "pcieport" and not self.series.has_pcieport):
            return False
        return device.driver.has_ops

    def calls(self, device: PciDevice, callback: str) -> bool:
        """Whether there is such a callback; one that is to fail is there."""
        return (callback, device.name) in self.faults or (device.driver is not None and device.driver.has(callback))

    def call(self, callback: str, device: PciDevice, data: int | None = None) -> None:
        """Note a callback, and let it fail as the scenario says. Raises Failure or Panic."""
        assert device.driver is not None
        value = "" if data is None else f", {data:#x}"
        self.trace.call(f"{device.driver.name} {callback}({device.name}{value})")
        if ("walk", device.name) in self.faults and not self.is_fixed:
            self.trace.bug(12, f"{callback} of {device.name} iterates over buses, whose semaphore is held for writing")
            raise self.trace.panic(f"{device.name}: {callback} waits for itself")
        if callback in ("prepare", "freeze", "probe") and (callback, device.name) in self.faults:
            raise Failure(self.faults[callback, device.name])

    def need_ops(self, device: PciDevice, step: str) -> None:
        """Raises Panic where a device has lost its driver, or that has no callbacks. step: cancel, freeze or finish."""
        if self.has_ops(device):
            return
        driver = device.driver
        by_now = f"is bound to {driver.name} by now, which has no callbacks" if driver else "has no driver any more"
        self.trace.bug(4, f"{device.name} {by_now}")
        if step == "finish":
            word = "does not support liveupdate" if driver else "does not have driver"
            raise self.trace.panic(f"PCI luo finish: dev {device.name} {word}")
        word = f"driver {driver.name or '(null name)'} does not support liveupdate" if driver else "has no driver"
        raise self.trace.panic(f"PCI liveupdate {step}: {device.name} {word}")

    def is_gone(self, device: PciDevice) -> bool:
        """Whether a device was removed. The series still has it on its list then. Raises Panic."""
        if device.is_removed and not self.is_fixed:
            self.trace.bug(3, f"{device.name} was removed and is on the list still: use after free")
            raise self.use_after_free(device)
        return device.is_removed

    def use_after_free(self, device: PciDevice) -> Panic:
        return self.trace.panic(f"{device.name}: use after free")

    def clean(self, devices: Iterable[PciDevice]) -> None:
        for device in devices:
            device.flags &= ~DEPENDED
            device.entry = None
