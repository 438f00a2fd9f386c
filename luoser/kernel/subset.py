# SPDX-License-Identifier: MIT
"""Writes BTF: some structs of a kernel's types, with all that is inside of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from luoser.kernel.btf import MAGIC
from luoser.kernel.types import FUNCTION, Kind, Type, Types

__all__ = ["write_btf"]

_HEAD = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_ALIASES = {"typedef": 8, "volatile": 9, "const": 10, "restrict": 11, "type_tag": 18}
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD = 1, 2, 3, 4, 5, 6, 7
_MOST = 1 << 16


def write_btf(types: Types, wanted: Iterable[int]) -> bytes:
    """A blob of BTF with some types.

    types:  they are of.
    wanted: their numbers. A pointer to a type that is not wanted points to a declaration of its name.

    Raises TypesError if a type cannot be read.
    """
    return _Writer(types, frozenset(wanted)).written()


class _Writer:
    def __init__(self, types: Types, wanted: frozenset[int]) -> None:
        self.types, self.wanted = types, wanted
        self.numbers: dict[tuple[int, bool], int] = {}
        self.todo: list[tuple[int, bool]] = []
        self.strings: dict[str, int] = {"": 0}
        self.room = 1

    def written(self) -> bytes:
        for number in sorted(self.wanted):
            self.number(number)
        bodies = list[bytes]()
        while len(bodies) < len(self.todo):
            number, is_whole = self.todo[len(bodies)]
            found = self.types.type(number)
            bodies.append(self.whole(found) if is_whole else self.declared(found))
        body = b"".join(bodies)
        texts = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in self.strings)
        return _HEAD.pack(MAGIC, 1, 0, _HEAD.size, 0, len(body), len(body), len(texts)) + body + texts

    def number(self, number: int, *, is_whole: bool = True) -> int:
        """Number in the blob of a type, which is written later."""
        if not number:
            return 0
        if not is_whole:
            found = self.types.type(number)
            is_whole = number in self.wanted or found.kind not in (Kind.STRUCT, Kind.UNION) or not found.name
        key = number, is_whole and len(self.todo) < _MOST
        if key not in self.numbers:
            self.todo.append(key)
            self.numbers[key] = len(self.todo)
        return self.numbers[key]

    def text(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = self.room
            self.room += len(text.encode("utf-8", "surrogateescape")) + 1
        return self.strings[text]

    def head(self, name: str, kind: int, count: int, last: int, *, flag: bool = False) -> bytes:
        return _TYPE.pack(self.text(name), flag << 31 | kind << 24 | count, last)

    def declared(self, found: Type) -> bytes:
        return self.head(found.name, _FWD, 0, 0, flag=found.kind is Kind.UNION)

    def whole(self, found: Type) -> bytes:
        if found.kind in (Kind.STRUCT, Kind.UNION):
            flag = any(one.bits for one in found.members)  # else offsets have all 32 bits
            members = b"".join(
                _TYPE.pack(self.text(one.name), self.number(one.type), one.bits << 24 | one.bit)
                for one in found.members
            )
            kind = _STRUCT if found.kind is Kind.STRUCT else _UNION
            return self.head(found.name, kind, len(found.members), found.size, flag=flag) + members
        if found.kind is Kind.INTEGER:
            return self.head(found.name, _INT, 0, found.size) + struct.pack(
                "<I", found.signed << 24 | 8 * found.size & 0xFF
            )
        if found.kind is Kind.POINTER:
            return self.head("", _PTR, 0, self.number(found.target, is_whole=False))
        if found.kind is Kind.ARRAY:
            return self.head("", _ARRAY, 0, 0) + _TYPE.pack(self.number(found.target), 0, found.count)
        if found.kind is Kind.ENUM:
            return self.head(found.name, _ENUM, 0, found.size, flag=found.signed)
        if found.kind is Kind.ALIAS:
            return self.head(found.name, _ALIASES.get(found.word, 10), 0, self.number(found.target))
        if found.name:
            return self.head(found.name, _FWD, 0, 0)
        return self.head(FUNCTION, _ALIASES["typedef"], 0, 0)
