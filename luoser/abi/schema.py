# SPDX-License-Identifier: MIT
"""C structs as construct schemas with offsets.

A schema is a construct `Struct` with the layout of a C compiler: `natural` inserts the padding of the x86-64
and arm64 LE ABIs (the same for all structs here), `packed` inserts no padding. A member is written
`"name" / u32 * "meaning"`. All integers are little-endian, except be32 and be64.

Derived from the construct objects: offsets, alignment, the C declaration, and for arrays of records the format
of `struct.iter_unpack`.
"""

from __future__ import annotations

import struct as _struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import construct
from construct import BitsInteger, BitStruct, Bytes, ByteSwapped

__all__ = [
    "Field",
    "Kind",
    "Schema",
    "array",
    "be32",
    "be64",
    "bits",
    "boolean",
    "char",
    "flags",
    "flex",
    "handle",
    "in_bytes",
    "natural",
    "packed",
    "phys",
    "raw",
    "s32",
    "s64",
    "set_bits",
    "token",
    "u8",
    "u16",
    "u32",
    "u64",
]

Kind = Literal["number", "address", "handle", "token", "size", "flags", "text", "bytes", "struct"]
"""Meaning of a member, which decides how it is shown.

address: physical address. A hex string in JSON, as are handle, token and size.
handle:  opaque to others than its owner, or an address that is not physical.
token:   chosen by user space.
size:    size in bytes, or file position.
flags:   named bits.
number:  count, order, version.
"""

u8 = construct.Int8ul
u16 = construct.Int16ul
u32 = construct.Int32ul
u64 = construct.Int64ul
s32 = construct.Int32sl
s64 = construct.Int64sl
be32 = construct.Int32ub
be64 = construct.Int64ub
phys = construct.FormatField("<", "Q")
phys.kind = "address"
"""A physical address: a u64 of kind address."""
boolean = construct.FormatField("<", "B")
"""A C bool. Kept as a byte, so that other values than 0 and 1 survive."""

_C_NAMES = {"B": "u8", "H": "u16", "L": "u32", "I": "u32", "Q": "u64", "l": "s32", "i": "s32", "q": "s64"}


def _of_kind(scalar: Any, kind: Kind, names: Mapping[int, str] | None = None) -> Any:
    member = construct.FormatField(scalar.fmtstr[0], scalar.fmtstr[1:])
    member.kind, member.bit_names = kind, dict(names or {})
    return member


def handle(scalar: Any) -> Any:
    """A member of kind handle. scalar: its type, such as u64."""
    return _of_kind(scalar, "handle")


def token(scalar: Any) -> Any:
    """A member of kind token. scalar: its type, such as u64."""
    return _of_kind(scalar, "token")


def in_bytes(scalar: Any) -> Any:
    """A member of kind size. scalar: its type, such as u64."""
    return _of_kind(scalar, "size")


def flags(scalar: Any, names: Mapping[int, str]) -> Any:
    """A member of kind flags.

    scalar: its type, such as u32.
    names:  by bit value, such as {1: "DIRTY"}.
    """
    return _of_kind(scalar, "flags", names)


def set_bits(value: int, names: Mapping[int, str]) -> list[str]:
    """Names of the bits that are set in a number; the unknown bits as one hex number, such as 0x10.

    names: by bit value.
    """
    found = [name for bit, name in names.items() if value & bit]
    unknown = value & ~sum(names)
    return [*found, f"{unknown:#x}"] if unknown else found


def char(size: int) -> Any:
    """A NUL-padded text, kept as bytes. size: bytes."""
    member = Bytes(size)
    member.c_text = True
    return member


def raw(size: int) -> Any:
    """Bytes without inner structure: a bitmap, a union, reserved space. size: bytes."""
    return Bytes(size)


def array(count: int, of: Any) -> Any:
    """An array.

    count: number of elements.
    of:    schema or scalar of an element.
    """
    return construct.Array(count, _unwrap(of))


class _Flex(construct.Construct):  # type: ignore[misc]
    """A flexible array member: it has no size, but its element has an alignment."""

    def __init__(self, element: Any) -> None:
        super().__init__()
        self.element = element
        self.flagbuildnone = True

    def _parse(self, stream: Any, context: Any, path: Any) -> None:
        return None

    def _build(self, obj: Any, stream: Any, context: Any, path: Any) -> Any:
        return obj

    def _sizeof(self, context: Any, path: Any) -> int:
        return 0


def flex(of: Any) -> Any:
    """The flexible array member at the end of a header. of: schema or scalar of an element."""
    return _Flex(_unwrap(of))


class _Bits(construct.Subconstruct):  # type: ignore[misc]
    """Bit-fields of one little-endian container, declared from the least significant bit up."""

    def __init__(self, size: int, members: tuple[tuple[str, int], ...]) -> None:
        unused = size * 8 - sum(width for _, width in members)
        declared = (*members, ("_unused", unused)) if unused else members
        super().__init__(ByteSwapped(BitStruct(*(name / BitsInteger(width) for name, width in reversed(declared)))))
        self.size, self.members = size, members


def bits(size: int, **members: int) -> Any:
    """Bit-fields in one container, written as an unnamed member: `"_bits" / bits(8, pfn=52, flags=12)`.

    size:    bytes of the container.
    members: width in bits by name, least significant first. They are fields of the enclosing struct.
    """
    return _Bits(size, tuple(members.items()))


class _CStruct(construct.Struct):  # type: ignore[misc]
    align: int = 1
    is_packed: bool = False


def natural(*members: Any) -> Any:
    """A struct with the padding of a compiler, which is kept as bytes in members _padN (N: offset)."""
    laid_out: list[Any] = []
    offset = 0
    for member in members:
        gap = -offset % _align(member)
        if gap:
            laid_out.append(f"_pad{offset}" / Bytes(gap))
        laid_out.append(member)
        offset += gap + member.sizeof()
    align = max((_align(member) for member in members), default=1)
    if -offset % align:
        laid_out.append(f"_pad{offset}" / Bytes(-offset % align))
    made = _CStruct(*laid_out)
    made.align = align
    return made


def packed(*members: Any) -> Any:
    """A struct that is declared __packed: no padding, alignment 1."""
    made = _CStruct(*members)
    made.is_packed = True
    return made


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a schema.

    name:       with dots for a member of a nested struct.
    offset:     bytes from the start of the struct.
    size:       bytes. 0: a flexible array.
    c_type:     type in C.
    meaning:    in words.
    bit_offset: lowest bit of a bit-field in the little-endian container at `offset`. None: not a bit-field.
    bit_width:  bits of a bit-field. None: not a bit-field.
    depth:      0 for a member of the struct itself, 1 in a nested struct, and so on.
    padding:    whether it is padding of the compiler.
    kind:       meaning of the value, of an array: of its elements.
    bit_names:  of kind flags: name by bit value.
    """

    name: str
    offset: int
    size: int
    c_type: str
    meaning: str
    bit_offset: int | None = None
    bit_width: int | None = None
    depth: int = 0
    padding: bool = False
    kind: Kind = "number"
    bit_names: Mapping[int, str] = field(default_factory=dict, hash=False)

    @property
    def is_hex(self) -> bool:
        """Whether it is a hex string in documents."""
        return self.kind in ("address", "handle", "token", "size")


class Schema:
    """One wire layout of one struct.

    name:    of the struct in the kernel.
    label:   in the catalogue; unique together with the name.
    con:     the construct object.
    status:  merged, queued (linux-next), posted or development-branch.
    seen_in: kernel releases, or the series and its date.
    meaning: what the struct is for.
    """

    def __init__(self, name: str, label: str, con: Any, *, status: str, seen_in: str, meaning: str) -> None:
        self.name, self.label, self.con = name, label, con
        self.status, self.seen_in, self.meaning = status, seen_in, meaning
        con.schema_name = name
        self.__doc__ = f"{self.declaration}: {self.size} bytes, {self.layout}. {meaning} Seen in {seen_in} ({status})."

    def __repr__(self) -> str:
        return f"<Schema {self.name} ({self.label}), {self.size} bytes>"

    @property
    def declaration(self) -> str:
        """`struct NAME`."""
        return f"struct {self.name}"

    @property
    def layout(self) -> str:
        """Packing and byte order, in words."""
        order = "big-endian" if any(field.c_type.startswith("be") for field in self.fields) else "little-endian"
        return f"{'packed' if self.packed else f'natural alignment ({self.align})'}, {order}"

    @cached_property
    def size(self) -> int:
        """Bytes, without a flexible array."""
        return int(self.con.sizeof())

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return int(self.con.align)

    @property
    def packed(self) -> bool:
        """Whether it is declared __packed."""
        return bool(self.con.is_packed)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All members by ascending offset. Those of a nested struct follow the member that holds it."""
        return tuple(_walk(self.con, 0, "", 0))

    def offset(self, name: str) -> int:
        """Offset of a member in bytes. name: as in `field`."""
        return self.field(name).offset

    def field(self, name: str) -> Field:
        """The member of that name, with dots for a nested one. Raises StopIteration if there is no such member."""
        return next(field for field in self.fields if field.name == name)

    @cached_property
    def record(self) -> _struct.Struct:
        """The struct as a format of the module `struct`; its values are those of `record_fields`.

        A container of bit-fields is one integer, padding is skipped, nested structs are flattened.
        """
        order = ">" if set(_orders(self.con)) == {">"} else "<"
        return _struct.Struct(order + "".join(_formats(self.con)))

    @cached_property
    def record_fields(self) -> tuple[str, ...]:
        """Names of the values of `record`, with dots for nested ones. A container has that of its first bit-field."""
        return tuple(_record_names(self.con, ""))

    def parse(self, data: bytes | memoryview) -> Any:
        """The members as a construct Container. data: at least `size` bytes; more are ignored."""
        return self.con.parse(bytes(data[: self.size]))

    def build(self, values: Mapping[str, Any]) -> bytes:
        """The bytes of the struct. values: as `parse` returns them; padding may be left out, it is zeros then."""
        return bytes(self.con.build(_with_padding(self.con, values)))


def _unwrap(of: Any) -> Any:
    return of.con if isinstance(of, Schema) else of


def _inner(member: Any) -> Any:
    while isinstance(member, construct.Renamed):
        member = member.subcon
    return member


def _align(member: Any) -> int:
    inner = _inner(member)
    if isinstance(inner, _CStruct):
        return inner.align
    if isinstance(inner, construct.Array):
        return _align(inner.subcon)
    if isinstance(inner, _Flex):
        return _align(inner.element)
    if isinstance(inner, construct.FormatField):
        return int(inner.length)
    if isinstance(inner, _Bits):
        return inner.size
    return 1


def _walk(con: Any, offset: int, prefix: str, depth: int) -> Iterator[Field]:
    for member in con.subcons:
        inner, name, meaning = _inner(member), member.name, str(member.docs)
        size = 0 if isinstance(inner, _Flex) else int(inner.sizeof())
        if isinstance(inner, _Bits):
            yield from _walk_bits(inner, offset, prefix, meaning, depth)
        elif name.startswith("_pad"):
            padding = f"u8[{size}]"
            yield Field(
                prefix + name, offset, size, padding, "compiler padding", depth=depth, padding=True, kind="bytes"
            )
        else:
            kind, names = _kind(inner)
            yield Field(prefix + name, offset, size, _c_type(inner), meaning, depth=depth, kind=kind, bit_names=names)
            if isinstance(inner, _CStruct):
                yield from _walk(inner, offset, f"{prefix}{name}.", depth + 1)
        offset += size


def _walk_bits(inner: _Bits, offset: int, prefix: str, meaning: str, depth: int) -> Iterator[Field]:
    first = 0
    for name, width in inner.members:
        yield Field(prefix + name, offset, inner.size, f"u{8 * inner.size}:{width}", meaning, first, width, depth)
        first += width


def _kind(inner: Any) -> tuple[Kind, Mapping[int, str]]:
    """(meaning of a member, names of its bits)."""
    if isinstance(inner, _CStruct):
        return "struct", {}
    if isinstance(inner, construct.Array | _Flex):
        return _kind(_inner(inner.subcon if isinstance(inner, construct.Array) else inner.element))
    if isinstance(inner, construct.FormatField):
        return getattr(inner, "kind", "number"), getattr(inner, "bit_names", {})
    return ("text" if getattr(inner, "c_text", False) else "bytes"), {}


def _c_type(inner: Any) -> str:
    if isinstance(inner, _CStruct):
        return f"struct {inner.schema_name}"
    if isinstance(inner, construct.Array):
        return f"{_c_type(inner.subcon)}[{inner.count}]"
    if isinstance(inner, _Flex):
        return f"{_c_type(inner.element)}[]"
    if isinstance(inner, construct.FormatField):
        if inner is phys:
            return "phys"
        if inner is boolean:
            return "bool"
        return f"be{8 * inner.length}" if inner.fmtstr[0] == ">" else _C_NAMES[inner.fmtstr[1]]
    return f"char[{inner.sizeof()}]" if getattr(inner, "c_text", False) else f"u8[{inner.sizeof()}]"


def _formats(con: Any) -> Iterator[str]:
    for member in con.subcons:
        inner = _inner(member)
        if isinstance(inner, _CStruct):
            yield from _formats(inner)
        elif isinstance(inner, construct.FormatField):
            yield str(inner.fmtstr[1]).replace("L", "I").replace("l", "i")
        elif isinstance(inner, _Bits):
            yield {1: "B", 2: "H", 4: "I", 8: "Q"}[inner.size]
        elif not isinstance(inner, _Flex):
            yield f"{inner.sizeof()}{'x' if member.name.startswith('_pad') else 's'}"


def _orders(con: Any) -> Iterator[str]:
    for member in con.subcons:
        inner = _inner(member)
        if isinstance(inner, _CStruct):
            yield from _orders(inner)
        elif isinstance(inner, _Bits):
            yield "<"
        elif isinstance(inner, construct.FormatField) and inner.length > 1:
            yield str(inner.fmtstr[0])


def _record_names(con: Any, prefix: str) -> Iterator[str]:
    for member in con.subcons:
        inner = _inner(member)
        if isinstance(inner, _CStruct):
            yield from _record_names(inner, f"{prefix}{member.name}.")
        elif isinstance(inner, _Bits):
            yield prefix + inner.members[0][0]
        elif not isinstance(inner, _Flex) and not member.name.startswith("_pad"):
            yield prefix + member.name


def _with_padding(con: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(values)
    for member in con.subcons:
        inner, name = _inner(member), member.name
        if name.startswith("_pad"):
            made.setdefault(name, bytes(inner.sizeof()))
        elif isinstance(inner, _Bits):
            made[name] = {"_unused": 0, **made[name]}
        elif isinstance(inner, _CStruct):
            made[name] = _with_padding(inner, made[name])
        elif isinstance(inner, construct.Array) and isinstance(inner.subcon, _CStruct):
            made[name] = [_with_padding(inner.subcon, item) for item in made[name]]
    return made
