# SPDX-License-Identifier: MIT
"""Preserved memfds: descriptors with folio arrays, in all forms."""

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
    """Write the descriptor of a memfd, its folio array, and the contents that are in the state.

    image: to write to.
    memfd: to write.
    what:  name of the memfd in errors and notes.

    Raises UsageError for an unknown form, or values that do not fit it.
    """
    form = abi.form(memfd.layout)
    if form is None:
        raise UsageError(f"{what}: unknown memfd layout {safe_text(memfd.layout)}")
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
        raise UsageError(f"{what}: {form.name} has no seals; leave them out, or use memfd-v2")
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
        image.lacks.append(
            f"{what}: expected {folios.count} folios in the state, found {len(folios.list)}; array left out"
        )
        return
    write_area(image, folios.chunks, folios.pages, folios.order, folios.list.data, f"{what}, folio array")
