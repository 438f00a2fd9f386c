# SPDX-License-Identifier: MIT
"""Structs at the handles of files and FLBs: descriptors of memfds, and structs of other handlers."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from luoser.abi.registry import layout
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import UsageError
from luoser.state import OWN_PREFIX, Contents, File, Record
from luoser.text import safe_text
from luoser.writer.image import Image
from luoser.writer.memfd import write_memfd
from luoser.writer.vmalloc import write_area

__all__ = ["write_contents", "write_handle", "write_record"]


def write_handle(image: Image, file: File, what: str) -> None:
    """Write the struct at the handle of a file. If the state does not have it, a note is added to `lacks` of the image.

    image: to write to.
    file:  of a session.
    what:  name of the file in errors and notes.

    Raises UsageError.
    """
    if file.memfd is not None:
        write_memfd(image, file.memfd, what)
    elif file.detail is not None:
        write_record(image, file.detail, what)
        write_contents(image, file.contents, what)
    elif file.contents:
        write_contents(image, file.contents, what)
    else:
        kind = safe_text(file.compatible)
        image.lacks.append(f"{what}: no data of {kind} for {file.data:#x} in the state; left out")


def write_contents(image: Image, pieces: Iterable[Contents], what: str) -> None:
    """Write bytes of unknown kind. what: their name in errors. Raises UsageError."""
    for piece in pieces:
        image.put(piece.address, piece.data.ljust(piece.size, b"\0"), what)


def write_record(image: Image, record: Record, what: str) -> None:
    """Write a handler's struct, in its first layout, which is the longest: bytes after the shorter ones are zeros.

    image:  to write to.
    record: the struct.
    what:   name of the struct in errors and notes.

    Raises UsageError for an unknown layout, and as `struct_bytes`.
    """
    name, fields = record.readings[0]
    if name.startswith(OWN_PREFIX):  # its bytes are contents
        image.lacks.append(f"{what}: a struct of the kernel's own types, which only --contents can carry")
        return
    form = layout(name)
    if form is not None and form.kind == "fdt":  # the devicetree itself is written as one
        _write_arrays(image, record, what)
        return
    if form is None or form.kind != "struct":
        raise UsageError(f"{what}: unknown struct layout {safe_text(name)}")
    head = form.schemas[0]
    data = struct_bytes(head, fields, what)
    image.put(record.address, data[: head.body], what)
    _write_arrays(image, record, what)
    written = {array.member for array in record.arrays}
    for member in head.fields:
        place = int.from_bytes(data[member.offset : member.offset + member.size], "little")
        if member.kind == "address" and place and member.name.partition(".")[0] not in written:
            word = f"no data for {place:#x} ({member.name} of {head.name}) in the state"
            image.lacks.append(f"{what}: {word}; left out")
    if form.count and fields.get(form.count):
        image.lacks.append(f"{what}: no {form.schemas[1].name} after {head.name} in the state; left out")


def _write_arrays(image: Image, record: Record, what: str) -> None:
    for array in record.arrays:
        words = struct.pack(f"<{len(array.words)}Q", *array.words)
        write_area(image, array.chunks, array.pages, array.order, words, f"{what}, {safe_text(array.member)}")
