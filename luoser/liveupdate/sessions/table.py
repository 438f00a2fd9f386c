# SPDX-License-Identifier: MIT
"""The PCI core's list in memory: records after a header, or in KHO blocks.

A slot is the place of one record: (domain, bdf, refcount). Layouts without a refcount have a refcount of 1 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luoser.abi.pci import PciLayout
from luoser.abi.struct_bytes import struct_bytes
from luoser.liveupdate.memory import Pages, get_order
from luoser.liveupdate.sessions.blocks import BlockSet

__all__ = ["BLOCK", "LIST", "Row", "Table"]

LIST, BLOCK = "pci_ser", "pci block"
Row = tuple[int, int, int]
"""(domain, bdf, refcount)."""


@dataclass(slots=True)
class Table:
    """A list.

    form:    its layout.
    address: physical, of the header.
    blocks:  of the records. Empty for layouts without blocks.
    """

    pages: Pages
    form: PciLayout
    address: int
    blocks: BlockSet

    @classmethod
    def create(cls, pages: Pages, form: PciLayout, room: int) -> Table:
        """Allocate an empty list. Raises Failure.

        room: number of devices that must fit. Ignored for layouts with blocks.
        """
        size = form.header.size + (0 if form.blocks is not None else room * form.record.size)
        made = cls.at(pages, form, pages.allocate_preserved(get_order(size), LIST))
        values = {form.capacity: room} if form.capacity is not None else {}
        if form.version is not None:
            values["version"] = form.version
        words = ", ".join(f"{name} = {value}" for name, value in {**values, form.count: 0}.items())
        pages.write(made.address, 0, struct_bytes(form.header, values, LIST), f"{LIST}: {words}")
        return made

    @classmethod
    def at(cls, pages: Pages, form: PciLayout, address: int) -> Table:
        """The list at a physical address, without its blocks: see `restore_blocks`."""
        return cls(pages, form, address, BlockSet(pages, form.record.size, BLOCK))

    # -- the header --

    def member(self, name: str) -> int:
        """A member of the header."""
        field = self.form.header.field(name)
        return int.from_bytes(self.pages.read(self.address + field.offset, field.size), "little")

    @property
    def count(self) -> int:
        """The number of devices, nr_devices."""
        return self.member(self.form.count)

    def set_count(self, count: int) -> None:
        """Write the number of devices to the header."""
        self._set(self.form.count, count)

    def _set(self, name: str, value: int) -> None:
        field = self.form.header.field(name)
        word = f"{LIST}: {name} = {value:#x}" if name == self.form.blocks else f"{LIST}: {name} = {value}"
        self.pages.write(self.address, field.offset, value.to_bytes(field.size, "little"), word)

    @property
    def room(self) -> int:
        """Number of records that fit into a layout without blocks."""
        if self.form.capacity is not None:
            return self.member(self.form.capacity)
        folio = self.pages.folios[self.address]
        return (len(folio.data) - self.form.header.size) // self.form.record.size

    # -- slots --

    @property
    def slots(self) -> int:
        """Number of slots that a reader has to read."""
        if self.form.blocks is not None:
            return sum(self.blocks.count(block) for block in self.blocks.blocks)
        return self.count if self.form.is_sorted or self.form.capacity is None else self.room

    def rows(self) -> Iterator[Row]:
        """The records of all slots."""
        return (self.row(slot) for slot in range(self.slots))

    def row(self, slot: int) -> Row:
        """The record of a slot."""
        values = self.form.record.record.unpack(self.pages.read(self._place(slot), self.form.record.size))
        row = dict(zip(self.form.record.record_fields, values, strict=True))
        return row["domain"], row["bdf"], row.get("refcount", 1)

    def _place(self, slot: int) -> int:
        if self.form.blocks is not None:
            return self.blocks.place(slot)
        return self.address + self.form.header.size + slot * self.form.record.size

    def write(self, slot: int, row: Row, name: str) -> None:
        """Write a record. Domain and bdf are truncated to their members. name: of the device, for the trace."""
        values = {"domain": row[0], "bdf": row[1], "refcount": row[2]}
        sizes = {field.name: field.size for field in self.form.record.fields}
        values = {key: value & (1 << 8 * sizes[key]) - 1 for key, value in values.items() if key in sizes}
        count = f" refcount {row[2]}" if "refcount" in values else ""
        data = struct_bytes(self.form.record, values, LIST)
        self.pages.write(self._place(slot), 0, data, f"slot {slot}: {name}{count}")

    def copy(self, source: int, target: int) -> None:
        """Copy the record of a slot to another one."""
        data = self.pages.read(self._place(source), self.form.record.size)
        self.pages.write(self._place(target), 0, data, f"slot {target}: what was in {source}")

    def add_to_blocks(self) -> int:
        """The first free slot or, if there is none, a new one after the last. Raises Failure."""
        slot = self.slots
        if self.count < slot:
            return next(free for free, row in enumerate(self.rows()) if not row[2])
        self.blocks.grow(slot + 1)
        self.blocks.reserve(slot)
        return slot

    def set_head(self) -> None:
        """Write the address of the first block to the header, unless it is there."""
        assert self.form.blocks is not None
        if self.member(self.form.blocks) != self.blocks.head:
            self._set(self.form.blocks, self.blocks.head)

    # -- taking over --

    def restore_blocks(self) -> None:
        """Take over the blocks of the previous kernel. Raises Failure for an invalid chain."""
        if self.form.blocks is not None:
            self.blocks.restore(self.member(self.form.blocks))

    @property
    def fits(self) -> bool:
        """Whether the folio is large enough for the header and the number of records in it. Kernels do not check it."""
        folio = self.pages.folios.get(self.address)
        if folio is None:
            return False
        if self.form.blocks is not None:
            return self.form.header.size <= len(folio.data)
        records = max(self.slots, self.room if self.form.capacity is not None else 0)
        return self.form.header.size + records * self.form.record.size <= len(folio.data)
