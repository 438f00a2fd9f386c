# SPDX-License-Identifier: MIT
"""Bytes in hex, each row with the member of a struct, or the token of a devicetree, to which they belong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import hexdump

from luoser.abi.blob_members import Field, fields
from luoser.abi.registry import Layout
from luoser.abi.schema import set_bits
from luoser.fdt import Token, tokens
from luoser.render.values import property_text
from luoser.text import bdf_text, safe_text

__all__ = ["plain_rows", "rows"]

_WIDTH = 16
_HEX_WIDTH = 3 * _WIDTH - 1
_INDEX = re.compile(r"\[\d+\]$")
_SMALL = 10
_KINDS = {"end": "end of node", "nop": "NOP", "last": "end of the tree"}


@dataclass(frozen=True, slots=True)
class _Mark:
    """Bytes [start, end) and their description, which can be empty."""

    start: int
    end: int
    text: str


def rows(data: bytes, address: int, layout: Layout | None, *, length: int | None = None) -> Iterator[str]:
    """Lines of at most 16 bytes with the members of structs.

    A member of many bytes has several lines. A long run of zeros has one line.

    address: physical address of the first byte.
    layout:  of the bytes. None: no members, as `plain_rows`.
    length:  number of bytes to show. None: all. The others are used to find the members only.

    Raises FormatError if the layout does not fit the bytes.
    """
    size = len(data) if length is None else min(length, len(data))
    if layout is None:
        yield from plain_rows(data[:size], address)
        return
    for mark in _without_gaps(_marks(data, layout), len(data)):
        if mark.start < size:
            yield from _lines(data[:size], address, replace(mark, end=min(mark.end, size)))


def plain_rows(data: bytes, address: int) -> Iterator[str]:
    """Rows of the package hexdump, at a physical address. Equal rows in a row are a `*`, as hexdump -C prints them.

    `luoser decode --hex` reads them.
    """
    last, is_folded = b"", False
    for place, row in enumerate(hexdump.hexdump(data, result="generator")):
        piece = data[place * _WIDTH : (place + 1) * _WIDTH]
        if piece == last:
            if not is_folded:
                yield "*"
            is_folded = True
            continue
        yield f"{address + place * _WIDTH:#012x}: {row.split(': ', 1)[1]}"
        last, is_folded = piece, False
    if is_folded:
        yield f"{address + len(data):#012x}:"


def _marks(data: bytes, layout: Layout) -> list[_Mark]:
    found = _joined(data, fields(layout, data))
    if layout.kind == "fdt":
        found += [_Mark(token.offset, token.offset + token.size, _token(token)) for token in tokens(data)]
    return sorted((mark for mark in found if mark.end <= len(data)), key=lambda mark: mark.start)


def _joined(data: bytes, found: Iterable[Field]) -> list[_Mark]:
    """A mark for each member. Adjacent elements of an array that are zero have one mark."""
    made: list[_Mark] = []
    first, last = "", ""
    for field in found:
        name = _INDEX.sub("", field.name)
        is_zero = name != field.name and not any(data[field.offset : field.end])
        if is_zero and name == last and made[-1].end == field.offset:
            made[-1] = _Mark(made[-1].start, field.end, f"{first} … {field.name} = 0")
            continue
        first, last = field.name, name if is_zero else ""
        made.append(_Mark(field.offset, field.end, _field(field)))
    return made


def _without_gaps(marks: list[_Mark], size: int) -> Iterator[_Mark]:
    place = 0
    for mark in marks:
        if mark.start > place:
            yield _Mark(place, mark.start, "(padding)" if mark.start - place < 8 else "")
        if mark.start >= place:
            yield mark
            place = mark.end
    if place < size:
        yield _Mark(place, size, "")


def _lines(data: bytes, address: int, mark: _Mark) -> Iterator[str]:
    text, place = mark.text, mark.start
    while place < mark.end:
        rest = data[place : mark.end]
        if not any(rest) and len(rest) > (_WIDTH if place > mark.start else 2 * _WIDTH):
            piece, shown = rest, f"… {len(rest)} bytes of zeros"
        else:
            piece = rest[:_WIDTH]
            ascii_column = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in piece)
            shown = f"{piece.hex(' '):<{_HEX_WIDTH}}  |{ascii_column}|"
        yield f"{address + place:#012x}  {shown:<{_HEX_WIDTH + _WIDTH + 4}}  {text}".rstrip()
        text, place = "", place + len(piece)


def _field(field: Field) -> str:
    if field.bits:
        return ", ".join(f"{name} = {_number(value)}" for name, value in field.bits)
    if isinstance(field.value, bytes):
        return f'{field.name} = "{_text(field.value)}"' if field.c_type == "char" else field.name
    member = field.name.rpartition(".")[2]
    if field.kind in ("address", "handle", "token"):
        return f"{field.name} = {field.value:#x}"
    note = ""
    if member == "path":
        note = f"  {bdf_text(field.value >> 16, field.value & 0xFFFF)}"
    elif member == "bdf":
        note = f"  {bdf_text(0, field.value)[5:]}"
    elif field.kind == "flags" and field.value:
        note = f"  {'|'.join(set_bits(field.value, field.bit_names))}"
    return f"{field.name} = {_number(field.value)}{note}"


def _number(value: int) -> str:
    return str(value) if -_SMALL < value < _SMALL else f"{value:#x}"


def _text(value: bytes) -> str:
    """The text up to the NUL, then any bytes after it that are not zero."""
    name, _, rest = value.partition(b"\0")
    return safe_text(name) + ('", non-zero bytes after the NUL: "' + safe_text(rest.rstrip(b"\0")) if any(rest) else "")


def _token(token: Token) -> str:
    if token.kind == "node":
        return f"node {safe_text(token.name) or '/'}"
    if token.kind == "property":
        return f"{safe_text(token.name)} = {property_text(token.value)}"
    return f'string "{safe_text(token.name)}"' if token.kind == "string" else _KINDS[token.kind]
