# SPDX-License-Identifier: MIT
"""Drivers as live update sees them, and the ready ones."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from luoser.abi.pci import pci_lu_stub_ser
from luoser.liveupdate.trace import Failure

if TYPE_CHECKING:
    from luoser.liveupdate.memory import Pages
    from luoser.liveupdate.tree import PciDevice

__all__ = ["CALLBACKS", "DRIVERS", "Driver", "LabDriver", "StubDriver", "driver_named"]

CALLBACKS = ("prepare", "freeze", "cancel", "finish")


class Driver:
    """A driver; subclass it and override the callbacks that yours has. Each may raise Failure(errno).

    has_ops: whether it has a table of live-update callbacks at all. A table may be empty: then the driver takes
    part and does nothing. pages: the machine's memory, there from the first callback on.
    """

    pages: Pages

    def __init__(self, name: str, *, has_ops: bool = True) -> None:
        self.name = name
        self.has_ops = has_ops

    def prepare(self, device: PciDevice) -> int:
        """Gives driver_data, mostly the address of a preserved folio."""
        return 0

    def freeze(self, device: PciDevice, data: int) -> int:
        """Gives driver_data as it is to be from now on."""
        return data

    def cancel(self, device: PciDevice, data: int) -> None:
        """Undo what prepare, and maybe freeze, did."""

    def probe(self, device: PciDevice, data: int) -> None:
        """Bind in the next kernel to a device that was handed over."""

    def finish(self, device: PciDevice, data: int) -> None:
        """The live update is over."""

    def has(self, callback: str) -> bool:
        """Whether this driver has such a callback."""
        return getattr(type(self), callback) is not getattr(Driver, callback)


class _PageDriver(Driver):
    """Preserves a page of its own for each device."""

    def text(self, device: PciDevice) -> bytes:
        raise NotImplementedError

    def prepare(self, device: PciDevice) -> int:
        what = f"{self.name} {device.name}"
        address = self.pages.allocate(0, what)
        try:
            self.pages.preserve(address)
        except Failure:
            self.pages.free(address)
            raise
        self.pages.write(address, 0, self.text(device), what)
        return address

    def cancel(self, device: PciDevice, data: int) -> None:
        self.pages.unpreserve(data)
        self.pages.free(data)

    def probe(self, device: PciDevice, data: int) -> None:
        folio = self.pages.restore(data)
        if folio is None:
            raise Failure(errno.ENOENT)
        if not folio.data.startswith(self.text(device)):
            raise Failure(errno.EINVAL)

    def finish(self, device: PciDevice, data: int) -> None:
        self.pages.free(data)


class StubDriver(_PageDriver):
    """pci-lu-stub: its page holds the bdf. is_fixed: cancel un-preserves, which the posted one forgets."""

    def __init__(self, name: str = "pci-lu-stub", *, is_fixed: bool = False) -> None:
        super().__init__(name)
        self.is_fixed = is_fixed

    def text(self, device: PciDevice) -> bytes:
        return pci_lu_stub_ser.build({"dev_id": device.bdf})

    def cancel(self, device: PciDevice, data: int) -> None:
        if self.is_fixed:
            super().cancel(device, data)
            return
        self.pages.trace.bug(16, f"{self.name} drops {data:#x} without un-preserving it")
        self.finish(device, data)


class LabDriver(_PageDriver):
    """A well-behaved driver: its page holds `lab driver state of BDF`."""

    def __init__(self, name: str = "lab") -> None:
        super().__init__(name)

    def text(self, device: PciDevice) -> bytes:
        return f"lab driver state of {device.name}".encode()


DRIVERS = ("idpf", "lab", "nvme", "pci-lu-stub", "pci-lu-stub-pf", "pci-pf-stub", "pcieport", "vfio-pci")


def driver_named(name: str, *, is_fixed: bool = False) -> Driver:
    """The ready driver of that name; any other name is a driver without live-update callbacks, as nvme is."""
    if name == "lab":
        return LabDriver()
    if name in ("pci-lu-stub", "pci-lu-stub-pf"):
        return StubDriver(name, is_fixed=is_fixed)
    return Driver(name, has_ops=name in ("pcieport", "vfio-pci", "pci-pf-stub", "idpf"))
