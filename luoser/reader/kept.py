# SPDX-License-Identifier: MIT
"""Which bytes belong to what was read. A cut without contents has these, and no others that are not zero.

A reader that took a struct, a list or a devicetree for one says so here, as narrowly as it can: padding, unused room
and values without a meaning for luoser are not part of it. In such a cut a text stands for what is left out; what
would be read from that is a problem.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from luoser.abi.schema import Schema
from luoser.bits import is_zero
from luoser.errors import MissingMemory
from luoser.fdt import HEADER_SIZE, Fdt, tokens
from luoser.reader.walk import Subject, Walk
from luoser.text import safe_text

__all__ = [
    "Names",
    "Values",
    "keep_all_but_texts",
    "keep_items",
    "keep_struct",
    "keep_tree",
    "keep_words",
    "no_names",
    "values_of",
]

Names = Callable[[bytes, int], bool]
"""Whether a user chose the name of a node, by the name and the level of the node. The root has level 0."""
Values = Callable[[bytes, bytes], bool]
"""Whether the value of a property is kept, by name and value."""
_LARGEST_RAW = 128
"""Bytes of a member without inner structure that are kept: larger ones are state of a device."""
_NO_WORD = 0xFF << 56 | 0xFF << 44
"""Bits that neither a page frame number, with four flags above its 52 bits, nor an index of a page has."""
_FLIPPED = 2
"""So many wrong bits are damage to what was there; more are something else."""


_TEXT = 64
"""Bytes of the longest text that says what a devicetree is."""


def values_of(**sizes: int) -> Values:
    """Which values of a devicetree are kept: what it is compatible with, and some properties.

    sizes: most bytes of each by name, with `_` for `-`.
    """
    known = {name.replace("_", "-"): size for name, size in ({"compatible": _TEXT} | sizes).items()}

    def is_kept(name: bytes, value: bytes) -> bool:
        return len(value) <= known.get(name.decode("ascii", "replace"), -1)

    return is_kept


def no_names(_: bytes, __: int) -> bool:
    """No node has a name that a user chose."""
    return False


def keep_struct(walk: Walk, address: int, schema: Schema, subject: Subject, *, name: str = "") -> None:
    """Keep a struct, without padding, without large members that have no inner structure, and of texts what is read:
    nothing after the NUL.

    walk:    the source.
    address: physical.
    schema:  of the struct.
    subject: what a problem is about, if some of it is withheld.
    name:    of the member with a name that a user chose. Empty: there is none.
    """
    if not walk.keeps:
        return
    parts: list[list[int]] = []
    outer = {one.name.rpartition(".")[0] for one in schema.fields}  # an array of structs has no members here
    for one in schema.fields:
        if one.padding or one.name in outer or not one.size:
            continue
        if one.kind == "bytes" and one.size > _LARGEST_RAW:
            walk.need(address + one.offset, one.size, subject.part(one.name, ".contents"))
        elif parts and parts[-1][1] == one.offset:
            parts[-1][1] += one.size
        elif not parts or one.offset > parts[-1][1]:
            parts.append([one.offset, one.offset + one.size])
    for one in schema.fields:
        if one.kind == "text" and one.size:
            used = _used(walk, address + one.offset, one.size)
            parts = list(_without(parts, one.offset + used, one.offset + one.size))
            if one.name == name:
                walk.memory.keep(address + one.offset, used, is_name=True)
    for start, end in parts:
        walk.keep(address + start, end - start, subject)


def keep_all_but_texts(walk: Walk, address: int, size: int, texts: Iterable[tuple[int, int]], subject: Subject) -> None:
    """Keep a record, and of texts in it nothing after the NUL.

    walk:    the source.
    address: physical.
    size:    in bytes.
    texts:   (offset, size in bytes) of the room of each.
    subject: what a problem is about, if some of it is withheld.
    """
    parts = [[0, size]]
    for start, room in texts:
        parts = list(_without(parts, start + _used(walk, address + start, room), start + room))
    for start, end in parts:
        walk.keep(address + start, end - start, subject)


def _used(walk: Walk, address: int, size: int) -> int:
    """Bytes of the room of a text: all, or up to its NUL if something else is after that."""
    try:
        name, nul, rest = walk.memory.read(address, size).partition(b"\0")
    except MissingMemory:
        return size
    return size if is_zero(rest) else len(name) + len(nul)


def _without(parts: list[list[int]], start: int, end: int) -> Iterator[list[int]]:
    """Ranges without one that is in one of them."""
    for low, high in parts:
        inner = low <= start < end <= high
        yield from (part for part in ([low, start], [end, high]) if part[0] < part[1]) if inner else ([low, high],)


def keep_tree(
    walk: Walk, address: int, data: bytes, tree: Fdt, subject: Subject | None, values: Values, names: Names = no_names
) -> None:
    """Keep the header, the tokens and the names of a devicetree, and some values.

    walk:    the source.
    address: physical.
    data:    the blob.
    tree:    the same, read.
    subject: what a problem is about, if some of it is withheld. None: other values do not matter.
    values:  which are kept.
    names:   which of them users chose.
    """
    if not walk.keeps:
        return
    keep, level = walk.memory.keep, 0
    keep(address, HEADER_SIZE)
    if not tree.fault:
        keep(address + tree.header.off_mem_rsvmap, 16 * (1 + len(tree.reserved)))
    for token in tokens(data):
        place, end = address + token.offset, token.offset + token.size
        if token.kind == "node":
            size, is_name = len(token.name) + 1, names(token.name, level)
            is_padded = is_zero(data[token.offset + 4 + size : end])
            keep(place, 4)
            keep(place + 4, token.size - 4 if is_name and is_padded else size, is_name=is_name)
            level += 1
        elif token.kind == "property":
            is_kept = values(token.name, token.value)
            keep(place, 12 + (len(token.value) if is_kept else 0))
            if not is_kept and subject is not None:
                walk.need(place + 12, len(token.value), subject.part(f"property {safe_text(token.name)}", ".contents"))
            offset = int.from_bytes(data[token.offset + 8 : token.offset + 12], "big")
            keep(address + tree.header.off_dt_strings + offset, len(token.name) + 1)
        elif token.kind == "string":
            if values(token.name, bytes(8)):
                keep(place, token.size)
        else:
            keep(place, token.size)
            level -= token.kind == "end"


def keep_words(walk: Walk, pieces: Iterable[tuple[int, bytes]], subject: Subject) -> None:
    """Keep those words of an array that can be page frame numbers with flags, addresses, or indices of pages.

    walk:    the source.
    pieces:  (physical address, bytes) of the parts of the array. A part of which most is something else is not kept.
    subject: what a problem is about, if some of it is withheld.
    """
    for address, data in pieces if walk.keeps else ():
        words = [word for (word,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8])]
        odd = sum(1 for word in words if word & _NO_WORD)
        bits = _FLIPPED if 8 * odd <= len(words) else 0
        keep_items(
            walk,
            address,
            8,
            ((word & _NO_WORD).bit_count() <= bits and 2 * odd <= len(words) for word in words),
            subject,
        )


def keep_items(walk: Walk, address: int, size: int, kept: Iterable[bool], subject: Subject) -> None:
    """Keep some items of an array.

    walk:    the source.
    address: physical, of the array.
    size:    of an item in bytes.
    kept:    whether an item is kept, for each.
    subject: what a problem is about, if some of the array is withheld.
    """
    start = end = 0
    for is_kept in kept:
        if not is_kept:
            walk.memory.keep(address + start, end - start)
            start = end + size
        end += size
    walk.memory.keep(address + start, end - start)
    walk.need(address, end, subject)
