# SPDX-License-Identifier: MIT
"""Drivers with their live-update callbacks, and the built-in drivers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from luoser.abi.pci import pci_lu_stub_ser
from luoser.liveupdate.trace import Failure

if TYPE_CHECKING:
    from luoser.liveupdate.memory import Pages
    from luoser.liveupdate.tree import PciDevice

__all__ = ["Driver", "LabDriver", "StubDriver", "driver_named"]


class Driver:
    """A driver. To model another one, make a subclass and override its callbacks. A callback can raise Failure(errno).

    name:    of the driver.
    has_ops: the driver has a table of live-update callbacks, which can be empty.
    pages:   memory of the machine. It is set before the first callback.
    """

    pages: Pages

    def __init__(self, name: str, *, has_ops: bool = True) -> None:
        self.name = name
        self.has_ops = has_ops

    def prepare(self, device: PciDevice) -> int:
        """Prepare a device. Returns driver_data, usually the physical address of a preserved folio."""
        return 0

    def freeze(self, device: PciDevice, data: int) -> int:
        """Freeze a device. Returns the new driver_data. data: the current driver_data."""
        return data

    def cancel(self, device: PciDevice, data: int) -> None:
        """Undo prepare and, if it was called, freeze. data: the current driver_data."""

    def probe(self, device: PciDevice, data: int) -> None:
        """Bind, in the next kernel, to a device that was handed over. data: its driver_data."""

    def finish(self, device: PciDevice, data: int) -> None:
        """Release, in the next kernel, what was handed over. data: the driver_data of the device."""

    def has(self, callback: str) -> bool:
        """Whether this driver has a callback. callback: name of a method of this class."""
        return getattr(type(self), callback) is not getattr(Driver, callback)


class _PageDriver(Driver):
    """A driver that preserves a page for each device."""

    def text(self, device: PciDevice) -> bytes:
        """The bytes that the driver writes to the page of a device."""
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
        if not self.pages.holds(data, self.text(device)):
            raise Failure(errno.EINVAL)

    def finish(self, device: PciDevice, data: int) -> None:
        self.pages.restore(data)  # no effect after a probe that got driver_data and restored it
        self.pages.free(data)


class StubDriver(_PageDriver):
    """pci-lu-stub, the test driver of the 2025 series. It writes the bdf to its page.

    is_fixed: cancel un-preserves the page, which the posted driver does not.
    wants:    the driver accepts only devices with exactly these flags. None: the series does not check them yet.
    """

    def __init__(self, name: str = "pci-lu-stub", *, is_fixed: bool = False, wants: int | None = None) -> None:
        super().__init__(name)
        self.is_fixed, self.wants = is_fixed, wants

    def text(self, device: PciDevice) -> bytes:
        return pci_lu_stub_ser.build({"dev_id": device.bdf})

    def prepare(self, device: PciDevice) -> int:
        self._check(device)
        data = super().prepare(device)
        self._log(device, "pci_lu_stub_prepare", data)
        return data

    def freeze(self, device: PciDevice, data: int) -> int:
        self._log(device, "pci_lu_stub_freeze", data)
        if not self.pages.holds(data, self.text(device)):
            raise Failure(errno.EINVAL)
        return data

    def cancel(self, device: PciDevice, data: int) -> None:
        self._log(device, "pci_lu_stub_cancel", data)
        if self.is_fixed:
            super().cancel(device, data)
            return
        self.pages.trace.bug(16, f"{self.name} drops {data:#x} without un-preserving it")
        self.finish(device, data)

    def probe(self, device: PciDevice, data: int) -> None:
        self._check(device)
        self._log(device, "pci_lu_stub_probe" if self.wants is None else "__pci_lu_stub_probe", data)
        super().probe(device, data)

    def finish(self, device: PciDevice, data: int) -> None:
        self._log(device, "pci_lu_stub_finish", data)
        super().finish(device, data)

    def _check(self, device: PciDevice) -> None:
        if self.wants is not None and device.flags != self.wants:
            raise Failure(errno.EINVAL)

    def _log(self, device: PciDevice, function: str, data: int) -> None:
        self.pages.trace.log(f"{self.name} {device.name}: {function}(): data: {data:#x}")


class LabDriver(_PageDriver):
    """A driver without known bugs. It writes `lab driver state of BDF` to its page."""

    def __init__(self, name: str = "lab") -> None:
        super().__init__(name)

    def text(self, device: PciDevice) -> bytes:
        return f"lab driver state of {device.name}".encode()


_EMPTY_OPS = ("pcieport", "vfio-pci", "pci-pf-stub", "idpf")
"""Drivers with an empty table of callbacks."""
_STUBS = {"pci-lu-stub": 1, "pci-lu-stub-pf": 2}
"""The test drivers, and the flag of their devices: requested, or depended."""


def driver_named(name: str, *, is_fixed: bool = False, checks_marks: bool = False) -> Driver:
    """The built-in driver of this name. An unknown name is a driver without live-update callbacks, such as nvme.

    is_fixed:     without the known bugs of the test drivers.
    checks_marks: the test drivers check the flags of devices.
    """
    if name == "lab":
        return LabDriver()
    if name in _STUBS:
        return StubDriver(name, is_fixed=is_fixed, wants=_STUBS[name] if checks_marks else None)
    return Driver(name, has_ops=name in _EMPTY_OPS)
