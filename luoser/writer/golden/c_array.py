# SPDX-License-Identifier: MIT
"""A blob as a C array of bytes. Each member of its structs starts a new line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from luoser.abi.blob_structs import Part, parts
from luoser.abi.c_struct import Member, Struct, structure
from luoser.abi.registry import Layout
from luoser.text import decode_name
from luoser.writer.golden.source import check_name, comment_text, head, number, width

__all__ = ["array_lines", "c_array"]

_ROW = 8
_COMMENT_COLUMN = 56
_LIMIT = 100
_SHORT_REST = 64
"""Most zeros at the end that are written. If there are more, none of them are: C fills the array."""


def c_array(*, name: str, layout: Layout, data: bytes, source: str, notes: Sequence[str] = ()) -> str:
    """A C file with `static const u8 NAME[SIZE]` only.

    name:   of the array.
    source: what the blob was made from, for the comment.
    notes:  what else the comment says, such as the rule that a negative breaks.

    Raises UsageError for a name that is not valid in C, FormatError if the blob is smaller than the layout's head.
    """
    lines = [*head(name, layout, data, source, notes), "#include <linux/types.h>", ""]
    return "\n".join([*lines, *array_lines(name, layout, data), ""])


def array_lines(name: str, layout: Layout, data: bytes, *, u8: str = "u8") -> list[str]:
    """C lines of the array. Many zeros at the end, as in the rest of a page, are omitted: C fills them in.

    u8: C type of a byte.

    Raises as `c_array` does.
    """
    check_name(name)
    digits = max(3, len(f"{len(data):x}"))
    lines = [f"static const {u8} {name}[{len(data)}] __aligned(8) = {{"]
    for row in _without_rest(list(_rows(layout, data)), data):
        lines += _lines(row, data, digits)
    return [*lines, "};"]


@dataclass(frozen=True, slots=True)
class _Row:
    """One line.

    offset: in the blob.
    size:   number of bytes, 0 for a heading.
    comment:   its comment.
    filler: it may be omitted if it is zeros at the end of the blob.
    """

    offset: int
    size: int
    comment: str = ""
    filler: bool = False


def _without_rest(rows: list[_Row], data: bytes) -> list[_Row]:
    end = len(rows)
    while end > 1 and rows[end - 1].filler and not any(_bytes(rows[end - 1], data)):
        end -= 1
    return rows if sum(row.size for row in rows[end:]) <= _SHORT_REST else rows[:end]


def _bytes(row: _Row, data: bytes) -> bytes:
    return data[row.offset : row.offset + row.size]


def _lines(row: _Row, data: bytes, digits: int) -> list[str]:
    comment = f"/* {row.offset:#0{digits + 2}x}{' ' + row.comment if row.comment else ''} */"
    if not row.size:
        return [f"\t{comment}"]
    line = "\t" + ", ".join(f"{byte:#04x}" for byte in _bytes(row, data)) + ","
    if _COMMENT_COLUMN + len(comment) > _LIMIT:
        return [f"\t{comment}", line]
    return [line + "\t" * -((width(line) - _COMMENT_COLUMN) // 8) + comment]


# -- rows -------------------------------------------------------------------------------------------------


def _rows(layout: Layout, data: bytes) -> Iterator[_Row]:
    at = 0
    for part in parts(layout, data):
        yield from _chunks(_Row(at, part.offset - at, filler=True))
        yield _Row(part.offset, 0, _heading(part))
        yield from _members(structure(part.schema), data, part.offset, "")
        at = part.end
    yield from _chunks(_Row(at, len(data) - at, filler=True))


def _heading(part: Part) -> str:
    struct = f"struct {structure(part.schema).tag}"
    return struct if part.index is None else f"{struct} {part.name}[{part.index}]"


def _chunks(row: _Row) -> Iterator[_Row]:
    """A row divided into lines. The comment is on the first one."""
    for offset in range(row.offset, row.offset + row.size, _ROW):
        size = min(_ROW, row.offset + row.size - offset)
        yield replace(row, offset=offset, size=size, comment=row.comment if offset == row.offset else "")


def _members(struct: Struct, data: bytes, base: int, path: str) -> Iterator[_Row]:
    at = base
    for offset, found in groupby(struct.members, key=lambda member: member.offset):
        group = [member for member in found if member.count != 0]
        yield from _padding(at, base + offset)
        at = base + offset
        if group:
            yield from _bit_fields(group, data, base, path) if len(group) > 1 else _member(group[0], data, base, path)
            at += group[0].total
    yield from _padding(at, base + struct.size)


def _padding(start: int, end: int) -> Iterator[_Row]:
    yield from _chunks(_Row(start, end - start, "padding"))


def _bit_fields(group: list[Member], data: bytes, base: int, path: str) -> Iterator[_Row]:
    comment = ", ".join(path + _value(member, member.read(data, base)) for member in group)
    if len(group) > 2:
        comment = f"{path}{group[0].name}..{group[-1].name}"
    yield _Row(base + group[0].offset, group[0].size, comment)


def _member(member: Member, data: bytes, base: int, path: str) -> Iterator[_Row]:
    start = base + member.offset
    if member.is_bytes:
        comment = path + member.name
        if member.c_type == "char":
            comment += f' = "{comment_text(decode_name(data[start : start + member.total]), 24)}"'
        yield from _chunks(_Row(start, member.total, comment))
    elif member.count is None and member.struct is None:
        yield _Row(start, member.size, path + _value(member, member.read(data, base)))
    elif member.count is None and member.struct is not None:
        yield from _members(member.struct, data, start, f"{path}{member.name}.")
    else:
        yield from _elements(member, data, base, path)


def _elements(member: Member, data: bytes, base: int, path: str) -> Iterator[_Row]:
    for index in range(member.count or 0):
        element = replace(
            member, name=f"{member.name}[{index}]", count=None, offset=member.offset + index * member.size
        )
        for row in _member(element, data, base, path):
            yield replace(row, filler=True)


def _value(member: Member, value: object) -> str:
    assert isinstance(value, int)
    return f"{member.name} = {number(member.name, member.c_type, value).removesuffix('ULL')}"
