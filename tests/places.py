# SPDX-License-Identifier: MIT
"""Where each member of each struct of a handover is in memory, and what is lost if it changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luoser.abi import luo, memfd, pci
from luoser.abi.block import kho_block_header_ser
from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.kho import fdt_header
from luoser.abi.pci import is_flb_name
from luoser.abi.release import SUBTREES, kept_subtrees
from luoser.abi.schema import Schema
from luoser.fdt import parse_header, tokens
from luoser.memory.source import Memory
from luoser.state import Handover, Memfd, PciList, Session
from luoser.state.model import Folios

__all__ = ["PLAIN", "Place", "map_pages", "places"]

PLAIN = {
    "tree: liveupdate-number": "a number: each value is possible",
    "tree: value": "a value of a test, a name, or a size",
    "tree: padding": "nobody reads it",
    "tree: pointer to what was consumed": "the page has been freed, so nothing shows that it is another one",
    "tree: blob-size of what was consumed": "the page has been freed, so nothing shows its size",
    "tree: blob-size of an unknown module": "a size that only its owner can judge; the block it is in bounds it",
    "tree: subsystem": "a name: that of a subsystem of the LUO of 2025",
    "tree: label": "a name, chosen by a module or on the command line of the kernel",
    "luo_ser.liveupdate_num": "a number: each value is possible",
    "luo_session_ser.name": "a name, chosen by user space",
    "luo_file_ser.token": "a token, chosen by user space",
    "luo_file_ser.data": "a handle that only its owner can judge",
    "luo_flb_ser of a device list.name": "a name that luoser need not know",
    "luo_flb_ser.name": "a name that luoser need not know",
    "luo_flb_ser.data": "a handle that only its owner can judge",
    "memfd_luo_ser.pos": "a file position: each value is possible",
    "memfd_luo_ser.size": "a size: a file can have holes at its end",
    "memfd_luo_ser.seals": "seals: each combination is possible",
    "memfd_luo_ser.folios.flags": "flag 2 is possible beside flag 1",
    "memfd_luo_folio_ser.flags": "a folio can be dirty or not, up to date or not",
    "memfd_luo_folio_ser.index": "a position in a file that can have holes",
    "kho_kexec_metadata.previous_release": "a name: each release is possible",
    "kho_kexec_metadata.kexec_count": "a number: each value is possible",
    "luo_file_ser of a memfd.token": "a token, chosen by user space",
    "pci device.flags": "a device and a bridge above it: each known flag is possible",
    "pci device.driver_data": "data of a driver, which need not be an address",
    "pci device.refcount": "any number up to that of the devices is possible; --topology decides",
    "pci header.nr_devices": "the last devices can be removed, and leave their bytes behind",
    "pci header.max_nr_devices": "any number that fits the folio is possible",
    "pci device.address": "each PCI address is possible",
}
"""Members whose values luoser cannot judge alone, with the reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of one member.

    name:    `struct.member`, or `tree: property`.
    address: physical.
    size:    bytes.
    """

    name: str
    address: int
    size: int


def places(memory: Memory, handover: Handover) -> Iterator[Place]:
    """Every member of the root, of LUO, and of all that is below it. Without the pages of the map.

    Of a handover that was taken over, only what no kernel frees.
    """
    found = _Places(memory, handover)
    yield from found.tree(handover.address or 0)
    for index, subtree in enumerate(handover.subtrees):
        if handover.may_be_freed(f"subtrees[{index}]"):
            continue
        if subtree.fdt is not None and subtree.address and (subtree.name != "LUO" or handover.is_consumed):
            yield from found.tree(subtree.address, names="node name" if subtree.name == "LUO" else "label")
    if handover.is_consumed:
        if handover.kexec_metadata is not None:
            yield from found.struct(kho_kexec_metadata, handover.kexec_metadata.address)
        return
    yield from found.luo()
    if handover.kexec_metadata is not None:
        yield from found.struct(kho_kexec_metadata, handover.kexec_metadata.address)
    for one in handover.pci:
        if any(not way.startswith("subtree:") for way in one.via):  # else it is the blob of an unknown module
            yield from found.devices(one)


def map_pages(handover: Handover) -> Iterator[tuple[str, int]]:
    """(kind, address) of each page of a map: `table`, `leaf`, `chunk` or `bitmap`."""
    bitmaps = {address for address, _, _ in handover.preserved.bitmaps}
    names = ("leaf", "table") if handover.preserved.form == "radix" else ("bitmap", "chunk")
    for address in handover.preserved.nodes:
        yield names[address not in bitmaps], address


class _Places:
    def __init__(self, memory: Memory, handover: Handover) -> None:
        self.memory, self.handover, self.root = memory, handover, handover.address or 0

    def is_freed(self, node: str) -> bool:
        """Whether the next kernel has freed what a node of the root points to; without a name the map."""
        one = self.handover
        return one.is_consumed and node not in kept_subtrees(one.compatible)

    def place(self, name: str, address: int, size: int) -> Place:
        return Place(name, address, size)

    def struct(self, schema: Schema, address: int, *, name: str = "", members: Iterable[str] = ()) -> Iterator[Place]:
        """The members of one struct. members: those wanted. Empty: all."""
        label = name or schema.name.split(" ")[0]
        nested = {field.name.rpartition(".")[0] for field in schema.fields}
        for field in schema.fields:
            if field.padding or not field.size or field.name in nested or (members and field.name not in members):
                continue
            yield self.place(f"{label}.{field.name}", address + field.offset, field.size)

    def tree(self, address: int, *, names: str = "node name") -> Iterator[Place]:
        """The members of the header, the tokens and the values of a devicetree. names: what a node's name is."""
        yield from self.struct(fdt_header, address)
        header = parse_header(self.memory.read(address, fdt_header.size))
        yield self.place("fdt_reserve_entry, zero", address + header.off_mem_rsvmap, 16)
        size = header.totalsize
        node = ""
        for token in tokens(self.memory.read(address, size)):
            start, name = address + token.offset, token.name.decode("latin-1")
            if token.kind == "node":
                node, used = name, 4 + len(token.name) + 1
                yield self.place("tree: token", start, 4)
                is_label = address == self.root and name and name not in SUBTREES
                yield self.place("tree: label" if is_label else f"tree: {names}", start + 4, used - 4)
                yield self.place("tree: padding", start + used, token.size - used)
                continue
            if token.kind != "property":
                kind = "token" if token.kind != "string" else "subsystem" if token.name == b"pci" else "property name"
                yield self.place(f"tree: {kind}", start, token.size)
                continue
            yield self.place("tree: token", start, 12)
            kind = "pointer" if name in _POINTERS else name if name in _PROPERTIES else "value"
            kind = "blob-size of an unknown module" if kind == "blob-size" and node not in SUBTREES else kind
            if address == self.root and kind.startswith(("pointer", "blob-size")) and self.is_freed(node):
                kind = f"{kind.split(' ')[0]} {'to' if kind == 'pointer' else 'of'} what was consumed"
            used = len(token.value)
            yield self.place(f"tree: {kind}", start + 12, used)
            if token.size > 12 + used:
                yield self.place("tree: padding", start + 12 + used, token.size - 12 - used)

    def luo(self) -> Iterator[Place]:
        found = self.handover.luo
        if found is None or found.address is None:
            return
        form = luo.form(found.layout or "")
        assert form is not None
        if form.root is not None:
            yield from self.struct(form.root, found.address)
        else:
            yield from self.tree(found.address)
        header = kho_block_header_ser if form.sessions == "blocks" else form.session_header
        for block in found.session_blocks if form.sessions == "blocks" else found.session_blocks[:1]:
            assert header is not None
            yield from self.struct(header, block)
        if found.flb_area:
            yield from self.struct(luo.luo_flb_header_ser, found.flb_area)
        for flb in found.flbs:
            name = "luo_flb_ser of a device list" if is_flb_name(flb.name) else "luo_flb_ser"
            yield from self.struct(luo.luo_flb_ser, flb.address, name=name)
        for session in found.sessions:
            yield from self.session(form, session)

    def session(self, form: luo.LuoForm, session: Session) -> Iterator[Place]:
        if session.address is not None:
            yield from self.struct(form.session, session.address)
        if form.files == "blocks":
            for block in session.blocks:
                yield from self.struct(kho_block_header_ser, block)
        for file in session.files:
            if file.address is not None:
                # A memfd's handle is the address of its descriptor.
                name = "luo_file_ser" if file.memfd is None else "luo_file_ser of a memfd"
                yield from self.struct(luo.luo_file_ser, file.address, name=name)
            if file.memfd is not None:
                yield from self.memfd(file.memfd)

    def memfd(self, found: Memfd) -> Iterator[Place]:
        form = memfd.form(found.layout)
        assert form is not None
        if form.descriptor is None:
            yield from self.tree(found.address)
        else:
            yield from self.struct(form.descriptor, found.address)
        yield from self.folios(found.folios, form.entry)

    def folios(self, folios: Folios, entry: Schema) -> Iterator[Place]:
        for chunk in folios.chunks:
            yield self.place("kho_vmalloc_chunk.next", chunk, 8)
        for number, page in enumerate(folios.pages[: 511 * len(folios.chunks)]):
            yield self.place("kho_vmalloc_chunk.phys", folios.chunks[number // 511] + 8 * (number % 511 + 1), 8)
            size = 4096 << folios.order
            for place in range(0, min(size, folios.count * entry.size - number * size), entry.size):
                yield self.place("memfd_luo_folio_ser.pfn and flags", page + place, 8)
                yield self.place("memfd_luo_folio_ser.index", page + place + 8, 8)

    def devices(self, found: PciList) -> Iterator[Place]:
        form = pci.layout(found.layout)
        assert form is not None
        yield from self.struct(form.header, found.address, name="pci header")
        size, head = form.record.size, kho_block_header_ser.size
        starts = [found.address + form.header.size + slot * size for slot in range(found.devices.slots)]
        if found.blocks:
            starts = []
            for block in found.blocks:
                yield from self.struct(kho_block_header_ser, block)
                count = int.from_bytes(self.memory.read(block + 8, 8), "little")
                starts += [block + head + slot * size for slot in range(count)]
        for start in starts:
            for part in self.struct(form.record, start, name="pci device"):
                member = part.name.partition(".")[2]
                kind = "address" if member in ("path", "domain", "bdf", "devfn", "bus") else member
                yield self.place(f"pci device.{kind}", part.address, part.size)


_POINTERS = ("preserved-memory-map", "fdt", "preserved-data", "luo-session", "luo-session-head", "luo-flb", "folios")
_PROPERTIES = ("compatible", "blob-size", "liveupdate-number")
