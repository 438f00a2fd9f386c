# SPDX-License-Identifier: MIT
"""Divides a blob into groups of equal structs, and writes their values as C tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from luoser.abi.blob_structs import parts
from luoser.abi.c_struct import Member, Struct, Value, structure
from luoser.abi.registry import Layout
from luoser.writer.golden.declarations import declare_member
from luoser.writer.golden.source import WIDTH, fill, number, text_literal, width

__all__ = ["Group", "groups", "table", "values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Adjacent structs of one kind.

    struct: their layout.
    symbol: their name in the generated C code.
    offset: of the first one in the blob.
    count:  number of structs.
    """

    struct: Struct
    symbol: str
    offset: int
    count: int

    @property
    def aligned(self) -> bool:
        """Whether each struct can be read in place: it is aligned if the array is aligned to 8 bytes."""
        align, stride = self.struct.align, self.struct.size
        return self.offset % align == 0 and (self.count == 1 or stride % align == 0)

    @property
    def each(self) -> tuple[str, str]:
        """C expressions for (offset of a struct, its row of the table). With several structs, of struct number `i`."""
        if self.count == 1:
            return f"{self.offset:#x}", f"want_{self.symbol}"
        return f"{self.offset:#x} + {self.struct.size} * i", f"&want_{self.symbol}[i]"


def groups(layout: Layout, data: bytes) -> tuple[Group, ...]:
    """The structs of a blob in the order of their bytes. Raises FormatError if the blob is smaller than the head."""
    made: list[Group] = []
    for (schema, _), found in groupby(parts(layout, data), key=lambda part: (part.schema, part.name)):
        run = list(found)
        struct = structure(schema)
        same = sum(1 for group in made if group.struct.tag == struct.tag)
        symbol = f"{struct.tag}_{same + 1}" if same else struct.tag
        made.append(Group(struct=struct, symbol=symbol, offset=run[0].offset, count=len(run)))
    if len(made) > 1:
        made[0] = replace(made[0], struct=_holding(made[0].struct, made[1].struct))
    return tuple(made)


def _holding(head: Struct, record: Struct) -> Struct:
    """The head with the layout of its record in its flexible array, as one head can have records of several layouts."""
    *others, last = head.members
    if last.struct is None or last.count != 0 or last.struct.tag != record.tag:
        return head
    return replace(head, members=(*others, replace(last, struct=record)))


def values(group: Group, data: bytes) -> Iterator[dict[str, Value]]:
    """The values of each struct of a group, by member."""
    for index in range(group.count):
        yield group.struct.read(data, group.offset + index * group.struct.size)


# -- a table of the values --------------------------------------------------------------------------------


def table(group: Group, data: bytes, *, uapi: bool) -> list[str]:
    """C lines of `want_SYMBOL[]`, the values of a group, and of its struct. Zeros are omitted.

    uapi: use the types of user space, `__u32` for `u32`.
    """
    lines = [f"static const struct {group.symbol}_want {{"]
    for member in group.struct.members:
        if member.count != 0:
            lines += declare_member(_plain(member), "\t", {}, uapi=uapi)
    lines.append(f"}} want_{group.symbol}[] = {{")
    for row in values(group, data):
        lines += _folded("\t", "", _items(group.struct, row))
    return [*lines, "};"]


def _plain(member: Member) -> Member:
    """The member as it is in a table: in host byte order, not a bit-field, nested structs anonymous."""
    kinds = {"be32": "u32", "be64": "u64", "bool": "u8"}
    struct = member.struct
    if struct is not None:
        inner = tuple(_plain(entry) for entry in struct.members)
        struct = replace(struct, tag="", packed=False, align=1, members=inner)
    return replace(member, c_type=kinds.get(member.c_type, member.c_type), struct=struct, first_bit=None)


@dataclass(frozen=True, slots=True)
class _Braces:
    """`prefix { items }`. dense: several items on a line."""

    prefix: str
    items: list[str | _Braces]
    dense: bool = False


def _items(struct: Struct, row: dict[str, Value]) -> list[str | _Braces]:
    return [
        _item(member, f".{member.name} = ", row[member.name])
        for member in struct.members
        if member.count != 0 and _is_set(row[member.name])
    ]


def _is_set(value: Value) -> bool:
    if isinstance(value, bytes):
        return any(value)
    if isinstance(value, list):
        return any(map(_is_set, value))
    return any(map(_is_set, value.values())) if isinstance(value, dict) else bool(value)


def _item(member: Member, prefix: str, value: Value) -> str | _Braces:
    if isinstance(value, int):
        return prefix + number(member.name, member.c_type, value)
    if isinstance(value, dict):
        assert member.struct is not None
        return _Braces(prefix, _items(member.struct, value))
    if isinstance(value, bytes) and member.c_type == "char":
        text = text_literal(value)
        return prefix + text if text.startswith('"') else _Braces(prefix, list(text[2:-2].split(", ")), True)
    if isinstance(value, bytes):
        return _Braces(prefix, [f"[{index}] = {byte:#04x}" for index, byte in enumerate(value) if byte], True)
    element = replace(member, count=None)
    found = [_item(element, f"[{index}] = ", entry) for index, entry in enumerate(value) if _is_set(entry)]
    return _Braces(prefix, found, member.struct is None)


def _flat(item: str | _Braces) -> str:
    return item if isinstance(item, str) else f"{item.prefix}{{ {', '.join(map(_flat, item.items))} }}"


def _folded(indent: str, prefix: str, items: list[str | _Braces], dense: bool = False) -> list[str]:
    if len(items) < WIDTH:
        line = f"{indent}{prefix}{{ {', '.join(map(_flat, items))} }},"
        if width(line) <= WIDTH:
            return [line if items else f"{indent}{prefix}{{}},"]
    lines = [f"{indent}{prefix}{{"]
    if dense:
        lines += fill(indent + "\t", map(_flat, items))
    else:
        for item in items:
            if isinstance(item, str):
                lines.append(f"{indent}\t{item},")
            else:
                lines += _folded(indent + "\t", item.prefix, item.items, item.dense)
    return [*lines, f"{indent}}},"]
