# SPDX-License-Identifier: MIT
"""What the handle of a file or an FLB names: a memfd's descriptor, or another handler's struct."""

from __future__ import annotations

from luoser.abi.registry import layout
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import UsageError
from luoser.state import File, Record
from luoser.text import safe_text
from luoser.writer.image import Image
from luoser.writer.memfd import write_memfd

__all__ = ["write_handle", "write_record"]


def write_handle(image: Image, file: File, what: str) -> None:
    """What the handle of a file names."""
    if file.memfd is not None:
        write_memfd(image, file.memfd, what)
    elif file.detail is not None:
        write_record(image, file.detail, what)
    else:
        kind = safe_text(file.compatible)
        image.lacks.append(f"{what}: nothing says what {kind} keeps at {file.data:#x}; left out")


def write_record(image: Image, record: Record, what: str) -> None:
    """A handler's struct as its first reading has it, the longest: the bytes after the shorter ones are zero."""
    name, fields = record.readings[0]
    form = layout(name)
    if form is None or form.kind != "struct":
        raise UsageError(f"{what}: no struct layout is named {safe_text(name)}")
    head = form.schemas[0]
    data = struct_bytes(head, fields, what)
    image.put(record.address, data.ljust(-(-len(data) // image.page_size) * image.page_size, b"\0"), what)
    for member in head.fields:
        place = int.from_bytes(data[member.offset : member.offset + member.size], "little")
        if member.kind == "address" and place:
            word = f"{member.name} of {head.name} names {place:#x}, and the state does not hold what lies there"
            image.lacks.append(f"{what}: {word}; left out")
    if form.count and fields.get(form.count):
        image.lacks.append(f"{what}: the state does not hold the {form.schemas[1].name} behind {head.name}; left out")
