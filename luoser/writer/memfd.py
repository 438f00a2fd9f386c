# SPDX-License-Identifier: MIT
"""Preserved memfds: descriptors with their folio arrays, in every form."""

from __future__ import annotations

import struct

from luoser.abi import memfd as abi
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import UsageError
from luoser.fdt import Node, flatten, sequential
from luoser.state import Memfd
from luoser.text import safe_text
from luoser.writer.image import Image
from luoser.writer.vmalloc import write_area

__all__ = ["write_memfd"]


def write_memfd(image: Image, memfd: Memfd, what: str) -> None:
    """The descriptor of a memfd, its folio array, and the contents that the state holds. Raises UsageError."""
    form = abi.form(memfd.layout)
    if form is None:
        raise UsageError(f"{what}: no memfd layout is named {safe_text(memfd.layout)}")
    folios = memfd.folios
    for piece in memfd.contents:
        image.put(piece.address, piece.data.ljust(piece.size, b"\0"), f"contents of {what}")
    if form.descriptor is None:
        words = [("pos", memfd.position), ("size", memfd.size)]
        root = Node(b"", [(b"compatible", form.handler.encode() + b"\0")])
        root.properties += [(name.encode(), struct.pack("<Q", value)) for name, value in words]
        root.properties.append((b"folios", folios.list.data))
        image.put(memfd.address, flatten(sequential(root)), what)
        return
    if memfd.seals is not None and not form.has_seals:
        raise UsageError(f"{what}: {form.name} hands over no seals; leave them out, or take memfd-v2")
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
    names = {field.name.split(".")[0] for field in form.descriptor.fields}
    data = struct_bytes(form.descriptor, {name: value for name, value in fields.items() if name in names}, what)
    image.put(memfd.address, data.ljust(image.page_size, b"\0"), what)
    if len(folios.list) != folios.count:
        image.lacks.append(f"{what}: {len(folios.list)} of its {folios.count} folios are listed; array left out")
        return
    write_area(image, folios.chunks, folios.pages, folios.order, folios.list.data, f"{what}, folio array")
