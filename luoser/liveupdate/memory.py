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
_LARGEST_ORDER = 10


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
    """what: whose it is, in words. count: so many folios of that order side by side. is_kept: whether it is in use as
    long as the kernel that allocated it runs."""

    address: int
    order: int
    what: str
    data: bytearray
    count: int = 1
    place: Place = Place.ALLOCATED
    is_kept: bool = False


@dataclass(slots=True)
class Pages:
    """The page allocator and KHO's map.

    places: addresses to give out, by what asks for them; others come one after the other. faults: errno by
    (`allocate` or `preserve`, what). placed: bytes of what got the address that `places` names. mistakes: frees,
    restores and un-preserves of what was not there.
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
        """A zeroed folio, or so many of them side by side. Raises Failure."""
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
        """A zeroed folio that KHO preserves. Raises Failure; then it is free again."""
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
            raise UsageError(f"places.{what}: {address:#x} is no address of a folio of {align} bytes")
        for folio in self.left():
            if address < folio.address + len(folio.data) and folio.address < address + size:
                raise UsageError(f"places.{what}: {address:#x} is taken by {folio.what}")

    def _is_taken(self, address: int, size: int) -> bool:
        """Whether a place that the scenario names lies there."""
        places = ((start, self.placed.get(what, PAGE_SIZE)) for what, start in self.places.items())
        return any(start < address + size and address < start + length for start, length in places)

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

    # -- bytes --

    def write(self, address: int, offset: int, data: bytes, what: str) -> None:
        folio = self._folio_of(address)
        start = address - folio.address + offset
        folio.data[start : start + len(data)] = data
        self.trace.memory(f"write {address + offset:#x}: {what}")

    def read(self, address: int, size: int) -> bytes:
        folio = self._folio_of(address)
        return bytes(folio.data[address - folio.address : address - folio.address + size])

    def has(self, address: int) -> bool:
        """Whether there is a folio at an address that is not free."""
        folio = self.folios.get(address)
        return folio is not None and folio.place is not Place.FREED

    def holds(self, address: int, data: bytes) -> bool:
        """Whether a folio starts with these bytes."""
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
        """Raises Failure."""
        folio = self.folios[address]
        self._fail("preserve", folio.what)
        folio.place = Place.PRESERVED
        self.trace.memory(f"{folio.what}: preserve {address:#x}")

    def unpreserve(self, address: int) -> None:
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.PRESERVED:
            self._mistake(f"un-preserve {address:#x}, which this kernel never preserved")
            return
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: un-preserve {address:#x}")

    def unpreserve_free(self, address: int) -> None:
        self.unpreserve(address)
        self.free(address)

    def restore(self, address: int) -> Folio | None:
        """Take a folio over from the kernel before; None where it preserved no such folio."""
        folio = self.folios.get(address)
        if folio is None or folio.place is not Place.INCOMING:
            return None
        folio.place = Place.ALLOCATED
        self.trace.memory(f"{folio.what}: restore {address:#x}")
        return folio

    def restore_free(self, address: int) -> None:
        """Take a folio over and free it; nothing is freed where the kernel before preserved no such folio."""
        if self.restore(address) is None:
            self._mistake(f"restore {address:#x}, which the kernel before did not preserve")
        else:
            self.free(address)

    def kexec(self) -> None:
        """The next kernel begins: only what was preserved is still there."""
        self.folios = {folio.address: folio for folio in self.preserved()}
        for folio in self.folios.values():
            folio.place, folio.is_kept = Place.INCOMING, False

    def preserved(self) -> Iterator[Folio]:
        return (folio for folio in self.folios.values() if folio.place is Place.PRESERVED)

    def left(self) -> list[Folio]:
        """What is not free, by address."""
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
