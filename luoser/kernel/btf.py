# SPDX-License-Identifier: MIT
"""BTF: the types of a kernel as the kernel itself carries them.

The whole blob is walked once, without making types: places and names are noted. A type is made when it is asked for.

Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h of 7.3.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from luoser.kernel.types import Kind, Member, TooManyMembersError, Type, Types, TypesError
from luoser.limits import LIMITS, how_to_raise

__all__ = ["MAGIC", "Btf"]

MAGIC = 0xEB9F
_HEAD = struct.Struct("<HBBIIIII")
_LAYOUTS = struct.Struct("<II")
_TYPE = struct.Struct("<III")
_INFO = struct.Struct("<I")
_MEMBER = struct.Struct("<III")
_KINDS = (
    *("void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile", "const", "restrict"),
    *("func", "func_proto", "var", "datasec", "float", "decl_tag", "type_tag", "enum64"),
)
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _ENUM64 = 1, 3, 4, 5, 6, 7, 19
_ALIASES = frozenset({8, 9, 10, 11, 18})
_EXTRA = {
    1: (4, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    17: (4, 0),
    19: (0, 12),
}
"""Bytes after the head of a type, by kind: fixed, and for each of its `vlen` elements."""
_KEPT = 1 << 16
"""Types and members that are remembered; beyond that all are forgotten."""
_LONGEST = 256
"""Bytes of a name."""


class Btf(Types):
    """The types of a blob of BTF."""

    def __init__(self, data: bytes, *, where: str = "BTF", base: Btf | None = None) -> None:
        """Walk a blob.

        data:  the blob; bytes after it are not looked at.
        where: it is from, for messages.
        base:  of a module, whose types begin after those of the kernel proper.

        Raises TypesError if it is not BTF, or damaged, or of a module and there is no base.
        """
        super().__init__(where)
        self._data, self._base = data, base
        if len(data) < _HEAD.size or struct.unpack_from("<H", data)[0] != MAGIC:
            found = data[:4].hex(" ") or "nothing"
            raise TypesError(f"{where}: expected BTF, which begins with 9f eb, found {found} in {len(data)} bytes")
        _, version, _, size, types, types_size, strings, strings_size = _HEAD.unpack_from(data)
        if version != 1:
            raise TypesError(f"{where}: expected BTF of version 1, found {version}")
        if max(size, size + types + types_size, size + strings + strings_size) > len(data) or size < _HEAD.size:
            raise TypesError(f"{where}: BTF is cut short: {len(data)} bytes")
        self._strings = data[size + strings : size + strings + strings_size]
        if base is None and self._strings[:1] != b"\0":
            raise TypesError(f"{where}: types of a module; give those of its kernel, too")
        self._first = base.count if base is not None else 1
        self._layouts = self._read_layouts(size)
        self._places = array("Q")
        self._types: dict[int, Type] = {}
        self._kept = 0
        self._by_name: dict[str, list[int]] | None = None
        self._walk(size + types, size + types + types_size)

    @property
    def count(self) -> int:
        """Number after the last type."""
        return self._first + len(self._places)

    def _read_layouts(self, size: int) -> dict[int, tuple[int, int]]:
        """Sizes of kinds that are newer than this reader, from the header of kernels that have such a table."""
        if size < _HEAD.size + _LAYOUTS.size:
            return _EXTRA
        place, length = _LAYOUTS.unpack_from(self._data, _HEAD.size)
        table = self._data[size + place : size + place + min(length, 4 * 128)]
        given = {kind: (table[4 * kind], table[4 * kind + 1]) for kind in range(len(table) // 4)}
        return {**given, **_EXTRA}

    def _walk(self, place: int, end: int) -> None:
        """Note where each type is."""
        unpack, note, most = _INFO.unpack_from, self._places.append, LIMITS.types
        sizes = {kind: (_TYPE.size + fixed, each) for kind, (fixed, each) in self._layouts.items()}
        sizes = dict.fromkeys(range(len(_KINDS)), (_TYPE.size, 0)) | sizes
        data, last = self._data, end - _TYPE.size
        while place <= last:
            (info,) = unpack(data, place + 4)
            note(place)
            try:
                fixed, each = sizes[info >> 24 & 0x7F]
            except KeyError:
                text = f"type {self.count - 1} is of kind {info >> 24 & 0x7F}, which is not known"
                raise TypesError(f"{self.where}: {text}") from None
            place += fixed + each * (info & 0xFFFFFF) if each else fixed
            if len(self._places) > most:
                raise TypesError(f"{self.where}: more than {most} types; {how_to_raise('types')}")
        if place != end:
            raise TypesError(f"{self.where}: type {self.count - 1} does not end where BTF does")

    def _text(self, offset: int) -> str:
        if self._base is not None:
            if offset < len(self._base._strings):
                return self._base._text(offset)
            offset -= len(self._base._strings)
        end = self._strings.find(b"\0", offset, offset + _LONGEST)
        return repr(self._strings[offset:end])[2:-1] if end >= 0 else ""  # quick where many names are no names of C

    def head(self, number: int) -> Type:
        if self._base is not None and number < self._first:
            return self._base.head(number)
        found = self._types.get(number)
        return found if found is not None else self._made(number, has_members=False)

    def type(self, number: int) -> Type:
        if self._base is not None and number < self._first:
            return self._base.type(number)
        found = self._types.get(number)
        if found is None:
            found = self._types[number] = self._made(number)
            self._kept += 1 + len(found.members)
            if self._kept > _KEPT:
                self._types, self._kept = {number: found}, 1 + len(found.members)
        return found

    def _made(self, number: int, *, has_members: bool = True) -> Type:
        if number == 0:
            return Type(Kind.OTHER, "void", word="void")
        if not 0 <= number - self._first < len(self._places):
            raise TypesError(f"{self.where}: no type {number}: expected less than {self.count}")
        place = self._places[number - self._first]
        name_at, info, last = _TYPE.unpack_from(self._data, place)
        kind, count, flag = info >> 24 & 0x7F, info & 0xFFFFFF, bool(info >> 31)
        name, body = self._text(name_at), place + _TYPE.size
        word = _KINDS[kind] if kind < len(_KINDS) else "?"
        if kind in (_STRUCT, _UNION):
            if count > LIMITS.compared_members:
                text = f"{self.where}: struct {name or '{…}'} has {count} members"
                raise TooManyMembersError(f"{text}; {how_to_raise('compared_members')}")
            made = Kind.STRUCT if kind == _STRUCT else Kind.UNION
            members = self._members_at(body, count, flag) if has_members else ()
            return Type(made, name, last, members=members, word=word)
        if kind == _INT:
            encoding = int.from_bytes(self._data[body : body + 4], "little")
            return Type(Kind.INTEGER, name, last, signed=bool(encoding >> 24 & 1), word=word)
        if kind == _ARRAY:
            target, _, length = _TYPE.unpack_from(self._data, body)
            return Type(Kind.ARRAY, name, target=target, count=length, word=word)
        if kind == 2:
            return Type(Kind.POINTER, name, 8, target=last, word=word)
        if kind in (_ENUM, _ENUM64):
            return Type(Kind.ENUM, name, last, signed=flag, word="enum")
        if kind in _ALIASES:
            return Type(Kind.ALIAS, name if kind == 8 else "", target=last, word=word)
        return Type(Kind.OTHER, name, word="struct" if kind == _FWD else word)

    def _members_at(self, place: int, count: int, flag: bool) -> tuple[Member, ...]:
        """flag: offsets have the size of a bit-field in their upper byte."""
        data = self._data[place : place + _MEMBER.size * count]
        return tuple(
            Member(self._text(name), number, bit & 0xFFFFFF if flag else bit, bit >> 24 if flag else 0)
            for name, number, bit in _MEMBER.iter_unpack(data)
        )

    def named(self, name: str) -> list[int]:
        found = self._base.named(name) if self._base is not None else []
        if self._by_name is None:
            self._by_name = {}
            for number, place, _ in self._heads():
                self._by_name.setdefault(self._text(place), []).append(number)
        return [*found, *self._by_name.get(name, ())]

    def structs(self) -> Iterator[tuple[int, str]]:
        if self._base is not None:
            yield from self._base.structs()
        for number, name, _ in self._heads():
            yield number, self._text(name)

    def _heads(self) -> Iterator[tuple[int, int, int]]:
        """(number, offset of its name, size in bytes) of each struct and union."""
        unpack, data = _TYPE.unpack_from, self._data
        for number, place in enumerate(self._places, self._first):
            if data[place + 7] & 0x7F in (_STRUCT, _UNION):
                name, _, size = unpack(data, place)
                yield number, name, size
