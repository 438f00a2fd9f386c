# SPDX-License-Identifier: MIT
"""Preserved device lists as the rules see them: by column, so that a list of a million devices costs no objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as layout_named
from luoser.checks.model import Found, Skip
from luoser.checks.view import View
from luoser.state import PciList
from luoser.text import bdf_text

__all__ = ["Listed", "few", "listed"]

_FEW = 16
"""Findings of one rule that are told one by one."""


def few(found: Iterable[Found]) -> Iterator[Found]:
    """The first findings of a kind in one list, and one that says that there are more: nobody reads a million."""
    for number, item in enumerate(found):
        if number == _FEW:
            yield Found(
                f"and more of the kind: only {_FEW} are told; the next is {item.message}",
                address=item.address,
                where=item.where,
            )
            return
        yield item


@dataclass(frozen=True, slots=True)
class Listed:
    """One list of a handover. where: its path in the state. form: its layout."""

    where: str
    entry: PciList
    form: PciLayout
    page_size: int

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"device list {self.entry.layout} ({', '.join(self.entry.via)})"

    @property
    def has_refcounts(self) -> bool:
        return self.has("refcount")

    def has(self, member: str) -> bool:
        return member in self.form.record.record_fields

    def column(self, member: str) -> list[Any]:
        """That member of every record, holes included; [] where the layout has none of that name."""
        if not self.has(member):
            return []
        index = self.form.record.record_fields.index(member)
        return [row[index] for row in self.entry.devices.rows()]

    def places(self) -> Iterator[tuple[int, int]]:
        """(slot, domain << 16 | bdf) of every record that stands for a device."""
        fields = self.form.record.record_fields
        one, other = (0, 0) if "path" in fields else (fields.index("domain"), fields.index("bdf"))
        count = fields.index("refcount") if self.has_refcounts else None
        for slot, row in enumerate(self.entry.devices.rows()):
            place = row[one] if one == other else row[one] << 16 | row[other]
            if count is None or place or row[count]:
                yield slot, place

    def address(self, slot: int) -> int:
        """Where a record lies."""
        size = self.form.record.size
        if self.form.blocks is None:
            return self.entry.address + self.form.header.size + slot * size
        block, index = divmod(slot, capacity(self.page_size, size))
        if block >= len(self.entry.blocks):
            return self.entry.address
        return self.entry.blocks[block] + kho_block_header_ser.size + index * size

    def path(self, slot: int) -> str:
        """The path of a record in the state, which passes over holes."""
        return f"{self.where}.devices[{self.entry.devices.position(slot)}]"

    def found(self, slot: int, place: int, message: str, *, missing: tuple[str, ...] = (), hint: str = "") -> Found:
        """A finding about one device."""
        name = bdf_text(place >> 16, place & 0xFFFF)
        return Found(
            f"{name} in the {self.name}: {message}",
            address=self.address(slot),
            where=self.path(slot),
            device=name,
            missing=missing,
            hint=hint,
        )


def listed(view: View, *, family: str = "", member: str = "") -> list[Listed]:
    """The lists of a handover, of one family or with one member in their records. Skips where there is none."""
    lists = []
    for index, entry in enumerate(view.lists()):
        form = layout_named(entry.layout)
        if form is not None and family in ("", form.family) and (not member or member in form.record.record_fields):
            lists.append(Listed(f"pci[{index}]", entry, form, view.page_size))
    if not lists:
        raise Skip(f"no preserved device list {f'has {member}' if member else f'is of family {family}'}")
    return lists
