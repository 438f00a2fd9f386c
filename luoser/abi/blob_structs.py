# SPDX-License-Identifier: MIT
"""Offsets of the structs in a blob: its head, and the records that the head counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luoser.abi import kho, pci
from luoser.abi.registry import Layout
from luoser.abi.schema import Schema
from luoser.errors import FormatError

__all__ = ["ARRAYS", "Part", "parts"]

ARRAYS = frozenset({"kho-mem", "kho-scratch", "luo-file", "memfd-folio", "memfd-folio-pre-merge"})
"""Layouts that the kernel writes as bare arrays, without a head with a count."""
_FDT_MAGIC = 0xD00DFEED


@dataclass(frozen=True, slots=True)
class Part:
    """One struct of a blob.

    offset: bytes from the start of the blob.
    schema: the struct.
    name:   member name of its array in C, such as `devs`. `entries`: the array has no name. Empty: the head.
    index:  in that array. None: not in an array.
    """

    offset: int
    schema: Schema
    name: str = ""
    index: int | None = None

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.offset + self.schema.size


def parts(layout: Layout, data: bytes) -> tuple[Part, ...]:
    """The structs of a blob by ascending offset, without overlaps.

    layout: of the blob.
    data:   the blob. Records beyond its end are left out.

    Gaps between the parts are the nodes of a devicetree, the rest of a page, or arrays of plain numbers.
    Raises FormatError if the blob is shorter than its head, or is not the devicetree that the layout requires.
    """
    head = layout.schemas[0] if layout.schemas else kho.fdt_header
    if len(data) < head.size:
        raise FormatError(
            f"{layout.name}: too short for struct {head.name}: expected {head.size} bytes, found {len(data)}"
        )
    if layout.kind == "fdt":
        return tuple(_devicetree(layout, data))
    if layout.kind == "list":
        form = pci.layout(layout.name)
        assert form is not None
        return (Part(0, head), *_list(form, data))
    if layout.name in ARRAYS:
        return tuple(_records(head, "entries", data, 0, _used(data, 0, head.size, 1)))
    return (Part(0, head), *_counted(layout, data))


def _records(schema: Schema, name: str, data: bytes, start: int, count: int) -> Iterator[Part]:
    """Up to `count` records from `start` on; incomplete ones are left out."""
    size = schema.size
    for index in range(max(0, min(count, (len(data) - start) // size))):
        yield Part(start + index * size, schema, name, index)


def _used(data: bytes, start: int, size: int, least: int) -> int:
    """Number of slots of an array up to the last one that is not zero; at least `least`."""
    return max(least, -(-(len(data[start:].rstrip(b"\0"))) // size))


def _array_name(head: Schema) -> str:
    """Name of the flexible array of a struct."""
    last = head.fields[-1]
    return last.name if last.size == 0 else "entries"


def _counted(layout: Layout, data: bytes) -> Iterator[Part]:
    head = layout.schemas[0]
    if layout.count:
        count = head.parse(data)[layout.count]
        yield from _records(layout.schemas[1], _array_name(head), data, head.size, count)
    elif head is kho.setup_data:
        node = head.parse(data)
        for payload in (kho.kho_data, kho.kho_data_2023):
            if node.type == kho.SETUP_KEXEC_KHO and node.len == payload.size <= len(data) - head.size:
                yield Part(head.size, payload, "data")


def _list(form: pci.PciLayout, data: bytes) -> Iterator[Part]:
    if form.blocks is not None:
        return
    header, start, size = form.header.parse(data), form.header.size, form.record.size
    count = header[form.count]
    if form.capacity is not None:  # an unpreserved device leaves a hole: later ones keep their slots
        slots = data[: start + min(header[form.capacity], len(data)) * size]
        count = _used(slots, start, size, min(count, len(data)))
    yield from _records(form.record, _array_name(form.header), data, start, count)
    if form.bus is not None and form.bus_count is not None:
        buses = start + count * size
        yield from _records(form.bus, "buses", data, buses, header[form.bus_count])


def _devicetree(layout: Layout, data: bytes) -> Iterator[Part]:
    head, entry = kho.fdt_header, kho.fdt_reserve_entry
    tree = head.parse(data)
    if tree.magic != _FDT_MAGIC:
        raise FormatError(f"{layout.name}: not a devicetree: expected magic 0xd00dfeed, found {tree.magic:#010x}")
    yield Part(0, head)
    start = tree.off_mem_rsvmap
    if start < head.size:
        return
    for part in _records(entry, "rsvmap", data, start, len(data)):
        yield part
        if not any(data[part.offset : part.end]):  # the terminator
            return
