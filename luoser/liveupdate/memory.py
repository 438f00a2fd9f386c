# SPDX-License-Identifier: MIT
"""Pages of the modelled machine, and what KHO carries of them into the next kernel."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from luoser.errors import UsageError
from luoser.liveupdate.trace import Failure, Trace

__all__ = ["PAGE_SIZE", "Folio", "Pages", "Place", "get_order"]

PAGE_SIZE = 4096
_FIRST = 32 << 20


def get_order(size: int) -> int:
    """The order of the smallest folio that holds so many bytes."""
    return (max(size, 1) - 1 >> 12).bit_length()


class Place(StrEnum):
    """allocated: in use by this kernel. preserved: by this kernel, for the next. incoming: preserved by the kernel
    before, not restored yet. freed."""

    ALLOCATED = "allocated"
    PRESERVED = "preserved"
    INCOMING = "incoming"
    FREED = "freed"


@dataclass(slots=True, eq=False)
class Folio:
    """what: whose it is, in words."""

    address: int
    order: int
    what: str
    data: bytearray
    place: Place = Place.ALLOCATED


@dataclass(slots=True)
class Pages:
    """The page allocator and KHO's map.

    places: addresses to give out, by what asks for them; others come one after the other. faults: errno by
    (`allocate` or `preserve`, what). mistakes: frees and un-preserves of what was not there.
    """

    trace: Trace
    places: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    folios: dict[int, Folio] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    _next: int = _FIRST
    _given: set[str] = field(default_factory=set)

    def allocate(self, order: int, what: str) -> int:
        """A zeroed folio. Raises Failure."""
        self._fail("allocate", what, errno.ENOMEM)
        address = self._address(order, what)
        self.folios[address] = Folio(address, order, what, bytearray(PAGE_SIZE << order))
        self.trace.memory(f"{what}: allocate folio {address:#x} order {order}")
        return address

    def _address(self, order: int, what: str) -> int:
        size = PAGE_SIZE << order
        if what in self.places and what not in self._given:
            self._given.add(what)
            return self._given_place(self.places[what], size, what)
        address = -(-self._next // size) * size
        while self._is_taken(address, size):
            address += size
        self._next = address + size
        return address

    def _given_place(self, address: int, size: int, what: str) -> int:
        if address % size:
            raise UsageError(f"places.{what}: {address:#x} is no address of a folio of {size} bytes")
        for folio in self.left():
            if address < folio.address + len(folio.data) and folio.address < address + size:
                raise UsageError(f"places.{what}: {address:#x} is taken by {folio.what}")
        return address

    def _is_taken(self, address: int, size: int) -> bool:
        taken = [(place, PAGE_SIZE) for place in self.places.values()]
        taken += [(folio.address, len(folio.data)) for folio in self.folios.values()]
        return any(start < address + size and address < start + length for start, length in taken)

    def write(self, address: int, offset: int, data: bytes, what: str) -> None:
        self.folios[address].data[offset : offset + len(data)] = data
        self.trace.memory(f"write {address + offset:#x}: {what}")

    def preserve(self, address: int) -> None:
        """Raises Failure."""
        folio = self.folios[address]
        self._fail("preserve", folio.what, errno.EINVAL)
        folio.place = Place.PRESERVED
        self.trace.memory(f"{folio.what}: preserve {address:#x}")

    def unpreserve(self, address: int) -> None:
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.PRESERVED:
            self._mistake(f"un-preserve {address:#x}, which this kernel never preserved")
            return
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: un-preserve {address:#x}")

    def free(self, address: int) -> None:
        folio = self.folios.get(address)
        if folio is None or folio.place is Place.FREED:
            self._mistake(f"free {address:#x}, which is free already")
            return
        if folio.place is Place.PRESERVED:
            self._mistake(f"free {address:#x}, which stays preserved")
        else:
            if folio.place is Place.INCOMING:
                self._mistake(f"free {address:#x}, which was not restored")
            folio.place = Place.FREED
        self.trace.memory(f"{folio.what}: free {address:#x}")

    def restore(self, address: int) -> Folio | None:
        """Take a folio over from the kernel before; None where it preserved no such folio."""
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.INCOMING:
            return None
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: restore {address:#x}")
        return folio

    def kexec(self) -> None:
        """The next kernel begins: only what was preserved is still there."""
        self.folios = {folio.address: folio for folio in self.preserved()}
        for folio in self.folios.values():
            folio.place = Place.INCOMING

    def preserved(self) -> Iterator[Folio]:
        return (folio for folio in self.folios.values() if folio.place is Place.PRESERVED)

    def left(self) -> list[Folio]:
        """What is not free, by address."""
        return sorted(
            (folio for folio in self.folios.values() if folio.place is not Place.FREED),
            key=lambda folio: folio.address,
        )

    def _fail(self, step: str, what: str, code: int) -> None:
        if (step, what) in self.faults:
            self.trace.memory(f"{what}: {step} fails")
            raise Failure(self.faults[step, what] or code)

    def _mistake(self, text: str) -> None:
        self.mistakes.append(text)
        self.trace.memory(f"mistake: {text}")
