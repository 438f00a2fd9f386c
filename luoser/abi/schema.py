# SPDX-License-Identifier: MIT
"""C structs as schemas with offsets.

A schema has the layout of a C compiler: `natural` inserts the padding of the x86-64 and arm64 LE ABIs (the same for
all structs here), `packed` inserts no padding. A member is written `"name" / u32 * "meaning"`, as in construct. All
integers are little-endian, except be32 and be64.

Derived from the members: offsets, alignment, the C declaration, for arrays of records the format of
`struct.iter_unpack`, what parses a struct, and the construct object that builds one (`luoser.abi.constructs`).
"""

from __future__ import annotations

import struct as _struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

__all__ = [
    "Array",
    "Bits",
    "CStruct",
    "Field",
    "Flex",
    "Kind",
    "Member",
    "Raw",
    "Scalar",
    "Schema",
    "Type",
    "Values",
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


class Type:
    """Type of a member of a struct; `"name" / TYPE * "meaning"` is a member.

    size:      bytes. 0: a flexible array.
    align:     bytes.
    kind:      meaning of the value, of an array: of its elements.
    bit_names: of kind flags: name by bit value.
    """

    __slots__ = ("align", "bit_names", "kind", "size")

    def __init__(self, size: int, align: int, kind: Kind, bit_names: Mapping[int, str] | None = None) -> None:
        self.size, self.align, self.kind, self.bit_names = size, align, kind, bit_names or {}

    @property
    def c_type(self) -> str:
        """The type as C has it."""
        raise NotImplementedError

    def __rtruediv__(self, name: str) -> Member:
        return Member(name, self)


class Member:
    """A declared member: its name, its type, and what it means, in words."""

    __slots__ = ("meaning", "name", "type")

    def __init__(self, name: str, kind: Type, meaning: str = "") -> None:
        self.name, self.type, self.meaning = name, kind, meaning

    def __mul__(self, meaning: str) -> Member:
        return Member(self.name, self.type, meaning)

    @property
    def is_padding(self) -> bool:
        """Whether it is padding of the compiler."""
        return self.name[:4] == "_pad" and self.name[4:].isdigit()


class Scalar(Type):
    """A number. order: `<` or `>`. code: of the module `struct`. c_type: None: the one of the code."""

    __slots__ = ("_c_type", "code", "order")

    def __init__(
        self,
        code: str,
        *,
        order: str = "<",
        c_type: str = "",
        kind: Kind = "number",
        bit_names: Mapping[int, str] | None = None,
    ) -> None:
        size = _SIZES[code.lower()]
        super().__init__(size, size, kind, bit_names)
        self.order, self.code = order, code
        self._c_type = c_type or (f"be{8 * size}" if order == ">" else f"{'s' if code.islower() else 'u'}{8 * size}")

    @property
    def c_type(self) -> str:
        return self._c_type


class Raw(Type):
    """Bytes without inner structure, or a text."""

    __slots__ = ()

    @property
    def c_type(self) -> str:
        return f"{'char' if self.kind == 'text' else 'u8'}[{self.size}]"


class Array(Type):
    """An array of elements of one type, without padding. count: of elements."""

    __slots__ = ("count", "of")

    def __init__(self, count: int, of: Type) -> None:
        super().__init__(count * of.size, of.align, of.kind, of.bit_names)
        self.count, self.of = count, of

    @property
    def c_type(self) -> str:
        return f"{self.of.c_type}[{self.count}]"


class Flex(Type):
    """A flexible array member: it has no size, but its element has an alignment."""

    __slots__ = ("of",)

    def __init__(self, of: Type) -> None:
        super().__init__(0, of.align, of.kind, of.bit_names)
        self.of = of

    @property
    def c_type(self) -> str:
        return f"{self.of.c_type}[]"


class Bits(Type):
    """Bit-fields of one little-endian container. members: (name, width), from the least significant bit up."""

    __slots__ = ("members",)

    def __init__(self, size: int, members: tuple[tuple[str, int], ...]) -> None:
        super().__init__(size, size, "number")
        self.members = members

    @property
    def c_type(self) -> str:
        return f"u{8 * self.size}"


class CStruct(Type):
    """A struct.

    name:    in C, set by its schema.
    schema:  that has it. None: a struct without a name inside of another one.
    members: with the padding of the compiler, as bytes named _padN.
    """

    __slots__ = ("is_packed", "members", "name", "schema")

    def __init__(self, members: tuple[Member, ...], align: int, *, is_packed: bool) -> None:
        super().__init__(sum(member.type.size for member in members), align, "struct")
        self.members, self.is_packed, self.name = members, is_packed, ""
        self.schema: Schema | None = None

    @property
    def c_type(self) -> str:
        return f"struct {self.name}"


_SIZES = {"b": 1, "h": 2, "i": 4, "q": 8}
u8, u16, u32, u64 = map(Scalar, "BHIQ")
s32, s64 = map(Scalar, "iq")
be32, be64 = Scalar("I", order=">"), Scalar("Q", order=">")
phys = Scalar("Q", c_type="phys", kind="address")
"""A physical address: a u64 of kind address."""
boolean = Scalar("B", c_type="bool")
"""A C bool. Kept as a byte, so that other values than 0 and 1 survive."""


def handle(scalar: Scalar) -> Scalar:
    """A member of kind handle. scalar: its type, such as u64."""
    return Scalar(scalar.code, order=scalar.order, kind="handle")


def token(scalar: Scalar) -> Scalar:
    """A member of kind token. scalar: its type, such as u64."""
    return Scalar(scalar.code, order=scalar.order, kind="token")


def in_bytes(scalar: Scalar) -> Scalar:
    """A member of kind size. scalar: its type, such as u64."""
    return Scalar(scalar.code, order=scalar.order, kind="size")


def flags(scalar: Scalar, names: Mapping[int, str]) -> Scalar:
    """A member of kind flags.

    scalar: its type, such as u32.
    names:  by bit value, such as {1: "DIRTY"}.
    """
    return Scalar(scalar.code, order=scalar.order, kind="flags", bit_names=names)


def set_bits(value: int, names: Mapping[int, str]) -> list[str]:
    """Names of the bits that are set in a number; the unknown bits as one hex number, such as 0x10.

    names: by bit value.
    """
    found = [name for bit, name in names.items() if value & bit]
    unknown = value & ~sum(names)
    return [*found, f"{unknown:#x}"] if unknown else found


def char(size: int) -> Raw:
    """A NUL-padded text, kept as bytes. size: bytes."""
    return Raw(size, 1, "text")


def raw(size: int) -> Raw:
    """Bytes without inner structure: a bitmap, a union, reserved space. size: bytes."""
    return Raw(size, 1, "bytes")


def array(count: int, of: Schema | Type) -> Array:
    """An array.

    count: number of elements.
    of:    schema or scalar of an element.
    """
    return Array(count, _type_of(of))


def flex(of: Schema | Type) -> Flex:
    """The flexible array member at the end of a header. of: schema or scalar of an element."""
    return Flex(_type_of(of))


def bits(size: int, **members: int) -> Bits:
    """Bit-fields in one container, written as an unnamed member: `"_bits" / bits(8, pfn=52, flags=12)`.

    size:    bytes of the container.
    members: width in bits by name, least significant first. They are fields of the enclosing struct.
    """
    return Bits(size, tuple(members.items()))


def natural(*members: Member) -> CStruct:
    """A struct with the padding of a compiler, which is kept as bytes in members _padN (N: offset)."""
    laid_out: list[Member] = []
    offset = 0

    def pad(align: int) -> int:
        if gap := -offset % align:
            laid_out.append(f"_pad{offset}" / raw(gap))
        return gap

    for member in members:
        offset += pad(member.type.align) + member.type.size
        laid_out.append(member)
    align = max((member.type.align for member in members), default=1)
    pad(align)
    return CStruct(tuple(laid_out), align, is_packed=False)


def packed(*members: Member) -> CStruct:
    """A struct that is declared __packed: no padding, alignment 1."""
    return CStruct(members, 1, is_packed=True)


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
    struct:  its members.
    size:    bytes, without a flexible array.
    status:  merged, queued (linux-next), posted or development-branch.
    seen_in: kernel releases, or the series and its date.
    meaning: what the struct is for.
    """

    def __init__(self, name: str, label: str, struct: CStruct, *, status: str, seen_in: str, meaning: str) -> None:
        self.name, self.label, self.struct, self.size = name, label, struct, struct.size
        self.status, self.seen_in, self.meaning = status, seen_in, meaning
        struct.name, struct.schema = name, self

    def __repr__(self) -> str:
        return f"<Schema {self.name} ({self.label}), {self.size} bytes>"

    def __rtruediv__(self, name: str) -> Member:
        """A member of this struct in another one."""
        return Member(name, self.struct)

    @property
    def declaration(self) -> str:
        """`struct NAME`."""
        return f"struct {self.name}"

    @property
    def layout(self) -> str:
        """Packing and byte order, in words."""
        order = "big-endian" if any(field.c_type.startswith("be") for field in self.fields) else "little-endian"
        return f"{'packed' if self.packed else f'natural alignment ({self.align})'}, {order}"

    @property
    def align(self) -> int:
        """Alignment in bytes."""
        return self.struct.align

    @property
    def packed(self) -> bool:
        """Whether it is declared __packed."""
        return self.struct.is_packed

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All members by ascending offset. Those of a nested struct follow the member that holds it."""
        return tuple(_walk(self.struct, 0, "", 0))

    @cached_property
    def body(self) -> int:
        """Offset of what follows the struct: of its flexible array, which can begin in its padding, else its size."""
        return next((field.offset for field in self.fields if not field.size and field.kind != "struct"), self.size)

    def offset(self, name: str) -> int:
        """Offset of a member in bytes. name: as in `field`."""
        return self.field(name).offset

    def field(self, name: str) -> Field:
        """The member of that name, with dots for a nested one. Raises StopIteration if there is no such member."""
        return next(field for field in self.fields if field.name == name)

    @cached_property
    def flags(self) -> Field | None:
        """The member with named bits. None: there is no such member."""
        return next((field for field in self.fields if field.kind == "flags"), None)

    @cached_property
    def record(self) -> _struct.Struct:
        """The struct as a format of the module `struct`; its values are those of `record_fields`.

        A container of bit-fields is one integer, padding is skipped, nested structs are flattened.
        """
        order = ">" if set(_orders(self.struct)) == {">"} else "<"
        return _struct.Struct(order + "".join(_formats(self.struct)))

    @cached_property
    def record_fields(self) -> tuple[str, ...]:
        """Names of the values of `record`, with dots for nested ones. A container has that of its first bit-field."""
        return tuple(_record_names(self.struct, ""))

    def values(self, data: bytes | memoryview) -> dict[str, Any]:
        """The values of `record` by name. data: at least `size` bytes; more are ignored."""
        return dict(zip(self.record_fields, self.record.unpack_from(data), strict=True))

    @cached_property
    def _construct(self) -> Any:
        from luoser.abi.constructs import construct_of  # late: only what builds a struct needs construct

        return construct_of(self.struct)

    def parse(self, data: bytes | memoryview) -> Values:
        """The members, padding included. data: at least `size` bytes, else struct.error; more are ignored."""
        return _parsed(self.struct, data)

    def build(self, values: Mapping[str, Any]) -> bytes:
        """The bytes of the struct. values: as `parse` returns them; padding may be left out, it is zeros then."""
        return bytes(self._construct.build(_with_padding(self.struct, values)))


class Values(dict[str, Any]):
    """The members of a struct by name, which are attributes, too. A nested struct is such an object again."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _parsed(struct: CStruct, data: bytes | memoryview) -> Values:
    form, names, others = _plan(struct)
    made = Values(zip(names, form.unpack_from(data), strict=True))
    for name, own in others:
        made[name] = _parsed_bytes(own, made[name])
    return made


@cache
def _plan(struct: CStruct) -> tuple[_struct.Struct, tuple[str, ...], tuple[tuple[str, Type], ...]]:
    """(format, names of its values, members whose value it gives as bytes that have to be parsed)."""
    codes, others = "<", list[tuple[str, Type]]()
    for member in struct.members:
        own = member.type
        if isinstance(own, Scalar) and own.order == "<":
            codes += own.code
            continue
        codes += f"{own.size}s"
        if not isinstance(own, Raw):
            others.append((member.name, own))
    return _struct.Struct(codes), tuple(member.name for member in struct.members), tuple(others)


def _parsed_bytes(own: Type, raw: bytes) -> Any:
    if isinstance(own, CStruct):
        return _parsed(own, raw)
    if isinstance(own, Scalar):
        return int.from_bytes(raw, "little" if own.order == "<" else "big", signed=own.code.islower())
    if isinstance(own, Array):
        return [_parsed_bytes(own.of, raw[at : at + own.of.size]) for at in range(0, own.size, own.of.size)]
    if isinstance(own, Bits):
        left, made = int.from_bytes(raw, "little"), Values()
        for name, width in own.members:
            made[name], left = left & (1 << width) - 1, left >> width
        return made if sum(width for _, width in own.members) == 8 * own.size else Values(made, _unused=left)
    return None if isinstance(own, Flex) else raw


def _type_of(of: Schema | Type) -> Type:
    return of.struct if isinstance(of, Schema) else of


def _walk(struct: CStruct, offset: int, prefix: str, depth: int) -> Iterator[Field]:
    is_open = False
    for member in struct.members:
        own, name = member.type, prefix + member.name
        if isinstance(own, Bits):
            yield from _walk_bits(own, offset, prefix, member.meaning, depth)
        elif member.is_padding and is_open:
            pass  # the flexible array before it begins there
        elif member.is_padding:
            yield Field(name, offset, own.size, own.c_type, "compiler padding", depth=depth, padding=True, kind="bytes")
        else:
            place = name, offset, own.size, own.c_type, member.meaning
            yield Field(*place, depth=depth, kind=own.kind, bit_names=own.bit_names)
            if isinstance(own, CStruct):
                yield from _walk(own, offset, f"{name}.", depth + 1)
        is_open = isinstance(own, Flex)
        offset += own.size


def _walk_bits(own: Bits, offset: int, prefix: str, meaning: str, depth: int) -> Iterator[Field]:
    first = 0
    for name, width in own.members:
        yield Field(prefix + name, offset, own.size, f"{own.c_type}:{width}", meaning, first, width, depth)
        first += width


def _formats(struct: CStruct) -> Iterator[str]:
    for member in struct.members:
        own = member.type
        if isinstance(own, CStruct):
            yield from _formats(own)
        elif isinstance(own, Scalar):
            yield own.code
        elif isinstance(own, Bits):
            yield {1: "B", 2: "H", 4: "I", 8: "Q"}[own.size]
        elif not isinstance(own, Flex):
            yield f"{own.size}{'x' if member.is_padding else 's'}"


def _orders(struct: CStruct) -> Iterator[str]:
    for member in struct.members:
        own = member.type
        if isinstance(own, CStruct):
            yield from _orders(own)
        elif isinstance(own, Bits):
            yield "<"
        elif isinstance(own, Scalar) and own.size > 1:
            yield own.order


def _record_names(struct: CStruct, prefix: str) -> Iterator[str]:
    for member in struct.members:
        own = member.type
        if isinstance(own, CStruct):
            yield from _record_names(own, f"{prefix}{member.name}.")
        elif isinstance(own, Bits):
            yield prefix + own.members[0][0]
        elif not isinstance(own, Flex) and not member.is_padding:
            yield prefix + member.name


def _with_padding(struct: CStruct, values: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(values)
    for member in struct.members:
        own, name = member.type, member.name
        if member.is_padding:
            made.setdefault(name, bytes(own.size))
        elif isinstance(own, Bits):
            made[name] = {"_unused": 0, **made[name]}
        elif isinstance(own, CStruct):
            made[name] = _with_padding(own, made[name])
        elif isinstance(own, Array) and isinstance(own.of, CStruct):
            made[name] = [_with_padding(own.of, item) for item in made[name]]
    return made
