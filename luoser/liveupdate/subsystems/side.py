# SPDX-License-Identifier: MIT
"""Shared by both sides of the PCI subsystem, outgoing and incoming."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from luoser.liveupdate.memory import Pages
from luoser.liveupdate.subsystems.luo import Luo
from luoser.liveupdate.subsystems.series import Series
from luoser.liveupdate.trace import Failure, Trace
from luoser.liveupdate.tree import PciDevice, Tree

__all__ = ["DEPENDED", "PREFIX", "REQUESTED", "KernelSide"]

REQUESTED, DEPENDED = 1, 2
"""Flags of a device. In v2 LU_BUSMASTER and LU_BUSMASTER_BRIDGE, in v1 two bits of struct device."""
PREFIX = "PCI liveupdate:"


@dataclass(slots=True, kw_only=True)
class KernelSide:
    """The PCI subsystem of one kernel, either side.

    luo:      LUO, over both kernels.
    tree:     PCI devices of the kernel.
    is_fixed: without the known bugs.
    faults:   errno by (callback, device). (`walk`, device): the driver's callbacks iterate over buses.
    """

    trace: Trace
    pages: Pages
    luo: Luo
    tree: Tree
    series: Series
    is_fixed: bool = False
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def log(self, text: str) -> None:
        """Log a line with the prefix of the subsystem."""
        self.trace.log(f"{PREFIX} {text}")

    def log_device(self, device: PciDevice, text: str) -> None:
        """Log a line on a device."""
        self.trace.log(f"{device.label} {PREFIX} {text}")

    def has_ops(self, device: PciDevice) -> bool:
        """Whether the driver of a device has a table of callbacks."""
        if device.driver is None or (device.driver.name == "pcieport" and not self.series.has_pcieport):
            return False
        return device.driver.has_ops

    def calls(self, device: PciDevice, callback: str) -> bool:
        """Whether the driver of a device has a callback. One with a fault always exists."""
        return (callback, device.name) in self.faults or (device.driver is not None and device.driver.has(callback))

    def call(self, callback: str, device: PciDevice, data: int | None = None) -> None:
        """Add a callback to the trace. Raises Failure or Panic if the scenario has a fault for it."""
        assert device.driver is not None
        value = "" if data is None else f", {data:#x}"
        self.trace.call(f"{device.driver.name} {callback}({device.name}{value})")
        if ("walk", device.name) in self.faults and not self.is_fixed:
            self.trace.bug(12, f"{callback} of {device.name} iterates over buses, whose semaphore is held for writing")
            raise self.trace.panic(f"{device.name}: deadlock in {callback}")
        if callback in ("prepare", "freeze", "probe") and (callback, device.name) in self.faults:
            raise Failure(self.faults[callback, device.name])

    def need_ops(self, device: PciDevice, step: str) -> None:
        """Raises Panic if a device has no driver any more, or one without callbacks. step: cancel, freeze or finish."""
        if self.has_ops(device):
            return
        driver = device.driver
        now = f"is now bound to {driver.name}, which has no callbacks" if driver else "has no driver any more"
        self.trace.bug(4, f"{device.name} {now}")
        if step == "finish":
            word = "does not support liveupdate" if driver else "does not have driver"
            raise self.trace.panic(f"PCI luo finish: dev {device.name} {word}")
        word = f"driver {driver.name or '(null name)'} does not support liveupdate" if driver else "has no driver"
        raise self.trace.panic(f"PCI liveupdate {step}: {device.name} {word}")

    def is_gone(self, device: PciDevice) -> bool:
        """Whether a device was removed. Raises Panic with the known bug: the series still has it in its list."""
        if device.is_removed and not self.is_fixed:
            self.trace.bug(3, f"{device.name} was removed, but is still in the list: use after free")
            raise self.trace.panic(f"{device.name}: use after free")
        return device.is_removed

    def clean(self, devices: Iterable[PciDevice]) -> None:
        """Clear the DEPENDED flag and the entry of devices."""
        for device in devices:
            device.flags &= ~DEPENDED
            device.entry = None
