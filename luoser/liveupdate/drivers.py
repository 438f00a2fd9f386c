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

__all__ = ["Driver", "LabDriver", "StubDriver", "driver_named"]


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
        if not self.pages.holds(data, self.text(device)):
            raise Failure(errno.EINVAL)

    def finish(self, device: PciDevice, data: int) -> None:
        self.pages.restore(data)  # where probe could not, as it did not get the value
        self.pages.free(data)


class StubDriver(_PageDriver):
    """pci-lu-stub: its page holds the bdf.

    is_fixed: cancel un-preserves, which the posted one forgets. wants: the mark that a device has to have, and no
    other, for this driver to take part; None before the patch that looks at it.
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
    """A well-behaved driver: its page holds `lab driver state of BDF`."""

    def __init__(self, name: str = "lab") -> None:
        super().__init__(name)

    def text(self, device: PciDevice) -> bytes:
        return f"lab driver state of {device.name}".encode()


_TAKES_PART = ("pcieport", "vfio-pci", "pci-pf-stub", "idpf")
"""Drivers with a table of callbacks, all of them empty."""
_STUBS = {"pci-lu-stub": 1, "pci-lu-stub-pf": 2}
"""The test drivers, with the mark that each is for: asked for, or depended on."""


def driver_named(name: str, *, is_fixed: bool = False, checks_marks: bool = False) -> Driver:
    """The ready driver of that name; any other name is a driver without live-update callbacks, as nvme is.

    checks_marks: whether the test drivers look at what a device was marked for.
    """
    if name == "lab":
        return LabDriver()
    if name in _STUBS:
        return StubDriver(name, is_fixed=is_fixed, wants=_STUBS[name] if checks_marks else None)
    return Driver(name, has_ops=name in _TAKES_PART)
