# SPDX-License-Identifier: MIT
"""File handler for memfds: it preserves all folios, and an array with their indices in the file.

Source: mm/memfd_luo.c.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.abi import memfd as abi
from luoser.abi.release import RELEASES
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes
from luoser.abi.vmalloc import VM_ALLOC, chunk_capacity
from luoser.liveupdate.memory import PAGE_SIZE, Pages
from luoser.liveupdate.scenario import FileRequest
from luoser.liveupdate.sessions.luo import File
from luoser.liveupdate.trace import Failure

__all__ = ["Area", "MemfdFiles"]

_DIRTY_UPTODATE = 3
_RELEASED = {found.memfd for found in RELEASES.values() if found.luo is not None}
_SCHEMAS: Mapping[str, Schema] = {
    form.handler: form.descriptor for form in reversed(abi.FORMS) if form.descriptor and form.handler in _RELEASED
}
_KNOWN_SEALS = sum(abi.SEALS)


@dataclass(slots=True)
class Area:
    """The memory of a preserved memfd. Addresses are physical.

    request: the file.
    folios:  address of the first folio. 0 for an empty file.
    array:   pages of the array of folios.
    chunks:  pages with the addresses of `array` (kho_vmalloc).
    """

    request: FileRequest
    folios: int = 0
    array: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of folios."""
        return -(-self.request.size // PAGE_SIZE)


@dataclass(slots=True)
class MemfdFiles:
    """The file handler of memfds.

    compatible: memfd-v1 up to 7.0, memfd-v2 from 7.1 on.
    faults:     errno by (preserve, freeze or retrieve, name).
    areas:      memory of each file, by the physical address of its descriptor.
    """

    pages: Pages
    compatible: str
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    areas: dict[int, Area] = field(default_factory=dict)

    @property
    def has_seals(self) -> bool:
        """Whether descriptors have seals."""
        form = abi.form_of_handler(self.compatible)
        return form is not None and form.has_seals

    def can_preserve(self, request: FileRequest) -> bool:
        """Whether the file is a memfd."""
        return bool(request.memfd)

    # -- this kernel --

    def preserve(self, request: FileRequest) -> int:
        """Preserve a memfd. Returns the physical address of its descriptor. Raises Failure; then nothing is left."""
        self._fail("preserve", request.name)
        area, what = Area(request), f"memfd {request.name}"
        address = self.pages.allocate_preserved(0, what)
        try:
            if self.has_seals and request.seals & ~_KNOWN_SEALS:
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
        values = {"pos": area.request.position, "size": area.request.size}
        values |= {"seals": area.request.seals} if self.has_seals else {}
        values |= {"nr_folios": area.count} if is_done else {}
        schema, what = _SCHEMAS[self.compatible], f"memfd {area.request.name}"
        data = struct_bytes(schema, {**values, "folios": folios if is_done else {}}, what)
        self.pages.write(address, 0, data, f"{what}: {word}")

    def _fill(self, area: Area, what: str) -> None:
        """Allocate and preserve folios, their array and its chunks. Raises Failure; `area` has those made before."""
        area.folios = self.pages.allocate(0, f"{what} folios", count=area.count)
        if area.request.data:
            self.pages.write(area.folios, 0, area.request.data, f"{what}: contents")
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
        for number in range(len(area.array) // most + 1):  # the kernel adds an empty chunk after a full one
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
        """Write the current file position to the descriptor. Returns `data`. Raises Failure."""
        self._fail("freeze", name)
        position = self.areas[data].request.position
        self.pages.write(data, 0, position.to_bytes(8, "little"), f"memfd {name}: pos = {position:#x}")
        return data

    def unpreserve(self, name: str, data: int) -> None:
        """Free everything that `preserve` allocated."""
        self._drop(self.areas.pop(data))
        self.pages.unpreserve_free(data)

    # -- the next kernel --

    def retrieve(self, data: int) -> str:
        """Recreate the memfd from its folios, and free its metadata. Returns its name. Raises Failure."""
        if not self.pages.has(data):
            raise Failure(errno.EINVAL)
        area = self._read(data)
        self._fail("retrieve", area.request.name)
        for page in (*area.array, *area.chunks):
            self.pages.restore_free(page)
        if area.folios and self.pages.restore(area.folios) is not None:
            self.pages.folios[area.folios].is_kept = True  # they belong to the new file
        self.pages.restore_free(data)
        self.areas[data] = area
        return area.request.name

    def _read(self, data: int) -> Area:
        """The memory of a memfd according to its descriptor, chunks and array. The model takes the name from the page,
        as it is not in the bytes."""
        ser = _SCHEMAS[self.compatible].parse(self.pages.read(data, PAGE_SIZE))
        name = self.pages.folios[data].what.removeprefix("memfd ")
        area = Area(FileRequest(token=0, memfd=name, size=ser.size, position=ser.pos, seals=ser.get("seals", 1)))
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
        """Always: a memfd need not be retrieved."""
        return True

    def finish(self, file: File) -> None:
        """Free a memfd that was not retrieved, with all its folios."""
        if file.status is not None:
            return
        area = self._read(file.data)
        for page in (*area.array, *area.chunks, *((area.folios,) if area.folios else ()), file.data):
            self.pages.restore_free(page)

    def _fail(self, step: str, name: str) -> None:
        if (step, name) in self.faults:
            raise Failure(self.faults[step, name])
