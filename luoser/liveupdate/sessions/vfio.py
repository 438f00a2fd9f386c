# SPDX-License-Identifier: MIT
"""File handler for vfio-pci devices: it preserves a record for each device, and calls the PCI core."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.abi.c_struct import Value, structure
from luoser.abi.registry import layout
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes
from luoser.liveupdate.memory import Pages
from luoser.liveupdate.scenario import FileRequest
from luoser.liveupdate.sessions.luo import File
from luoser.liveupdate.sessions.pci import PciCore
from luoser.liveupdate.trace import Failure
from luoser.liveupdate.tree import PciDevice

__all__ = ["VfioFiles"]

_DRIVER = "vfio-pci"


@dataclass(slots=True)
class VfioFiles:
    """The file handler of vfio-pci devices.

    faults:  errno by (preserve, freeze or retrieve, device).
    devices: of open files, by name, even if they were removed from the machine.
    """

    core: PciCore
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    devices: dict[str, PciDevice] = field(default_factory=dict)

    @property
    def compatible(self) -> str:
        """The string of the handler, as its series has it."""
        return self.core.series.vfio.compatible

    @property
    def _pages(self) -> Pages:
        return self.core.pages

    @property
    def record(self) -> Schema:
        """The schema of the record of a device."""
        found = layout(self.core.series.vfio.layout)
        assert found is not None
        return found.schemas[0]

    def can_preserve(self, request: FileRequest) -> bool:
        """Whether the file is of a device that vfio-pci is bound to, and the series allows."""
        if not request.device:
            return False
        device = self.core.tree.find(request.device)
        if device.physfn is not None and not self.core.series.vfio.allows_vfs:
            return False
        return device.driver is not None and device.driver.name == _DRIVER

    def preserve(self, request: FileRequest) -> int:
        """Preserve a device. Returns the physical address of its record. Raises Failure."""
        device = self.devices[request.device] = self.core.tree.find(request.device)
        self._fail("preserve", device.name)
        series = self.core.series.vfio
        if series.is_record_first:
            data = self._new_record(device)
            self._preserve_in_core(device)
            return data
        if not series.honours_core_error:
            self._preserve_in_core(device)
            return self._new_record(device)
        self.core.preserve(device)
        try:
            return self._new_record(device)
        except Failure:
            self.core.unpreserve(device)
            raise

    def _preserve_in_core(self, device: PciDevice) -> None:
        try:
            self.core.preserve(device)
        except Failure as failure:
            self.core.trace.flaw(f"the PCI core refuses {device.name}: {failure}, but vfio-pci ignores that")

    def _new_record(self, device: PciDevice) -> int:
        what = f"{_DRIVER} {device.name}"
        address = self._pages.allocate_preserved(0, what)
        known = {field.name: field.size for field in self.record.fields}
        values = {"domain": device.domain, "bdf": device.bdf, "reset_works": int(device.can_reset)}
        values = {name: value & (1 << 8 * known[name]) - 1 for name, value in values.items() if name in known}
        words = ", ".join(f"{name} = {value:#x}" for name, value in values.items())
        self._pages.write(address, 0, struct_bytes(self.record, values, what), f"{what}: {words}")
        return address

    def read(self, data: int) -> dict[str, Value]:
        """The members of a record, by name. data: its physical address."""
        return structure(self.record).read(self._pages.read(data, self.record.size))

    def freeze(self, name: str, data: int) -> int:
        """Reset the device if possible, which disables bus mastering. Returns `data`. Raises Failure."""
        self._fail("freeze", name)
        if not self.devices[name].can_reset:
            return data
        self.devices[name].busmaster = False
        self.core.trace.call(f"{_DRIVER} resets {name}; its bus mastering is off")
        return data

    def unpreserve(self, name: str, data: int) -> None:
        """Undo `preserve`."""
        self.core.unpreserve(self.devices[name])
        self._pages.unpreserve_free(data)

    def retrieve(self, data: int) -> str:
        """Find the device of a record. Returns its name. Raises Failure if vfio-pci is not bound to such a device."""
        if not self._pages.has(data):
            raise Failure(errno.ENOENT)
        fields = self.read(data)
        bdf = fields["bdf"]
        device = self._find(fields.get("domain", 0), bdf) if isinstance(bdf, int) else None
        if device is None:
            raise Failure(errno.ENODEV)
        self._fail("retrieve", device.name)
        self.devices[device.name] = device
        return device.name

    def _find(self, domain: Value, bdf: int) -> PciDevice | None:
        size = next((field.size for field in self.record.fields if field.name == "domain"), 0)
        mask = (1 << 8 * size) - 1
        found = (one for one in self.core.tree.at(bdf) if one.domain & mask == domain)
        return next((one for one in found if one.driver is not None and one.driver.name == _DRIVER), None)

    def can_finish(self, file: File) -> bool:
        """Whether the device was retrieved."""
        return file.status == 0

    def finish(self, file: File) -> None:
        """Finish the device in the PCI core, and free its record."""
        self.core.finish(self.devices[file.name])
        self._pages.restore_free(file.data)

    def _fail(self, step: str, name: str) -> None:
        if (step, name) in self.faults:
            raise Failure(self.faults[step, name])
