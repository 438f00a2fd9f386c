# SPDX-License-Identifier: MIT
"""Pages that can start with a struct: what each of its bytes can be, tested for all pages of a block at once.

A column has the byte at one offset of every page of a block. So the tests cost some operations on columns, and no step
of Python for each page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from luoser.abi.schema import Field, Schema
from luoser.reader.plausible import PHYSICAL_LIMIT

__all__ = ["Columns", "Shape", "shape"]

_OR_ZERO = bytes(byte == 0 for byte in range(256))


class Columns:
    """The columns of a block, made when they are asked for. stride: bytes of a page; the block has whole pages."""

    def __init__(self, block: bytes, stride: int) -> None:
        self._block, self._stride = block, stride
        self._made: dict[int, bytes] = {}
        self.count = len(block) // stride

    def at(self, offset: int) -> bytes:
        """The byte at an offset of each page."""
        made = self._made.get(offset)
        if made is None:
            made = self._made[offset] = self._block[offset :: self._stride]
        return made

    def word(self, offset: int, size: int) -> int:
        """All bytes of a member of each page, in one number of a byte for each page: 0 where the member is 0."""
        total = 0
        for place in range(offset, offset + size):
            total |= int.from_bytes(self.at(place), "little")
        return total


@dataclass(frozen=True, slots=True)
class Shape:
    """What a page can start with.

    tables: (offset, for each value of the byte there whether it is impossible), the most telling ones first.
    some:   (offset, size in bytes) of members that are not 0.
    """

    tables: tuple[tuple[int, bytes], ...]
    some: tuple[tuple[int, int], ...] = ()

    def pages(self, columns: Columns) -> Iterator[int]:
        """Numbers of the pages that fit."""
        bad, full = 0, int.from_bytes(b"\1" * columns.count, "little")
        for offset, size in self.some:  # first: most pages have zeros there
            word = columns.word(offset, size).to_bytes(columns.count, "little")
            bad |= int.from_bytes(word.translate(_OR_ZERO), "little")
        for offset, table in self.tables:
            if bad == full:
                return
            bad |= int.from_bytes(columns.at(offset).translate(table), "little")
        marks = bad.to_bytes(columns.count, "little")
        index = marks.find(b"\0")
        while index >= 0:
            yield index
            index = marks.find(b"\0", index + 1)


def shape(
    page_size: int,
    *parts: tuple[int, Schema, Mapping[str, int]],
    some: Iterable[tuple[int, str]] = (),
    texts: Mapping[int, Iterable[bytes]] | None = None,
) -> Shape:
    """The shape of structs at fixed offsets of a page, from the kinds of their members.

    page_size: bytes; an address is a multiple of it.
    parts:     (offset, struct, largest value of members by name) of each. A member of another kind than number, and
               without a largest value, is what its kind allows.
    some:      (index of the part, name) of the members that are not 0.
    texts:     by offset: one of these is there, as a whole.
    """
    tables = dict(_texts(texts or {}))
    for start, schema, most in parts:
        for member in _leaves(schema):
            for place, table in _bytes(member, most, page_size):
                old = tables.get(start + place, _table(0xFF))
                tables[start + place] = bytes(map(max, old, table))
    useful = {place: table for place, table in tables.items() if any(table) and place < page_size}
    ordered = sorted(useful.items(), key=lambda item: (-sum(item[1]), item[0]))
    wanted = [(parts[index][0], parts[index][1].field(name)) for index, name in some]
    return Shape(tuple(ordered), tuple((start + member.offset, member.size) for start, member in wanted))


def _leaves(schema: Schema) -> Iterator[Field]:
    """The members that hold no other ones, without bit-fields and flexible arrays."""
    for member in schema.fields:
        if member.kind != "struct" and member.size and member.bit_offset is None:
            yield member


def _bytes(member: Field, most: Mapping[str, int], page_size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, table) of the bytes of a member that are not free."""
    places = range(member.offset, member.offset + member.size)
    if member.kind == "text":
        yield places[0], _OR_ZERO
        yield places[-1], _table(0)
        return
    possible = _possible(member, most, page_size)
    for number, place in enumerate(places):
        yield place, _table(possible >> 8 * number & 0xFF)


def _possible(member: Field, most: Mapping[str, int], page_size: int) -> int:
    """The bits that a number can have."""
    if member.padding:
        return 0
    if member.name in most:
        return (1 << most[member.name].bit_length()) - 1
    if member.kind == "address":
        return (PHYSICAL_LIMIT - 1) & ~(page_size - 1)
    if member.kind == "size":
        return PHYSICAL_LIMIT - 1
    if member.kind == "flags":
        return sum(member.bit_names)
    return (1 << 8 * member.size) - 1


@cache
def _table(mask: int) -> bytes:
    """Whether each byte has a bit that is not in a mask."""
    return bytes(bool(byte & ~mask) for byte in range(256))


def _texts(texts: Mapping[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
    """(offset, table) of the bytes of texts."""
    for start, known in texts.items():
        spelled = tuple(known)
        for number in range(min(map(len, spelled))):
            there = {text[number] for text in spelled}
            yield start + number, bytes(byte not in there for byte in range(256))
