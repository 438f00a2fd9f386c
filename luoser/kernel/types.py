# SPDX-License-Identifier: MIT
"""Types of a kernel: structs by name, with their members. Made from BTF or DWARF."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from luoser.budget import Budget
from luoser.limits import LIMITS, how_to_raise

__all__ = [
    "FUNCTION",
    "Kind",
    "Member",
    "Place",
    "TooManyMembersError",
    "Type",
    "Types",
    "TypesError",
    "described",
    "members_budget",
    "need_members",
]

FUNCTION = "function"
"""How a type without a name that is neither struct nor number is shown: only pointers to functions have such."""
_DEEPEST = 16
"""Levels of anonymous structs that a member may be in, and of arrays in arrays."""
_CHAIN = 64
"""Typedefs and qualifiers before a type."""
_ANONYMOUS = 1 << 17
"""Members inside of anonymous structs that are visited in all: each level of them may double their number."""
_REMEMBERED = 1 << 12


class TypesError(Exception):
    """Types that cannot be read. Its text says why."""


class TooManyMembersError(TypesError):
    """Types of which not all was looked at. Its text says which limit was met."""


def members_budget(more: Callable[[], int] = lambda: 0) -> Budget:
    """How many members of structs may be looked at, or read. more: in addition to LIMITS.compared_members."""
    return Budget(LIMITS.compared_members, more)


def need_members(budget: Budget, types: Types, count: int = 1) -> None:
    """Take members from a budget. Raises TooManyMembersError if it has not so many left."""
    if budget.take(count) < count:
        text = f"{types.where}: more than {LIMITS.compared_members} members of structs to look at"
        raise TooManyMembersError(f"{text}; {how_to_raise('compared_members')}")


class Kind(StrEnum):
    """Kind of a type, as far as it matters for reading memory."""

    INTEGER = "integer"
    POINTER = "pointer"
    ARRAY = "array"
    STRUCT = "struct"
    UNION = "union"
    ENUM = "enum"
    ALIAS = "alias"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union.

    name: empty for an anonymous struct or union.
    type: number of its type.
    bit:  its offset in bits.
    bits: its size if it is a bit-field, else 0.
    """

    name: str
    type: int
    bit: int
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """A type.

    kind:    see Kind.
    name:    empty for an anonymous one.
    size:    in bytes: of a struct, union, integer or enum.
    target:  number of the type that an alias or a pointer stands for, or of the elements of an array. 0 is void.
    count:   of elements of an array.
    signed:  of an integer or enum.
    members: of a struct or union.
    word:    of the C declaration: `const`, `typedef`, `enum`, ...
    """

    kind: Kind
    name: str
    size: int = 0
    target: int = 0
    count: int = 0
    signed: bool = False
    members: tuple[Member, ...] = ()
    word: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member is in a struct, found by its path.

    bit:  offset in bits.
    bits: size of a bit-field, else 0.
    type: number of its type.
    """

    bit: int
    bits: int
    type: int

    @property
    def offset(self) -> int:
        """Offset in bytes."""
        return self.bit // 8


class Types(ABC):
    """The types of one kernel, by number."""

    def __init__(self, where: str) -> None:
        """where: they are from, in words."""
        self.where = where
        self._found: dict[tuple[int, str], Place | None] = {}
        self._plain: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._alignments: dict[int, int] = {}
        self._left = _ANONYMOUS

    @abstractmethod
    def type(self, number: int) -> Type:
        """The type of a number. Raises TypesError if there is none, or it cannot be read."""

    def head(self, number: int) -> Type:
        """As `type`, but a struct may have no members: enough for its kind, name and size, and cheap."""
        return self.type(number)

    @abstractmethod
    def named(self, name: str) -> list[int]:
        """Numbers of the structs and unions of a name, complete ones only."""

    @abstractmethod
    def structs(self) -> Iterator[tuple[int, str]]:
        """(number, name) of all structs and unions, anonymous ones included."""

    def struct(self, name: str) -> int | None:
        """Number of the struct of a name; of the first one if several have it. None: there is none."""
        return next(iter(self.named(name)), None)

    def plain(self, number: int) -> int:
        """The number of a type without typedefs and qualifiers. Raises TypesError for a chain that does not end."""
        aliases = list[int]()
        while number not in self._plain:
            found = self.head(number)
            if found.kind is not Kind.ALIAS:
                self._plain[number] = number
                break
            if len(aliases) >= _CHAIN:
                raise TypesError(f"{self.where}: typedefs without an end at type {number}")
            aliases.append(number)
            number = found.target
        for alias in aliases:
            self._plain[alias] = self._plain[number]
        return self._plain[number]

    def size(self, number: int) -> int:
        """Bytes of a type. Raises TypesError."""
        number, arrays = self.plain(number), list[tuple[int, int]]()
        while number not in self._sizes:
            found = self.head(number)
            if found.kind is not Kind.ARRAY:
                self._sizes[number] = 8 if found.kind is Kind.POINTER else found.size
                break
            if len(arrays) >= _DEEPEST:
                raise TypesError(f"{self.where}: arrays in arrays without an end at type {number}")
            arrays.append((number, found.count))
            number = self.plain(found.target)
        size = self._sizes[number]
        for array, count in reversed(arrays):
            size *= count
            self._sizes[array] = size
        return size

    def members(self, number: int) -> Iterator[tuple[str, Place]]:
        """(name, place) of all members, those of anonymous structs and unions included, in their order.

        Raises TypesError, also for anonymous structs that contain themselves.
        """
        yield from self._flattened(number, 0, _DEEPEST)

    def _flattened(self, number: int, base: int, deep: int) -> Iterator[tuple[str, Place]]:
        for member in self.type(self.plain(number)).members:
            if deep < _DEEPEST:
                self._left -= 1
            if self._left < 0 or (not deep and not member.name):
                raise TypesError(f"{self.where}: anonymous structs without an end in type {number}")
            if member.name:
                yield member.name, Place(base + member.bit, member.bits, member.type)
            else:
                yield from self._flattened(member.type, base + member.bit, deep - 1)

    def need_sound(self, number: int, budget: Budget) -> None:
        """Raise TypesError if members of a struct overlap, or leave it; anonymous ones inside of it included.

        budget: of members to look at.
        """
        todo = [self.plain(number)]
        seen = set(todo)
        while todo:
            found, end = self.type(todo.pop()), 0
            need_members(budget, self, len(found.members))
            for member in sorted(found.members, key=lambda member: member.bit):
                last = member.bit + (member.bits or 8 * self.size(member.type))
                if last > 8 * found.size or (found.kind is Kind.STRUCT and member.bit < end):
                    name = f"{found.name or '{…}'}.{member.name or '{…}'}"
                    raise TypesError(
                        f"{self.where}: damaged: struct {name} overlaps another member, or leaves the struct"
                    )
                end = max(end, last)
                if not member.name and (inner := self.plain(member.type)) not in seen:
                    seen.add(inner)
                    todo.append(inner)

    def is_dense(self, number: int) -> bool:
        """Whether members are where a compiler puts them: no hole is as large as the alignment of what is after it.

        Inner anonymous structs are not looked at. A bit in an offset or a size makes a hole, if it makes no overlap.
        Raises TypesError.
        """
        found, end, widest = self.type(self.plain(number)), 0, 1
        has_hole = is_packed = False
        for member in sorted(found.members, key=lambda member: member.bit):
            alignment, hole = self.alignment(member.type), max(0, member.bit - end)
            if hole >= 8 * alignment or (member.bit % 8 and not member.bits):
                return False
            has_hole |= hole > 0
            is_packed |= member.bit % (8 * alignment) > 0 and not member.bits
            end = max(end, member.bit + (member.bits or 8 * self.size(member.type)))
            widest = max(widest, alignment)
        rest = 8 * found.size - end
        is_packed |= found.size % widest > 0
        return 0 <= rest < 8 * widest and not (is_packed and (has_hole or rest))

    def alignment(self, number: int) -> int:
        """Bytes to which a type is aligned, attributes apart. Raises TypesError."""
        return self._alignment(number, _CHAIN)

    def _alignment(self, number: int, deep: int) -> int:
        number = self.plain(number)
        if not deep:
            raise TypesError(f"{self.where}: structs in structs without an end at type {number}")
        if number not in self._alignments:
            self._alignments[number] = 1  # of what contains itself
            found, inner = self.type(number), list[int]()
            if found.kind is Kind.ARRAY:
                inner = [found.target]
            elif found.kind in (Kind.STRUCT, Kind.UNION):
                inner = [member.type for member in found.members]
            own = 8 if found.kind is Kind.POINTER else 1 if inner or not found.size else min(found.size, 16)
            self._alignments[number] = max(own, *(self._alignment(each, deep - 1) for each in inner), 1)
        return self._alignments[number]

    def find(self, number: int, path: str) -> Place | None:
        """The place of a member, such as `outgoing.list`. None: the struct has none of this name. Raises TypesError."""
        key = number, path
        if key not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = self._find(number, path)
        return self._found[key]

    def _find(self, number: int, path: str) -> Place | None:
        bit, bits = 0, 0
        for name in path.split("."):
            found = next((place for member, place in self.members(number) if member == name), None)
            if found is None:
                return None
            bit, bits, number = bit + found.bit, found.bits, found.type
        return Place(bit, bits, number)


def described(types: Types, number: int) -> str:
    """A type as C has it, such as `struct list_head *`, `char[64]`."""
    inner = ""
    for _ in range(_CHAIN):
        if not number:
            return _declared("void", inner)
        found = types.head(number)
        if found.kind is Kind.POINTER:
            inner, number = "*" + inner, found.target
        elif found.kind is Kind.ARRAY:
            inner, number = f"({inner})" if inner.startswith("*") else inner, found.target
            inner += f"[{found.count}]"
        elif found.kind is Kind.ALIAS and not found.name:
            number = found.target
        else:
            word = f"{found.word} " if found.word in ("struct", "union", "enum") else ""
            name = found.name or ("{…}" if word else FUNCTION)
            return _declared(word + name, inner)
    return "?"


def _declared(name: str, inner: str) -> str:
    return f"{name}{'' if inner.startswith('[') or not inner else ' '}{inner}"
