# SPDX-License-Identifier: MIT
"""The registry's structs against those that a kernel has: the same, moved, grown, renamed, gone."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from luoser.abi.c_struct import Member, Struct, structure
from luoser.abi.registry import Layout, layouts
from luoser.abi.schema import Schema
from luoser.budget import Budget
from luoser.kernel.types import Kind, Place, Types, described, members_budget, need_members

__all__ = ["Difference", "KernelMember", "Verified", "changed", "differences", "verify", "verify_layout"]

_WIRE = re.compile(r"_ser$|_ser_|^khoser_|^kho_")
"""Names of structs that are written into preserved memory, or may be."""
_HANDOVER = re.compile(rf"{_WIRE.pattern}|luo|^liveupdate_")
"""Names of all structs of the registry that are made for KHO, LUO or their users."""
_DEEPEST = 4
_PAGE, _LARGER = 4096, (16384, 65536)
"""Bytes of a page, as the registry has structs that fill one, and of others that arm64 has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the registry and the kernel.

    what:   `moved`, `size`, `type` (another kind of value, or other elements), `renamed`, `gone` or `new`.
    member: its path; empty for the struct itself.
    ours:   offset, size or name in the registry, in words. Empty: `new`.
    theirs: in the kernel. Empty: `gone`.
    """

    what: Literal["moved", "size", "type", "renamed", "gone", "new"]
    member: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMember:
    """A member of a kernel's struct: path, C type, offset and size in bytes; bits of a bit-field, else 0.

    kind: what its value is, or each of an array: kind of the type, and bytes.
    """

    name: str
    c_type: str
    offset: int
    size: int
    bits: int = 0
    kind: tuple[Kind, int] = (Kind.OTHER, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a kernel has of one struct.

    name:        of the struct in C.
    result:      `equal`; `different`: no layout of the registry has this form; `absent`: the kernel has no such struct;
                 `unknown`: the registry has none of this name.
    layouts:     names of the layouts with this form; of `different` the nearest ones, of `absent` all.
    status:      of the layout in the registry, such as merged. Empty: unknown.
    differences: to the nearest layout.
    size:        of the kernel's struct in bytes, 0 if absent.
    members:     of the kernel's struct, if it is different or unknown.
    """

    name: str
    result: Literal["equal", "different", "absent", "unknown"]
    layouts: tuple[str, ...] = ()
    status: str = ""
    differences: tuple[Difference, ...] = ()
    size: int = 0
    members: tuple[KernelMember, ...] = ()

    @property
    def is_of_handover(self) -> bool:
        """Whether only kernels with KHO or LUO have it. Each of x86-64 has setup_data, many have a devicetree."""
        return _HANDOVER.search(self.name) is not None


def verify(types: Types) -> list[Verified]:
    """Every struct of the registry, then those of the kernel that look like it and are not in there.

    types: of the kernel.

    Raises TypesError if types cannot be read.
    """
    named: dict[str, list[Schema]] = {}
    owners: dict[int, list[str]] = {}
    for layout in layouts():
        for schema in layout.schemas:
            owners.setdefault(id(schema), []).append(layout.name)
            if schema not in named.setdefault(structure(schema).tag, []):
                named[structure(schema).tag].append(schema)
    budget = members_budget()
    found = [_verified(types, name, forms, owners, budget) for name, forms in named.items()]
    return [*found, *_unknown(types, named.keys(), budget)]


def verify_layout(types: Types, layout: Layout) -> list[Verified]:
    """The structs of one layout against those of a kernel of the same names.

    types:  of the kernel.
    layout: of the registry.

    Raises TypesError if types cannot be read.
    """
    owners = {id(schema): [layout.name] for schema in layout.schemas}
    budget = members_budget()
    return [_verified(types, structure(schema).tag, [schema], owners, budget) for schema in layout.schemas]


def _verified(types: Types, name: str, forms: list[Schema], owners: dict[int, list[str]], budget: Budget) -> Verified:
    def names(schemas: list[Schema]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(owner for schema in schemas for owner in owners[id(schema)]))

    best: tuple[int, list[Schema], list[Difference], int] | None = None
    for number in types.named(name):
        compared = [(form, list(differences(types, number, structure(form), budget))) for form in forms]
        least = min(len(changes) for _, changes in compared)
        nearest = [form for form, changes in compared if len(changes) == least]
        if best is None or least < best[0]:
            best = least, nearest, next(changes for form, changes in compared if form is nearest[0]), number
    if best is None:
        return Verified(name=name, result="absent", layouts=names(forms), status=_status(forms))
    count, nearest, changes, number = best
    return Verified(
        name=name,
        result="different" if count else "equal",
        layouts=names(nearest),
        status=_status(nearest),
        differences=tuple(changes),
        size=types.size(number),
        members=tuple(kernel_members(types, number, budget)) if count else (),
    )


def _status(schemas: list[Schema]) -> str:
    return "merged" if any(schema.status == "merged" for schema in schemas) else schemas[0].status


def differences(
    types: Types, number: int, ours: Struct, budget: Budget, path: str = "", deep: int = _DEEPEST
) -> Iterator[Difference]:
    """What differs between a struct of the registry and that of a kernel, inner structs included. Raises TypesError.

    types:  of the kernel. number: of its struct.
    ours:   of the registry.
    budget: of members to look at.
    path:   of the member that is the struct. Empty: it is none.
    deep:   levels of inner structs that are compared.
    """
    theirs = dict(_members(types, number, budget))
    ours = _of_page(ours, types.size(number))
    unnamed = {name: place for name, place in theirs.items() if name not in {member.name for member in ours.members}}
    if types.size(number) != ours.size:
        yield Difference(what="size", member=path, ours=f"{ours.size}", theirs=f"{types.size(number)}")
    for member in ours.members:
        where, place = f"{path}{'.' if path else ''}{member.name}", theirs.get(member.name)
        if place is None:
            other = next((name for name, there in unnamed.items() if _span(types, there) == _our_span(member)), None)
            if other is not None:
                unnamed.pop(other)
                yield Difference(what="renamed", member=where, ours=member.name, theirs=other)
            else:
                yield Difference(what="gone", member=where, ours=f"at {member.offset}", theirs="")
        else:
            yield from _member_differences(types, place, member, budget, where, deep)
    for name, place in unnamed.items():
        start, size = _span(types, place)
        shared = [
            (our, length) for our, length in map(_our_span, ours.members) if start < our + length and our < start + size
        ]
        if shared and all(start <= our and our + length <= start + size for our, length in shared):
            continue  # a member of a union that holds known ones
        where = f"{path}{'.' if path else ''}{name}"
        yield Difference(what="new", member=where, ours="", theirs=f"{described(types, place.type)} at {place.offset}")


def _members(types: Types, number: int, budget: Budget) -> Iterator[tuple[str, Place]]:
    """The members of a struct, each taken from the budget, and one more: also a struct without any is work."""
    need_members(budget, types)
    for name, place in types.members(number):
        need_members(budget, types)
        yield name, place


def _of_page(ours: Struct, size: int) -> Struct:
    """A struct that fills a page, with its last array as long as a kernel with larger pages has it."""
    last = ours.members[-1] if ours.members else None
    if ours.size != _PAGE or size not in _LARGER or last is None or last.offset + last.total != _PAGE or not last.count:
        return ours
    longer = replace(last, count=(size - last.offset) // last.size)
    return replace(ours, size=size, members=(*ours.members[:-1], longer))


def _member_differences(
    types: Types, place: Place, member: Member, budget: Budget, where: str, deep: int
) -> Iterator[Difference]:
    start, size = _span(types, place)
    our_start, our_size = _our_span(member)
    if start != our_start:
        yield Difference(what="moved", member=where, ours=_bits(our_start), theirs=_bits(start))
    if size != our_size:
        yield Difference(what="size", member=where, ours=_bits(our_size), theirs=_bits(size))
    elif not _is_alike(types, place, member):
        yield Difference(what="type", member=where, ours=_our_type(member), theirs=described(types, place.type))
    inner = types.plain(place.type) if place.type else 0
    if inner and types.head(inner).kind is Kind.ARRAY:
        inner = types.plain(types.head(inner).target)
    if deep and member.struct is not None and types.head(inner).kind is Kind.STRUCT:
        yield from differences(types, inner, member.struct, budget, where, deep - 1)


def _is_alike(types: Types, place: Place, member: Member) -> bool:
    """Whether a member of the same size has the same kind of value: numbers, texts, or a struct; of an array each."""
    number, depth = types.plain(place.type) if place.type else 0, _DEEPEST
    while depth and types.head(number).kind is Kind.ARRAY:
        number, depth = types.plain(types.head(number).target), depth - 1
    found = types.head(number)
    if place.bits or member.width:
        return bool(place.bits and member.width)
    if found.kind is Kind.UNION:  # an address beside the pointer that it was
        return types.size(number) == member.size or member.struct is not None
    if member.struct is not None:
        return found.kind is Kind.STRUCT
    if member.is_bytes:  # bitmaps are words in the kernel
        return found.kind is Kind.INTEGER and (found.size == 1 or member.c_type == "u8")
    return found.kind in (Kind.INTEGER, Kind.ENUM) and found.size == member.size


def _our_type(member: Member) -> str:
    name = f"struct {member.struct.tag}" if member.struct is not None else member.c_type
    return name if member.count is None else f"{name}[{member.count}]"


def _span(types: Types, place: Place) -> tuple[int, int]:
    """(offset, size) of a kernel's member in bits."""
    return place.bit, place.bits or 8 * types.size(place.type)


def _our_span(member: Member) -> tuple[int, int]:
    return 8 * member.offset + (member.first_bit or 0), member.width or 8 * member.total


def _bits(count: int) -> str:
    return f"{count // 8}" if count % 8 == 0 else f"{count // 8}, bit {count % 8}"


def kernel_members(types: Types, number: int, budget: Budget | None = None) -> Iterator[KernelMember]:
    """The members of a kernel's struct, those of inner structs after the one that holds them: of an array the first.

    budget: of members to look at. None: one for these alone.

    Raises TypesError.
    """
    yield from _members_of(types, number, budget or members_budget(), "", 0, _DEEPEST)


def _members_of(types: Types, number: int, budget: Budget, path: str, base: int, deep: int) -> Iterator[KernelMember]:
    for name, place in _members(types, number, budget):
        where = f"{path}{'.' if path else ''}{name}"
        size, inner = types.size(place.type) if place.type else 0, _element(types, place.type)
        yield KernelMember(
            name=where,
            c_type=described(types, place.type),
            offset=base + place.offset,
            size=size,
            bits=place.bits,
            kind=_value_kind(types, inner),
        )
        if deep and inner and types.head(inner).kind is Kind.STRUCT:
            where += "[]" if inner != types.plain(place.type) else ""
            yield from _members_of(types, inner, budget, where, base + place.offset, deep - 1)


def _value_kind(types: Types, number: int) -> tuple[Kind, int]:
    """An enum is a number."""
    found = types.head(number)
    return Kind.INTEGER if found.kind is Kind.ENUM else found.kind, types.size(number) if number else 0


def _element(types: Types, number: int) -> int:
    """Number of a type, of an array that of its elements, without typedefs. 0: void. Raises TypesError."""
    for _ in range(_DEEPEST):
        number = types.plain(number) if number else 0
        if types.head(number).kind is not Kind.ARRAY:
            break
        number = types.head(number).target
    return number


def _unknown(types: Types, known: Container[str], budget: Budget) -> Iterator[Verified]:
    seen, plain = set[str](), dict[int, bool]()
    for number, name in types.structs():
        if (
            name
            and name not in seen
            and name not in known
            and _WIRE.search(name)
            and _is_wire(types, number, plain, budget)
        ):
            seen.add(name)
            members = tuple(kernel_members(types, number, budget))
            yield Verified(name=name, result="unknown", size=types.size(number), members=members)


def _is_wire(types: Types, number: int, plain: dict[int, bool], budget: Budget) -> bool:
    """Whether a struct can be read by another kernel: plain numbers, no pointers. plain: types that were asked for."""
    members = list(_members(types, number, budget))
    return bool(members) and all(_is_plain(types, place.type, plain, budget, _DEEPEST) for _, place in members)


def _is_plain(types: Types, number: int, plain: dict[int, bool], budget: Budget, deep: int) -> bool:
    number = types.plain(number) if number else 0
    if number not in plain:
        plain[number] = False  # what contains itself is not plain
        plain[number] = bool(number and deep) and _is_plain_type(types, number, plain, budget, deep)
    return plain[number]


def _is_plain_type(types: Types, number: int, plain: dict[int, bool], budget: Budget, deep: int) -> bool:
    found = types.head(number)
    if found.kind is Kind.ARRAY:
        return _is_plain(types, found.target, plain, budget, deep - 1)
    if found.kind in (Kind.STRUCT, Kind.UNION):  # of a union one is enough: an address beside the pointer that it was
        enough, members = all if found.kind is Kind.STRUCT else any, _members(types, number, budget)
        return enough(_is_plain(types, place.type, plain, budget, deep - 1) for _, place in members)
    return found.kind in (Kind.INTEGER, Kind.ENUM)


def changed(before: Types, after: Types) -> Iterator[tuple[str, str | None]]:
    """(name, first difference in words) of structs that two kernels write and read, and that are not the same in both.

    before: types of the first kernel.
    after:  types of the second one.

    None in place of the difference: the second kernel has no such struct. Raises TypesError if types cannot be read.
    """
    tags = {structure(schema).tag for layout in layouts() for schema in layout.schemas}
    plain, budget = dict[int, bool](), members_budget()
    names = [name for _, name in before.structs() if name in tags or (name and _WIRE.search(name))]
    for name in dict.fromkeys(names):
        one, other = before.struct(name), after.struct(name)
        if one is None or not (name in tags or _is_wire(before, one, plain, budget)):
            continue
        if other is None:
            if _WIRE.search(name):  # others, such as those of ioctls, are not handed over
                yield name, None
            continue
        sides = ((before, one), (after, other))
        ours, theirs = ([*kernel_members(types, number, budget)] for types, number in sides)
        if (word := _first_change(ours, theirs)) is not None:
            yield name, word
        elif before.size(one) != after.size(other):
            yield name, f"{before.size(one)} bytes become {after.size(other)}"


def _first_change(before: list[KernelMember], after: list[KernelMember]) -> str | None:
    there = {member.name: member for member in after}
    for member in before:
        now = there.get(member.name)
        if now is None:
            return f"{member.name} is gone"
        if (member.offset, member.size, member.bits) != (now.offset, now.size, now.bits):
            return f"{member.name} of {member.size} bytes at {member.offset} is now of {now.size} at {now.offset}"
        if member.kind != now.kind:
            return f"{member.name}, {member.c_type}, is now {now.c_type}"
    new = there.keys() - {member.name for member in before}
    return f"{min(new)} is new" if new else None
