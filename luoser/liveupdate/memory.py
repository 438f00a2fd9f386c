# SPDX-License-Identifier: MIT
"""Memory of the modelled machine: the page allocator, and KHO's preserved map."""

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
_LARGEST_ORDER = 10


def get_order(size: int) -> int:
    """The order of the smallest folio with at least `size` bytes."""
    return (max(size, 1) - 1 >> 12).bit_length()


class Place(StrEnum):
    """State of a folio.

    ALLOCATED: in use by this kernel.
    PRESERVED: preserved by this kernel for the next one.
    INCOMING:  preserved by the previous kernel, not restored yet.
    FREED:     free.
    """

    ALLOCATED = "allocated"
    PRESERVED = "preserved"
    INCOMING = "incoming"
    FREED = "freed"


@dataclass(slots=True, eq=False)
class Folio:
    """A folio, or several adjacent folios.

    address: physical.
    order:   of each folio.
    what:    its owner, in words.
    data:    its bytes.
    count:   number of adjacent folios.
    place:   its state.
    is_kept: it stays in use as long as the kernel that allocated it runs.
    """

    address: int
    order: int
    what: str
    data: bytearray
    count: int = 1
    place: Place = Place.ALLOCATED
    is_kept: bool = False


@dataclass(slots=True)
class Pages:
    """The page allocator and KHO's preserved map.

    trace:    gets an event for each operation.
    places:   physical address of a folio by its owner. Others get increasing addresses.
    faults:   errno by (`allocate` or `preserve`, owner).
    folios:   by physical address.
    mistakes: invalid frees, restores and un-preserves so far, in words.
    placed:   size in bytes of the folios that got their address from `places`, by owner.
    """

    trace: Trace
    places: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    folios: dict[int, Folio] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    _next: int = _FIRST
    placed: dict[str, int] = field(default_factory=dict)

    # -- allocating and freeing --

    def allocate(self, order: int, what: str, *, count: int = 1) -> int:
        """Allocate a zeroed folio, or several adjacent ones. Returns the physical address.

        what:  the owner, in words.
        count: number of folios.

        Raises Failure, and UsageError for an address of `places` that cannot be used.
        """
        self._fail("allocate", what)
        if order > _LARGEST_ORDER:
            raise Failure(errno.ENOMEM)
        size = PAGE_SIZE << order
        address = self._address(size, size * count, what)
        self.folios[address] = Folio(address, order, what, bytearray(size * count), count)
        several = f"{count} folios from {address:#x} on" if count > 1 else f"folio {address:#x}"
        self.trace.memory(f"{what}: allocate {several} order {order}")
        return address

    def allocate_preserved(self, order: int, what: str) -> int:
        """Allocate and preserve a zeroed folio. Returns the physical address. Raises Failure; then nothing is left."""
        if order > _LARGEST_ORDER:
            raise Failure(errno.E2BIG)
        address = self.allocate(order, what)
        try:
            self.preserve(address)
        except Failure:
            self.free(address)
            raise
        return address

    def _address(self, align: int, size: int, what: str) -> int:
        if what in self.places and what not in self.placed:
            address = self.places[what]
            self._check_place(address, align, size, what)
            self.placed[what] = size
            return address
        address = -(-self._next // align) * align
        while self._is_taken(address, size):
            address += align
        self._next = address + size
        return address

    def _check_place(self, address: int, align: int, size: int, what: str) -> None:
        if address % align:
            raise UsageError(f"places.{what}: {address:#x}: expected an address aligned to the folio, {align:#x} bytes")
        for folio in self.left():
            if address < folio.address + len(folio.data) and folio.address < address + size:
                raise UsageError(f"places.{what}: {address:#x} is in use by {folio.what}")

    def _is_taken(self, address: int, size: int) -> bool:
        """Whether the range overlaps one of `places`."""
        places = ((start, self.placed.get(what, PAGE_SIZE)) for what, start in self.places.items())
        return any(start < address + size and address < start + length for start, length in places)

    def free(self, address: int) -> None:
        """Free a folio. Records a mistake if it is free, preserved, or not restored."""
        folio = self.folios.get(address)
        if folio is None or folio.place is Place.FREED:
            self._mistake(f"free {address:#x}, which is free already")
            return
        if folio.place is Place.PRESERVED:
            self._mistake(f"free {address:#x}, which is still preserved")
        else:
            if folio.place is Place.INCOMING:
                self._mistake(f"free {address:#x}, which was not restored")
            folio.place = Place.FREED
        self.trace.memory(f"{folio.what}: free {address:#x}")

    # -- bytes --

    def write(self, address: int, offset: int, data: bytes, what: str) -> None:
        """Write bytes to a folio.

        address: physical, inside the folio.
        offset:  in bytes from the address.
        what:    description of the bytes for the trace.

        Raises KeyError for an address in no folio.
        """
        folio = self._folio_of(address)
        start = address - folio.address + offset
        folio.data[start : start + len(data)] = data
        self.trace.memory(f"write {address + offset:#x}: {what}")

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of a folio at a physical address. Raises KeyError for an address in no folio."""
        folio = self._folio_of(address)
        return bytes(folio.data[address - folio.address : address - folio.address + size])

    def has(self, address: int) -> bool:
        """Whether a folio that is not free starts at this address."""
        folio = self.folios.get(address)
        return folio is not None and folio.place is not Place.FREED

    def holds(self, address: int, data: bytes) -> bool:
        """Whether a folio starts at this address, and with these bytes."""
        folio = self.folios.get(address)
        return folio is not None and folio.data.startswith(data)

    def _folio_of(self, address: int) -> Folio:
        for order in range(_LARGEST_ORDER + 1):
            folio = self.folios.get(address & -(PAGE_SIZE << order))
            if folio is not None and address < folio.address + len(folio.data):
                return folio
        raise KeyError(address)

    # -- KHO --

    def preserve(self, address: int) -> None:
        """Preserve a folio for the next kernel. Raises Failure."""
        folio = self.folios[address]
        self._fail("preserve", folio.what)
        folio.place = Place.PRESERVED
        self.trace.memory(f"{folio.what}: preserve {address:#x}")

    def unpreserve(self, address: int) -> None:
        """Undo `preserve`. Records a mistake if this kernel did not preserve the folio."""
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.PRESERVED:
            self._mistake(f"un-preserve {address:#x}, which this kernel never preserved")
            return
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: un-preserve {address:#x}")

    def unpreserve_free(self, address: int) -> None:
        """Undo `allocate_preserved`."""
        self.unpreserve(address)
        self.free(address)

    def restore(self, address: int) -> Folio | None:
        """Take over a folio from the previous kernel. None if it did not preserve one at this address."""
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.INCOMING:
            return None
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: restore {address:#x}")
        return folio

    def restore_free(self, address: int) -> None:
        """Take over a folio and free it. Records a mistake if the previous kernel did not preserve it."""
        if self.restore(address) is None:
            self._mistake(f"restore {address:#x}, which the previous kernel did not preserve")
        else:
            self.free(address)

    def kexec(self) -> None:
        """Jump to the next kernel: only preserved folios are left."""
        self.folios = {folio.address: folio for folio in self.preserved()}
        for folio in self.folios.values():
            folio.place, folio.is_kept = Place.INCOMING, False

    def preserved(self) -> Iterator[Folio]:
        """The folios that this kernel preserved."""
        return (folio for folio in self.folios.values() if folio.place is Place.PRESERVED)

    def left(self) -> list[Folio]:
        """The folios that are not free, in ascending order."""
        return sorted(
            (folio for folio in self.folios.values() if folio.place is not Place.FREED),
            key=lambda folio: folio.address,
        )

    def _fail(self, step: str, what: str) -> None:
        if (step, what) in self.faults:
            self.trace.memory(f"{what}: {step} fails")
            raise Failure(self.faults[step, what])

    def _mistake(self, text: str) -> None:
        self.mistakes.append(text)
        self.trace.memory(f"mistake: {text}")
