# SPDX-License-Identifier: MIT
"""Objects of a kernel: memory with a type. Members are found by their names; no offset is written down here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luoser.bits import is_zero
from luoser.kernel.space import AddressSpace, Unmapped
from luoser.kernel.types import Kind, Place, Types, TypesError, described

__all__ = ["BrokenList", "NoMember", "Object", "TooManyItems", "list_items"]

_MOST_BYTES = 1 << 20
"""Bytes of one object that are read."""


class NoMember(Exception):
    """A struct without a member of this name: of another release, or another kind of object."""


class BrokenList(Exception):
    """A list whose links contradict each other, or that does not end."""


class TooManyItems(Exception):
    """A list with more items than may be read."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object in a kernel's memory.

    space:   the kernel's virtual memory.
    types:   of the kernel.
    address: virtual.
    type:    number of its type.
    """

    space: AddressSpace
    types: Types
    address: int
    type: int

    @property
    def physical(self) -> int:
        """Its physical address. Raises Unmapped, MissingMemory."""
        return self.space.physical(self.address)

    def place(self, path: str) -> Place:
        """Where a member is. Raises NoMember."""
        found = self.types.find(self.type, path)
        if found is None:
            raise NoMember(f"struct {self.types.head(self.type).name or '{…}'} has no {path}")
        return found

    def has(self, path: str) -> bool:
        """Whether the type has such a member."""
        return self.types.find(self.type, path) is not None

    def member(self, path: str) -> Object:
        """A member, such as `outgoing.list`. Raises NoMember."""
        place = self.place(path)
        return Object(self.space, self.types, self.address + place.offset, place.type)

    def raw(self) -> bytes:
        """Its bytes, which are not kept. Raises Unmapped, MissingMemory, TypesError."""
        size = self.types.size(self.type)
        if size > _MOST_BYTES:
            raise TypesError(f"{self.types.where}: {size} bytes of one object")
        return self.space.read(self.address, size)

    def number(self, path: str) -> int:
        """A member that is a number, a pointer or a bit-field. Raises as `place` and `raw`."""
        place = self.place(path)
        kind = self.types.head(self.types.plain(place.type))
        if place.bits:
            size = (place.bit % 8 + place.bits + 7) // 8
            word = self.space.number(self.address + place.offset, size)
            return word >> place.bit % 8 & (1 << place.bits) - 1
        size = min(self.types.size(place.type), 8)
        if not size:  # a function, or what is only declared
            raise TypesError(f"{self.types.where}: damaged: {path} is of type {described(self.types, place.type)}")
        value = self.space.number(self.address + place.offset, size)
        return value - (1 << 8 * size) if kind.signed and 2 * value >> 8 * size else value

    def text(self, path: str, most: int = 256, *, is_name: bool = False) -> bytes:
        """The bytes of a text up to its NUL: an array of char, or what a pointer leads to. Raises as `number`.

        is_name: a user chose it.
        """
        member = self.member(path)
        kind = self.types.head(self.types.plain(member.type)).kind
        if kind is Kind.ARRAY:
            start, whole = member.address, member.raw()
            found = whole.split(b"\0")[0]
            room = len(whole) if is_zero(whole[len(found) :]) else len(found) + 1
        else:
            start, found = self.number(path), b""
            while start and len(found) < most and b"\0" not in found:
                found += self.space.read(start + len(found), min(64, -(start + len(found)) % 64 or 64))
            found = found[:most].split(b"\0")[0]
            room = len(found) + 1 if start else 0
        self.space.keep(start, room, is_name=is_name)
        return found

    def follow(self, path: str, struct: str | None = None) -> Object | None:
        """What a pointer leads to. None: the pointer is 0.

        struct: name of its type. None: that of the pointer.

        Raises as `number`, NoMember also if the type is not known.
        """
        address, place = self.number(path), self.place(path)
        target = self.types.head(self.types.plain(place.type)).target
        number = self.types.struct(struct) if struct is not None else self._whole(target)
        if number is None:
            raise NoMember(f"the type that {path} points to is not known")
        return Object(self.space, self.types, address, number) if address else None

    def _whole(self, target: int) -> int | None:
        """The struct of a pointer; of its name if the pointer has only a declaration."""
        found = self.types.head(self.types.plain(target)) if target else None
        if found is None or found.kind in (Kind.STRUCT, Kind.UNION):
            return target or None
        return self.types.struct(found.name)

    def of(self, struct: str, path: str) -> Object:
        """The object that this one is a member of, as container_of does it. Raises NoMember."""
        number = self.types.struct(struct)
        place = self.types.find(number, path) if number is not None else None
        if number is None or place is None:
            raise NoMember(f"no struct {struct} with {path}")
        return Object(self.space, self.types, self.address - place.offset, number)


def list_items(head: Object, struct: str, link: str, most: int) -> Iterator[Object]:
    """The items of a list.

    head:   struct list_head.
    struct: name of the items' struct.
    link:   path of the list_head in it.
    most:   items that are read.

    Raises BrokenList after the last item that is sound, TooManyItems after `most`; NoMember, Unmapped, MissingMemory.
    """
    entry = Object(head.space, head.types, head.number("next"), head.type)
    before, count = head.address, 0
    while entry.address != head.address:
        where = f"list of {struct} at {head.address:#x}"
        try:
            back = entry.number("prev")
        except Unmapped as error:
            raise BrokenList(f"{where}: item {count} at {entry.address:#x}: {error}") from None
        if back != before:
            raise BrokenList(f"{where}: prev of item {count} is {back:#x}, expected {before:#x}")
        if count >= most:
            raise TooManyItems(f"{where}: only the first {most} items were read")
        yield entry.of(struct, link)
        count += 1
        before, entry = entry.address, Object(head.space, head.types, entry.number("next"), head.type)
    if (last := head.number("prev")) != before:
        raise BrokenList(f"list of {struct} at {head.address:#x}: prev of its head is {last:#x}, expected {before:#x}")
