# SPDX-License-Identifier: MIT
"""memfds: all their folios stay, and an array says which one lies where in the file."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.abi import memfd as abi
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes
from luoser.abi.vmalloc import VM_ALLOC, chunk_capacity
from luoser.liveupdate.memory import PAGE_SIZE, Pages
from luoser.liveupdate.scenario import FileWish
from luoser.liveupdate.sessions.luo import File
from luoser.liveupdate.trace import Failure

__all__ = ["Area", "MemfdFiles"]

_DIRTY_UPTODATE = 3
_SCHEMAS: Mapping[str, Schema] = {"memfd-v1": abi.memfd_luo_ser_v1, "memfd-v2": abi.memfd_luo_ser_v2}
_KNOWN_SEALS = sum(abi.SEALS)


@dataclass(slots=True)
class Area:
    """Where a file's data lie. folios: address of the first, 0 for an empty file."""

    wish: FileWish
    folios: int = 0
    array: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return -(-self.wish.size // PAGE_SIZE)


@dataclass(slots=True)
class MemfdFiles:
    """compatible: memfd-v1 up to 7.0, memfd-v2 after. areas: by the address of their descriptor. faults: errno by
    (preserve, freeze or retrieve, name)."""

    pages: Pages
    compatible: str
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    areas: dict[int, Area] = field(default_factory=dict)

    @property
    def has_seals(self) -> bool:
        return self.compatible != "memfd-v1"

    def takes(self, wish: FileWish) -> bool:
        return bool(wish.memfd)

    # -- this kernel --

    def preserve(self, wish: FileWish) -> int:
        """Raises Failure; then nothing is left of it."""
        self._fail("preserve", wish.name)
        area, what = Area(wish), f"memfd {wish.name}"
        address = self.pages.allocate_preserved(0, what)
        try:
            if self.has_seals and wish.seals & ~_KNOWN_SEALS:
                raise Failure(errno.EOPNOTSUPP)
            self._describe(address, area, "pos, size" + (", seals" if self.has_seals else ""))
            if area.count:
                self._fill(area, what)
                self._describe(address, area, "folios, nr_folios", is_done=True)
        except Failure:
            self._drop(area)
            self.pages.unpreserve_free(address)
            raise
        self.areas[address] = area
        return address

    def _describe(self, address: int, area: Area, word: str, *, is_done: bool = False) -> None:
        folios = {
            "first": area.chunks[0] if area.chunks else 0,
            "total_pages": len(area.array),
            "flags": VM_ALLOC,
            "order": 0,
        }
        values = {"pos": area.wish.position, "size": area.wish.size}
        values |= {"seals": area.wish.seals} if self.has_seals else {}
        values |= {"nr_folios": area.count} if is_done else {}
        schema, what = _SCHEMAS[self.compatible], f"memfd {area.wish.name}"
        data = struct_bytes(schema, {**values, "folios": folios if is_done else {}}, what)
        self.pages.write(address, 0, data, f"{what}: {word}")

    def _fill(self, area: Area, what: str) -> None:
        """Folios, their array, and the chunks that name its pages. Raises Failure; `area` has what there is by then."""
        area.folios = self.pages.allocate(0, f"{what} folios", count=area.count)
        if area.wish.data:
            self.pages.write(area.folios, 0, area.wish.data, f"{what}: contents")
        self.pages.preserve(area.folios)
        entries = b"".join(
            struct.pack("<QQ", area.folios // PAGE_SIZE + index | _DIRTY_UPTODATE << abi.PFN_BITS, index)
            for index in range(area.count)
        )
        for start in range(0, len(entries), PAGE_SIZE):
            page = self.pages.allocate(0, f"{what} array {len(area.array)}")
            area.array.append(page)
            self.pages.write(page, 0, entries[start : start + PAGE_SIZE], f"{what}: array of folios")
        most = chunk_capacity(PAGE_SIZE)
        for number in range(len(area.array) // most + 1):  # a full chunk is followed by an empty one
            chunk = self.pages.allocate_preserved(0, f"{what} chunk {number}")
            if area.chunks:
                self.pages.write(area.chunks[-1], 0, chunk.to_bytes(8, "little"), f"{what}: next chunk")
            area.chunks.append(chunk)
            for slot, page in enumerate(area.array[number * most : (number + 1) * most]):
                self.pages.preserve(page)
                word = f"{what}: chunk {number} slot {slot}"
                self.pages.write(chunk, 8 * (slot + 1), page.to_bytes(8, "little"), word)

    def _drop(self, area: Area) -> None:
        preserved = {folio.address for folio in self.pages.preserved()}
        for page in (*area.chunks, *area.array, *((area.folios,) if area.folios else ())):
            if page in preserved:
                self.pages.unpreserve(page)
            self.pages.free(page)

    def freeze(self, name: str, data: int) -> int:
        self._fail("freeze", name)
        position = self.areas[data].wish.position
        self.pages.write(data, 0, position.to_bytes(8, "little"), f"memfd {name}: pos = {position:#x}")
        return data

    def unpreserve(self, name: str, data: int) -> None:
        self._drop(self.areas.pop(data))
        self.pages.unpreserve_free(data)

    # -- the next kernel --

    def retrieve(self, data: int) -> str:
        """A new file of the folios; its metadata is freed. Raises Failure."""
        if not self.pages.has(data):
            raise Failure(errno.EINVAL)
        area = self._read(data)
        self._fail("retrieve", area.wish.name)
        for page in (*area.array, *area.chunks):
            self.pages.restore_free(page)
        if area.folios and self.pages.restore(area.folios) is not None:
            self.pages.folios[area.folios].is_kept = True  # they are the new file's
        self.pages.restore_free(data)
        self.areas[data] = area
        return area.wish.name

    def _read(self, data: int) -> Area:
        """What the descriptor, its chunks and its array say. The name is that of the page, since no byte has it."""
        ser = _SCHEMAS[self.compatible].parse(self.pages.read(data, PAGE_SIZE))
        name = self.pages.folios[data].what.removeprefix("memfd ")
        area = Area(FileWish(token=0, memfd=name, size=ser.size, position=ser.pos, seals=ser.get("seals", 1)))
        chunk = ser.folios.first
        while chunk:
            area.chunks.append(chunk)
            words = struct.unpack(f"<{PAGE_SIZE // 8}Q", self.pages.read(chunk, PAGE_SIZE))
            area.array += [word for word in words[1:] if word]
            chunk = words[0]
        if area.array:
            first = int.from_bytes(self.pages.read(area.array[0], 8), "little")
            area.folios = (first & (1 << abi.PFN_BITS) - 1) * PAGE_SIZE
        return area

    def can_finish(self, file: File) -> bool:
        return True

    def finish(self, file: File) -> None:
        """A file that nobody retrieved goes with all its folios."""
        if file.status is not None:
            return
        area = self._read(file.data)
        for page in (*area.array, *area.chunks, *((area.folios,) if area.folios else ()), file.data):
            self.pages.restore_free(page)

    def _fail(self, step: str, name: str) -> None:
        if (step, name) in self.faults:
            raise Failure(self.faults[step, name])
