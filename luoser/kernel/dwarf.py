# SPDX-License-Identifier: MIT
"""DWARF: the types of a vmlinux that has no BTF. Slow: only units of KHO, LUO and their users are read.

Needs pyelftools (`luoser[vmlinux]`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luoser.errors import SourceError
from luoser.kernel.types import Kind, Member, Type, Types, TypesError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import safe_text
from luoser.vmlinux import Debug, damage, open_elf

__all__ = ["Dwarf"]

_UNITS = re.compile(rb"(liveupdate|kexec_handover|luo|kho)[^/]*(/[^/]*)?\.c$")
"""Paths of source files whose types are read: names of the file and its folder, as sources may lie in any `luo/`."""
_STRUCTS = re.compile(r"_ser$|_ser_|kho|luo|liveupdate")
"""Names of structs that are read. Of others only those inside of them are, and the names of those they point to."""
_KINDS = {
    "DW_TAG_structure_type": Kind.STRUCT,
    "DW_TAG_union_type": Kind.UNION,
    "DW_TAG_pointer_type": Kind.POINTER,
    "DW_TAG_array_type": Kind.ARRAY,
    "DW_TAG_base_type": Kind.INTEGER,
    "DW_TAG_enumeration_type": Kind.ENUM,
    "DW_TAG_typedef": Kind.ALIAS,
    "DW_TAG_const_type": Kind.ALIAS,
    "DW_TAG_volatile_type": Kind.ALIAS,
    "DW_TAG_restrict_type": Kind.ALIAS,
    "DW_TAG_atomic_type": Kind.ALIAS,
}
_CHAIN = 64
"""Typedefs before the type of a bit-field."""
_SIGNED = (5, 6, 13)
"""DW_ATE_signed, DW_ATE_signed_char, DW_ATE_signed_fixed."""


class Dwarf(Types):
    """The types of some units of a vmlinux, numbered in the order of their entries."""

    def __init__(self, path: Path, *, where: str) -> None:
        """Read the structs of a file.

        path:  of an ELF file with DWARF.
        where: it is from, for messages.

        Raises SourceError if pyelftools is not installed, TypesError if there is no DWARF, or it is damaged.
        """
        super().__init__(where)
        self._numbers: dict[int, int] = {0: 0}
        self._types: list[Type] = [Type(Kind.OTHER, "void", word="void")]
        self._todo: list[Any] = []
        try:
            with path.open("rb") as file:
                elf = open_elf(file, where)
                if not elf.has_dwarf_info(strict=True):
                    raise TypesError(f"{where}: neither BTF nor DWARF in this file")
                self._debug = Debug(elf)
                self._read()
        except (TypesError, SourceError, OSError):
            raise
        except Exception as error:  # pyelftools raises many kinds of errors for a damaged file
            raise TypesError(f"{where}: {damage(error)}") from None

    def _read(self) -> None:
        for top in self._debug.tops():
            name = top.attributes.get("DW_AT_name")
            if name is None or not _UNITS.search(name.value):
                continue
            for entry in self._debug.children(top):
                if entry.tag == "DW_TAG_structure_type" and _STRUCTS.search(_text(entry)):
                    self._number(entry)
            while self._todo:
                number, entry = self._todo.pop()
                self._types[number] = self._made(entry)

    def _number(self, entry: Any) -> int:
        if entry.offset not in self._numbers:
            if len(self._types) > LIMITS.types:
                raise TypesError(f"{self.where}: more than {LIMITS.types} types; {how_to_raise('types')}")
            self._numbers[entry.offset] = len(self._types)
            self._todo.append((len(self._types), entry))
            self._types.append(Type(Kind.OTHER, ""))
        return self._numbers[entry.offset]

    def _target(self, entry: Any) -> int:
        target = self._debug.type_of(entry)
        return self._number(target) if target is not None else 0

    def _pointed(self, entry: Any) -> int:
        """Number of the type that a pointer leads to. A struct has only its name, unless it is one that is read."""
        target = self._debug.type_of(entry)
        if target is None:
            return 0
        if _KINDS.get(target.tag) not in (Kind.STRUCT, Kind.UNION) or _STRUCTS.search(_text(target)):
            return self._number(target)
        self._types.append(Type(Kind.OTHER, _text(target), word="struct"))
        return len(self._types) - 1

    def _made(self, entry: Any) -> Type:
        kind = _KINDS.get(entry.tag, Kind.OTHER)
        name, size = _text(entry), _value(entry, "DW_AT_byte_size")
        if kind in (Kind.STRUCT, Kind.UNION):
            word = "struct" if kind is Kind.STRUCT else "union"
            if "DW_AT_declaration" in entry.attributes:
                return Type(Kind.OTHER, name, word=word)
            return Type(kind, name, size, members=tuple(self._members(entry)), word=word)
        if kind is Kind.ARRAY:
            return self._array(entry)
        if kind is Kind.INTEGER:
            return Type(kind, name, size, signed=_value(entry, "DW_AT_encoding") in _SIGNED, word="int")
        if kind is Kind.ALIAS:
            is_typedef = entry.tag == "DW_TAG_typedef"
            word = "typedef" if is_typedef else entry.tag.removeprefix("DW_TAG_").removesuffix("_type")
            return Type(kind, name if is_typedef else "", target=self._target(entry), word=word)
        if kind is Kind.POINTER:
            return Type(kind, "", 8, target=self._pointed(entry), word="ptr")
        return Type(kind, name, size, word="enum" if kind is Kind.ENUM else "")

    def _array(self, entry: Any) -> Type:
        counts = []
        for child in self._debug.children(entry):
            if child.tag == "DW_TAG_subrange_type":
                has_upper = "DW_AT_upper_bound" in child.attributes
                counts.append(_value(child, "DW_AT_upper_bound") + 1 if has_upper else _value(child, "DW_AT_count"))
        target = self._target(entry)
        for count in reversed(counts[1:]):
            self._types.append(Type(Kind.ARRAY, "", target=target, count=count, word="array"))
            target = len(self._types) - 1
        return Type(Kind.ARRAY, "", target=target, count=counts[0] if counts else 0, word="array")

    def _members(self, entry: Any) -> Iterator[Member]:
        for child in self._debug.children(entry):
            if child.tag != "DW_TAG_member":
                continue
            bits, target = _value(child, "DW_AT_bit_size"), self._target(child)
            bit = _value(child, "DW_AT_data_bit_offset") if bits else 0
            if bits and "DW_AT_bit_offset" in child.attributes:  # DWARF 4 and older: from the end of its unit
                bit = 8 * self._unit(child) - _value(child, "DW_AT_bit_offset") - bits
            yield Member(_text(child), target, bit + 8 * _value(child, "DW_AT_data_member_location"), bits)

    def _unit(self, entry: Any) -> int:
        """Bytes of the unit that a bit-field is in, up to DWARF 4: its own size, or that of its type."""
        for _ in range(_CHAIN):
            size, target = _value(entry, "DW_AT_byte_size"), self._debug.type_of(entry)
            if size or target is None:
                return size
            entry = target
        return 0

    def type(self, number: int) -> Type:
        if not 0 <= number < len(self._types):
            raise TypesError(f"{self.where}: no type {number}")
        return self._types[number]

    def named(self, name: str) -> list[int]:
        return [number for number, struct in self.structs() if struct == name]

    def structs(self) -> Iterator[tuple[int, str]]:
        for number, found in enumerate(self._types):
            if found.kind in (Kind.STRUCT, Kind.UNION):
                yield number, found.name


def _text(entry: Any) -> str:
    named = entry.attributes.get("DW_AT_name")
    return safe_text(named.value) if named is not None else ""


def _value(entry: Any, name: str) -> int:
    found = entry.attributes.get(name)
    return found.value if found is not None and isinstance(found.value, int) and 0 <= found.value < 1 << 64 else 0
