# SPDX-License-Identifier: MIT
"""Changes in the bytes of preserved pages: pages of drivers, and folios of memfds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from luoser.changes.model import Change, Kind
from luoser.changes.sides import paired, path_part
from luoser.errors import MissingMemory
from luoser.memory.source import Memory
from luoser.state import Contents, File, Flb, Handover, Memfd, PciList, Subtree

__all__ = ["Bytes", "content_changes"]

_PIECE = 4 << 20


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a handover.

    memory: its source. None: not available.
    known:  bytes from a document, by physical address.
    """

    memory: Memory | None
    known: dict[int, Contents]

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of memory. None: not available.

        address: physical.
        size:    bytes.
        """
        piece = self.known.get(address)
        if piece is not None and piece.size >= size:
            return piece.data.ljust(size, b"\0")[:size]
        if self.memory is None:
            return None
        try:
            return self.memory.read(address, size)
        except MissingMemory:
            return None

    @classmethod
    def of(cls, handover: Handover, memory: Memory | None) -> Bytes:
        """The bytes of a handover.

        handover: whose contents are used, too.
        memory:   its source. None: not available.
        """
        holders: list[PciList | Subtree | Flb | File | Memfd] = [*handover.pci, *handover.subtrees]
        if handover.luo is not None:
            files = [file for session in handover.luo.sessions for file in session.files]
            holders += [*handover.luo.flbs, *files, *(file.memfd for file in files if file.memfd is not None)]
        pieces = [piece for holder in holders for piece in holder.contents]
        return cls(memory, {piece.address: piece for piece in pieces})


@dataclass(slots=True)
class _Place:
    """A folio on both sides. after: its address after. size: bytes. paths: that lead to it."""

    after: int
    size: int
    paths: list[str] = field(default_factory=list)


def content_changes(
    before: Handover, after: Handover, memories: tuple[Memory | None, Memory | None], *, page_size: int
) -> Iterator[Change]:
    """A change for each folio with other bytes: the hashes, and the offset of the first differing byte.

    before:    first handover.
    after:     the same handover later.
    memories:  their sources. None: not available.
    page_size: bytes.
    """
    old, new = Bytes.of(before, memories[0]), Bytes.of(after, memories[1])
    places: dict[int, _Place] = {}
    for address, other, path, whole, used in _pieces(before, after, page_size):
        if address not in places:
            # Documents have no more than what is used: a folio may reach beyond the end of its file.
            places[address] = _Place(other, whole if None not in memories else -(-used // page_size) * page_size)
        places[address].paths.append(path)
    unread: dict[str, list[int]] = {}
    for address, place in places.items():
        change = _compare(address, place, old, new)
        if change is not None and change.kind is Kind.UNREAD:
            unread.setdefault(change.where, []).append(address)
        elif change is not None:
            yield change
    for path, addresses in unread.items():
        note = f"the bytes of {len(addresses)} folios are not in both sources, the first at {addresses[0]:#x}"
        yield Change(kind=Kind.UNREAD, where=path, note=note)


def _size(handover: Handover, address: int, page_size: int) -> int:
    """Size of the folio at an address in bytes: that in the map, else a page."""
    block = handover.preserved.map.find(address) if handover.preserved.map is not None else None
    return page_size << block.order if block is not None and block.address == address else page_size


def _compare(address: int, place: _Place, old: Bytes, new: Bytes) -> Change | None:
    """The change of one folio, or that it could not be read on both sides. None: its bytes are equal."""
    hashes, first = (hashlib.sha256(), hashlib.sha256()), None
    for skip in range(0, place.size, _PIECE):
        take = min(_PIECE, place.size - skip)
        one, other = old.read(address + skip, take), new.read(place.after + skip, take)
        if one is None or other is None:
            return Change(kind=Kind.UNREAD, where=f"{place.paths[0].partition('/folios/')[0]}/contents")
        if first is None and one != other:
            first = skip + next(index for index in range(take) if one[index] != other[index])
        hashes[0].update(one)
        hashes[1].update(other)
    if first is None:
        return None
    return Change(
        kind=Kind.CHANGED,
        where=f"{place.paths[0]}/contents",
        before=f"sha256 {hashes[0].hexdigest()}",
        after=f"sha256 {hashes[1].hexdigest()}",
        also=tuple(f"{path}/contents" for path in place.paths[1:]),
        note=f"first differing byte {first:#x} of {place.size:#x} at {address:#x}",
    )


def _pieces(before: Handover, after: Handover, page_size: int) -> Iterator[tuple[int, int, str, int, int]]:
    """(address before, address after, path, bytes of the folio, bytes used) of all whose bytes are compared."""
    yield from _driver_pages(before, after, page_size)
    yield from _folios(before, after, page_size)
    for name, old, new in paired(before.subtrees, after.subtrees, lambda entry: entry.name):
        if old is not None and new is not None and (old.contents or new.contents) and old.address and new.address:
            size = min(old.size or 0, new.size or 0)
            whole = max(size, _size(before, old.address, page_size))
            yield old.address, new.address, f"subtrees/{path_part(name)}", whole, size
    handles: list[tuple[str, File | Flb, File | Flb]] = [*_files(before, after), *_flbs(before, after)]
    for where, was, now in handles:
        if was.contents or now.contents:
            whole = _size(before, was.data, page_size)
            yield was.data, now.data, where, whole, whole


def _driver_pages(before: Handover, after: Handover, page_size: int) -> Iterator[tuple[int, int, str, int, int]]:
    """The same of the pages at driver_data on both sides."""
    now: dict[tuple[int, int], int] = {}
    for entry in after.pci:
        for device in entry.devices:
            data = device.number("driver_data")
            if data is not None:
                now.setdefault((device.domain, device.bdf), data)
    for entry in before.pci:
        named = _named_pages(entry)
        for device in entry.devices:
            data, other = device.number("driver_data"), now.get((device.domain, device.bdf))
            if data in named and other:
                yield data or 0, other, f"pci/{device.name}/driver_data", _size(before, data or 0, page_size), page_size


def _named_pages(entry: PciList) -> set[int | None]:
    return {piece.address for piece in entry.contents}


def _folios(before: Handover, after: Handover, page_size: int) -> Iterator[tuple[int, int, str, int, int]]:
    """(address before, address after, path, bytes of the folio, of these in the file) of those on both sides."""
    for where, old, new in _memfds(before, after):
        others = {folio.index: folio.address for folio in new.folios.list}
        for folio in old.folios.list:
            if folio.address and others.get(folio.index):
                left = max(old.size - folio.index * page_size, page_size)
                whole = _size(before, folio.address, page_size)
                yield folio.address, others[folio.index], f"{where}/folios/{folio.index}", whole, min(left, whole)


def _memfds(before: Handover, after: Handover) -> Iterator[tuple[str, Memfd, Memfd]]:
    """(path, memfd before, memfd after) of the files on both sides."""
    for where, was, now in _files(before, after):
        if was.memfd is not None and now.memfd is not None:
            yield where, was.memfd, now.memfd


def _files(before: Handover, after: Handover) -> Iterator[tuple[str, File, File]]:
    """(path, file before, file after) of the files on both sides."""
    first, second = (one.luo.sessions if one.luo is not None else () for one in (before, after))
    for name, old, new in paired(first, second, lambda session: session.name):
        if old is None or new is None:
            continue
        for token, was, now in paired(old.files, new.files, lambda file: file.token):
            if was is not None and now is not None:
                yield f"luo/sessions/{path_part(name)}/files/{token:#x}", was, now


def _flbs(before: Handover, after: Handover) -> Iterator[tuple[str, Flb, Flb]]:
    """(path, FLB before, FLB after) of the FLBs on both sides."""
    first, second = (one.luo.flbs if one.luo is not None else () for one in (before, after))
    for name, was, now in paired(first, second, lambda flb: flb.name):
        if was is not None and now is not None:
            yield f"luo/flbs/{path_part(name)}", was, now
