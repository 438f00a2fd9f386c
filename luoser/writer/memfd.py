# SPDX-License-Identifier: MIT
"""What a session's files point to: memfd descriptors with their folio arrays, and other handlers' structs."""

from __future__ import annotations

import struct

from luoser.abi import memfd as abi
from luoser.abi.registry import layout
from luoser.abi.schema import Schema
from luoser.abi.values import struct_bytes
from luoser.abi.vmalloc import chunk_capacity
from luoser.errors import UsageError
from luoser.fdt import Node, flatten, sequential
from luoser.state import File, Memfd, Record
from luoser.text import safe_text
from luoser.writer.image import Image

__all__ = ["write_area", "write_handle", "write_record"]

_FORMS: dict[str, Schema] = {
    "memfd-v1": abi.memfd_luo_ser_v1,
    "memfd-v2": abi.memfd_luo_ser_v2,
    "memfd-features": abi.memfd_luo_ser_features,
}
_MAX_ORDER = 20
"""Of one block of an array: 4 GiB with 4 KiB pages."""


def write_handle(image: Image, file: File, what: str) -> None:
    """What the handle of a file names."""
    if file.memfd is not None:
        _write_memfd(image, file.memfd, what)
    elif file.detail is not None:
        write_record(image, file.detail, what)
    else:
        kind = safe_text(file.compatible)
        image.lacks.append(f"{what}: nothing says what {kind} keeps at {file.data:#x}; left out")


def write_record(image: Image, record: Record, what: str) -> None:
    """A handler's struct as its first reading has it, the longest: the bytes behind the shorter ones are zero."""
    name, fields = record.readings[0]
    form = layout(name)
    if form is None or form.kind != "struct":
        raise UsageError(f"{what}: no struct layout is named {safe_text(name)}")
    head = form.schemas[0]
    data = struct_bytes(head, fields, what)
    image.put(record.address, data.ljust(-(-len(data) // image.page_size) * image.page_size, b"\0"), what)
    for member in head.fields:
        place = int.from_bytes(data[member.offset : member.offset + member.size], "little")
        if member.c_type == "phys" and place:
            word = f"{member.name} of {head.name} names {place:#x}, and the state does not hold what lies there"
            image.lacks.append(f"{what}: {word}; left out")
    if form.count and fields.get(form.count):
        image.lacks.append(f"{what}: the state does not hold the {form.schemas[1].name} behind {head.name}; left out")


def _write_memfd(image: Image, memfd: Memfd, what: str) -> None:
    folios = memfd.folios
    for piece in memfd.contents:
        image.put(piece.address, piece.data.ljust(piece.size, b"\0"), f"contents of {what}")
    if memfd.layout == "memfd-pre-merge":
        words = [("pos", memfd.position), ("size", memfd.size)]
        root = Node(b"", [(b"compatible", b"memfd-v1\0")])
        root.properties += [(name.encode(), struct.pack("<Q", value)) for name, value in words]
        root.properties.append((b"folios", folios.list.data))
        image.put(memfd.address, flatten(sequential(root)), what)
        return
    schema = _FORMS.get(memfd.layout)
    if schema is None:
        raise UsageError(f"{what}: no memfd layout is named {safe_text(memfd.layout)}")
    if memfd.seals is not None and memfd.layout == "memfd-v1":
        raise UsageError(f"{what}: memfd-v1 hands over no seals; leave them out, or take memfd-v2")
    fields = {
        "pos": memfd.position,
        "size": memfd.size,
        "nr_folios": folios.count,
        "seals": memfd.seals or 0,
        "flags": memfd.flags,
        "features": {"supp": 1, "req": 0, "active": 0},
        "folios": {
            "first": folios.address,
            "total_pages": folios.total_pages,
            "flags": folios.flags,
            "order": folios.order,
        },
    }
    names = {field.name.split(".")[0] for field in schema.fields}
    data = struct_bytes(schema, {name: value for name, value in fields.items() if name in names}, what)
    image.put(memfd.address, data.ljust(image.page_size, b"\0"), what)
    if len(folios.list) != folios.count:
        image.lacks.append(f"{what}: {len(folios.list)} of its {folios.count} folios are listed; array left out")
        return
    write_area(image, folios.chunks, folios.pages, folios.order, folios.list.data, f"{what}, folio array")


def write_area(
    image: Image, chunks: tuple[int, ...], pages: tuple[int, ...], order: int, data: bytes, what: str
) -> None:
    """A preserved vmalloc area: the chain of chunks that name its blocks of 2^order pages, and the blocks."""
    if order > _MAX_ORDER:
        raise UsageError(f"{what}: blocks of order {order}, expected at most {_MAX_ORDER}")
    most, size = chunk_capacity(image.page_size), image.page_size << order
    if len(pages) * size < len(data) or len(chunks) * most < len(pages):
        raise UsageError(
            f"{what}: {len(data)} bytes do not fit {len(pages)} blocks of order {order} in {len(chunks)} chunks"
        )
    for index, chunk in enumerate(chunks):
        names = pages[index * most : (index + 1) * most]
        following = chunks[index + 1] if index + 1 < len(chunks) else 0
        image.put(chunk, struct.pack(f"<{most + 1}Q", following, *names, *[0] * (most - len(names))), f"{what}, chunk")
    for index, page in enumerate(pages):
        block = data[index * size : (index + 1) * size]
        image.put(page, block.ljust(size, b"\0"), what)
