# SPDX-License-Identifier: MIT
"""The bytes of what luoser cannot decode: blobs of unknown sub-trees, folios of unknown handlers and FLBs, and of the
KHO self-test.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from luoser.abi.luo import is_test_flb
from luoser.abi.registry import layout
from luoser.abi.release import SUBTREES
from luoser.budget import Budget
from luoser.errors import MissingMemory
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.memfd import is_memfd
from luoser.reader.walk import Subject, Walk
from luoser.state import Contents, File, Flb, Handover, KhoTest, Record, Session, Subtree
from luoser.text import safe_text

__all__ = ["with_unknown_contents"]

_TEST = Subject("sub-tree kho_test", "kho_test.contents")


def with_unknown_contents(walk: Walk, handover: Handover) -> Handover:
    """A handover with the first bytes of each blob of unknown kind, as far as they can be read.

    walk:     the source.
    handover: as far as it could be decoded.
    """
    found = _Unknown(walk, handover)
    luo = handover.luo
    if luo is not None:
        luo = luo.with_files(found.file)
        luo = replace(luo, flbs=tuple(found.flb(flb, f"luo.flbs[{index}]") for index, flb in enumerate(luo.flbs)))
    trees = tuple(found.subtree(entry, f"subtrees[{index}]") for index, entry in enumerate(handover.subtrees))
    test = found.test(handover.kho_test) if handover.kho_test is not None else None
    return replace(handover, luo=luo, subtrees=trees, kho_test=test)


class _Unknown:
    """Reads bytes. Those of device lists are not unknown."""

    def __init__(self, walk: Walk, handover: Handover) -> None:
        self.walk, self.map = walk, handover.preserved.map
        self.lists = {entry.address for entry in handover.pci}

    def subtree(self, entry: Subtree, path: str) -> Subtree:
        is_known = entry.name in SUBTREES or entry.fdt is not None
        if is_known or not entry.address or not entry.size or entry.address in self.lists:
            return entry
        subject = Subject(f"sub-tree {safe_text(entry.name)}", f"{path}.contents")
        return replace(entry, contents=self._after(entry.detail, self._bytes(entry.address, entry.size, subject)))

    def file(self, path: str, _: Session, file: File) -> File:
        if file.memfd is not None or is_memfd(file.compatible):
            return file
        subject = Subject(f"file {file.token:#x}", f"{path}.contents")
        return replace(file, contents=self._after(file.detail, self._folio(file.data, subject)))

    def flb(self, flb: Flb, path: str) -> Flb:
        if is_test_flb(flb.data) or flb.data in self.lists:
            return flb
        subject = Subject(f"FLB {safe_text(flb.name)}", f"{path}.contents")
        return replace(flb, contents=self._after(flb.detail, self._folio(flb.data, subject)))

    @staticmethod
    def _after(detail: Record | None, pieces: tuple[Contents, ...]) -> tuple[Contents, ...]:
        """The bytes after a known struct, if they are not zeros: a record of pstore, say. Without a struct, all."""
        form = layout(detail.readings[0][0]) if detail is not None else None
        if form is None or not pieces:
            return pieces
        (piece,), size = pieces, form.schemas[0].body
        rest = piece.data[size:]
        return (Contents(address=piece.address + size, size=piece.size - size, data=rest),) if rest else ()

    def test(self, test: KhoTest) -> KhoTest:
        """With those folios that are in the source, up to a limit for all; a cut of a dump rarely has them."""
        budget, pieces = Budget(LIMITS.kho_test_bytes, lambda: self.walk.memory.held), list[Contents]()
        for address, order in test.folios:
            size = self.walk.page_size << order
            if budget.take(size) < size:
                text = f"the bytes of the folios from {address:#x} on are not read"
                self.walk.problem("too-many", address, _TEST, f"{text}; {how_to_raise('kho_test_bytes')}")
                break
            with suppress(MissingMemory), self.walk.memory.exactly():
                data = self.walk.memory.read(address, size).rstrip(b"\0")
                pieces.append(Contents(address=address, size=size, data=data))
        return replace(test, contents=tuple(pieces))

    def _folio(self, address: int, subject: Subject) -> tuple[Contents, ...]:
        """The bytes of the preserved folio at a handle. Empty: the handle is not the address of one."""
        block = self.map.find(address) if self.map is not None else None
        if block is None or block.address != address or not self.walk.is_page_address(address):
            return ()
        return self._bytes(address, self.walk.page_size << block.order, subject)

    def _bytes(self, address: int, size: int, subject: Subject) -> tuple[Contents, ...]:
        with self.walk.memory.exactly():
            data = self.walk.read_some(address, min(size, LIMITS.contents_size), subject)
        return (Contents(address=address, size=len(data), data=data.rstrip(b"\0")),) if data else ()
