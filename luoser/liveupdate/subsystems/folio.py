# SPDX-License-Identifier: MIT
"""The list of devices in its folio, followed by the list of buses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luoser.abi.pci import PciLayout
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes
from luoser.liveupdate.memory import Pages, get_order
from luoser.liveupdate.trace import Failure
from luoser.state.columns import columns, record_bytes
from luoser.state.packed import row_fields

__all__ = ["FOLIO", "Entry", "ListFolio"]

FOLIO = "pci folio"
Entry = dict[str, Any]
"""The members of one record, by name."""


@dataclass(frozen=True, slots=True)
class ListFolio:
    """A list. Records that do not fit into the folio do not exist.

    form:    its layout.
    address: physical, of the header.
    """

    pages: Pages
    form: PciLayout
    address: int
    _found: dict[int, int] = field(default_factory=dict)

    @classmethod
    def create(cls, pages: Pages, form: PciLayout, count: int, buses: int) -> ListFolio:
        """Allocate and preserve a list with zeroed records. Raises Failure; then nothing is left.

        count: number of devices.
        buses: number of buses.
        """
        size = form.header.size + count * form.record.size + buses * (form.bus.size if form.bus is not None else 0)
        made = cls(pages, form, pages.allocate(get_order(size), FOLIO))
        counts = {form.count: count} | ({form.bus_count: buses} if form.bus_count is not None else {})
        word = ", ".join(f"{name} = {value}" for name, value in counts.items())
        pages.write(made.address, 0, struct_bytes(form.header, counts, form.name), word)
        try:
            pages.preserve(made.address)
        except Failure:
            pages.trace.log("PCI liveupdate: liveupdate_preserve_folio failed")
            pages.free(made.address)
            raise
        return made

    # -- devices --

    def write(self, index: int, entry: Entry) -> None:
        """Write the record of a device."""
        path, data = entry["path"], entry["driver_data"]
        mark = f"flags {entry['flags']:x}" if "flags" in entry else f"requested {entry['requested']}"
        word = f"entry {index}: path {path:#x} {mark} data {data:#x}"
        self._write(self._place(index), self.form.record, entry, word)
        if self._found.get(path) != index:
            self._found.clear()

    def read(self, index: int) -> Entry | None:
        """The record of a device. None if the index is negative or the record is beyond the folio."""
        return self._read(self._place(index), self.form.record) if index >= 0 else None

    @property
    def count(self) -> int:
        """Number of devices in the header."""
        return self._header(self.form.count)

    def entries(self) -> list[Entry]:
        """The records of all devices."""
        found = [self.read(index) for index in range(self.count)]
        return [entry for entry in found if entry is not None]

    def find(self, path: int) -> int:
        """Index of the first record with this path. -1 if there is none."""
        if not self._found:
            data = self.pages.folios[self.address].data
            for index in reversed(range(self.count)):
                place = self._place(index)
                first = data[place : place + 4]  # the path is the first member in every layout
                if len(first) == 4:
                    self._found[int.from_bytes(first, "little")] = index
        return self._found.get(path, -1)

    # -- buses --

    def write_buses(self, buses: Sequence[Mapping[str, Any]]) -> None:
        """Write the records of all buses, after those of the devices."""
        assert self.form.bus is not None
        for index, bus in enumerate(buses):
            place = self._place(self.count) + index * self.form.bus.size
            self._write(place, self.form.bus, bus, f"bus {index}: {bus['domain']:04x}:{bus['number']:02x}")

    def buses(self) -> list[Entry]:
        """The records of all buses. Empty for layouts without buses."""
        if self.form.bus is None or self.form.bus_count is None:
            return []
        start, size = self._place(self.count), self.form.bus.size
        found = [self._read(start + index * size, self.form.bus) for index in range(self._header(self.form.bus_count))]
        return [bus for bus in found if bus is not None]

    # -- bytes --

    def _place(self, index: int) -> int:
        return self.form.header.size + index * self.form.record.size

    def _header(self, name: str) -> int:
        values = self._read(0, self.form.header)
        assert values is not None
        return int(values[name])

    def _write(self, place: int, schema: Schema, values: Mapping[str, Any], word: str) -> None:
        self.pages.write(self.address, place, record_bytes(schema, columns(schema), values), word)

    def _read(self, place: int, schema: Schema) -> Entry | None:
        data = bytes(self.pages.folios[self.address].data[place : place + schema.size])
        if len(data) < schema.size:
            return None
        return dict(row_fields(columns(schema), schema.record.unpack(data)))
