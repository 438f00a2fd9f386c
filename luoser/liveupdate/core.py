# SPDX-License-Identifier: MIT
"""The PCI core's part of live update as queued for 7.4 (v8, v9), and the vfio-pci files that it depends on."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.pci import pci_dev_ser_b_refcount, pci_ser_b_version
from luoser.abi.vfio import vfio_pci_core_device_ser_domain32
from luoser.liveupdate.memory import PAGE_SIZE, Pages
from luoser.liveupdate.trace import Failure, Trace
from luoser.liveupdate.tree import PciDevice, Tree

__all__ = ["PciCore", "VfioFiles"]

_RECORD = pci_dev_ser_b_refcount.record
_HEADER = kho_block_header_ser.size
_ROOM = capacity(PAGE_SIZE, _RECORD.size)


@dataclass(slots=True, kw_only=True)
class PciCore:
    """version: 1 endpoints only, 2 with the bridges above them. incoming: names of devices that were found in the
    list of the kernel before. accepts: the version that this kernel reads.
    """

    trace: Trace
    pages: Pages
    tree: Tree
    version: int = 2
    accepts: int = 2
    address: int = 0
    incoming: list[str] = field(default_factory=list)
    name: str = "pci"

    # -- the FLB --

    def flb_preserve(self) -> int:
        self.address = self.pages.allocate(0, "pci_ser")
        try:
            self.pages.preserve(self.address)
        except Failure:
            self.pages.free(self.address)
            raise
        self._write_head(0, 0)
        return self.address

    def flb_unpreserve(self, data: int) -> None:
        for page in [*self.blocks(), data]:
            self.pages.unpreserve(page)
            self.pages.free(page)
        self.address = 0

    def flb_retrieve(self, data: int) -> None:
        """At the first device that is enumerated. Raises Panic where the version is another."""
        if self.pages.restore(data) is None:
            raise self.trace.panic(f"PCI: KHO has no folio {data:#x}")
        self.address = data
        version, _, _ = self.head()
        if version != self.accepts:
            raise self.trace.panic(f"PCI: version {version} was handed over, {self.accepts} is expected: -EINVAL")
        for page in self.blocks():
            self.pages.restore(page)

    def flb_finish(self, data: int) -> None:
        _, count, _ = self.head()
        if count:
            raise self.trace.panic(f"PCI: {count} devices are still preserved when the last file is finished")
        for page in [*self.blocks(), data]:
            self.pages.free(page)
        self.address = 0

    # -- devices --

    def preserve(self, device: PciDevice) -> None:
        """Raises Failure; then nothing has changed."""
        if device.physfn is not None:
            raise Failure(errno.EINVAL)
        done: list[PciDevice] = []
        for one in (device, *(device.above if self.version > 1 else ())):
            try:
                self._count(one, 1)
            except Failure:
                for earlier in done:
                    self._count(earlier, -1)
                raise
            done.append(one)

    def unpreserve(self, device: PciDevice) -> None:
        """Also what finish does: the path up has one less below it."""
        for one in (device, *(device.above if self.version > 1 else ())):
            self._count(one, -1)

    def enumerate(self, data: int) -> None:
        """Devices that are found in the list are marked as incoming."""
        for device in self.tree.enumerate():
            if not self.address:
                self.flb_retrieve(data)
            if self._slot(device) is not None:
                self.incoming.append(device.name)
                self.trace.call(f"PCI: {device.name} was preserved")

    def _count(self, device: PciDevice, change: int) -> None:
        slot = self._slot(device)
        if slot is None and change < 0:
            raise self.trace.panic(f"PCI: {device.name} is not preserved")
        if slot is None:
            slot, refcount = self._new_slot(), 0
        else:
            refcount = self.records()[slot][2]
        refcount += change
        version, count, _ = self.head()
        is_new, is_gone = refcount == change == 1, refcount == 0
        self._write_slot(slot, (device.domain, device.bdf, refcount) if refcount else (0, 0, 0), device.name)
        if is_new or is_gone:
            self._write_head(count + (1 if is_new else -1), (self.blocks() or [0])[0], version=version)

    def _slot(self, device: PciDevice) -> int | None:
        wanted = device.domain, device.bdf
        rows = enumerate(self.records())
        return next((slot for slot, row in rows if row[2] and row[:2] == wanted), None)

    # -- bytes --

    def head(self) -> tuple[int, int, int]:
        """(version, devices, first block)."""
        data = bytes(self.pages.folios[self.address].data[: pci_ser_b_version.size])
        version, count, first = pci_ser_b_version.record.unpack(data)
        return version, count, first

    def _write_head(self, count: int, first: int, *, version: int | None = None) -> None:
        data = pci_ser_b_version.record.pack(self.version if version is None else version, count, first)
        self.pages.write(self.address, 0, data, f"pci_ser: nr_devices = {count}")

    def blocks(self) -> list[int]:
        """The block pages in order."""
        found, block = list[int](), self.head()[2]
        while block:
            found.append(block)
            block = int.from_bytes(self.pages.folios[block].data[:8], "little")
        return found

    def records(self) -> list[tuple[int, int, int]]:
        """(domain, bdf, refcount) of every slot; holes are zeros."""
        return list(self._records())

    def _records(self) -> Iterator[tuple[int, int, int]]:
        for block in self.blocks():
            data = self.pages.folios[block].data
            count = int.from_bytes(data[8:16], "little")
            yield from _RECORD.iter_unpack(bytes(data[_HEADER : _HEADER + count * _RECORD.size]))

    def _new_slot(self) -> int:
        """The slot behind the last one, in a block of its own where the last block is full. Raises Failure."""
        slot, blocks = len(self.records()), self.blocks()
        if slot == len(blocks) * _ROOM:
            page = self.pages.allocate(0, f"pci block {len(blocks)}")
            try:
                self.pages.preserve(page)
            except Failure:
                self.pages.free(page)
                raise
            if blocks:
                self.pages.write(blocks[-1], 0, page.to_bytes(8, "little"), "block: next")
            else:
                self._write_head(self.head()[1], page)
            blocks.append(page)
        self.pages.write(blocks[-1], 8, (slot % _ROOM + 1).to_bytes(8, "little"), f"block: count = {slot % _ROOM + 1}")
        return slot

    def _write_slot(self, slot: int, row: tuple[int, int, int], name: str) -> None:
        block = self.blocks()[slot // _ROOM]
        word = f"slot {slot}: {name} refcount {row[2]}"
        self.pages.write(block, _HEADER + slot % _ROOM * _RECORD.size, _RECORD.pack(*row), word)


@dataclass(slots=True)
class VfioFiles:
    """Files of vfio-pci devices. faults: errno by (`prepare` or `freeze`, device)."""

    core: PciCore
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    compatible: str = "vfio-pci-v1"

    def preserve(self, name: str) -> int:
        device = self.core.tree.find(name)
        if device.driver is None or device.driver.name != "vfio-pci":
            raise Failure(errno.ENOENT)
        self.core.preserve(device)
        try:
            return self._page(device)
        except Failure:
            self.core.unpreserve(device)
            raise

    def _page(self, device: PciDevice) -> int:
        pages, what = self.core.pages, f"vfio-pci {device.name}"
        if ("prepare", device.name) in self.faults:
            raise Failure(self.faults["prepare", device.name])
        page = pages.allocate(0, what)
        try:
            pages.preserve(page)
        except Failure:
            pages.free(page)
            raise
        record = vfio_pci_core_device_ser_domain32.build({"domain": device.domain, "bdf": device.bdf})
        pages.write(page, 0, record, what)
        return page

    def freeze(self, name: str, data: int) -> int:
        if ("freeze", name) in self.faults:
            raise Failure(self.faults["freeze", name])
        return data

    def unfreeze(self, name: str, data: int) -> None:
        """Nothing was changed."""

    def unpreserve(self, name: str, data: int) -> None:
        self.core.unpreserve(self.core.tree.find(name))
        self.core.pages.unpreserve(data)
        self.core.pages.free(data)

    def retrieve(self, name: str, data: int) -> None:
        if self.core.pages.restore(data) is None:
            raise self.core.trace.panic(f"{name}: KHO has no folio {data:#x}")

    def finish(self, name: str, data: int) -> None:
        self.core.unpreserve(self.core.tree.find(name))
        self.core.pages.free(data)
