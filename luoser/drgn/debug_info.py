# SPDX-License-Identifier: MIT
"""drgn's debug info, as what a kernel says of itself: for a kernel without BTF, or with kallsyms of functions only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from luoser.abi.c_struct import structure
from luoser.abi.registry import schemas
from luoser.errors import MissingMemory
from luoser.kernel.answers import Answers
from luoser.kernel.kallsyms import NoKallsyms, find_kallsyms
from luoser.kernel.space import AddressSpace, Unmapped
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Member, Type, Types, TypesError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.reader.kernel import STRUCTS, SYMBOLS
from luoser.text import safe_text

if TYPE_CHECKING:
    import drgn

__all__ = ["DrgnTypes", "answers"]

_KINDS = {
    "INT": Kind.INTEGER,
    "BOOL": Kind.INTEGER,
    "STRUCT": Kind.STRUCT,
    "UNION": Kind.UNION,
    "ENUM": Kind.ENUM,
    "TYPEDEF": Kind.ALIAS,
    "POINTER": Kind.POINTER,
    "ARRAY": Kind.ARRAY,
}
_NAMES = tuple(dict.fromkeys((*STRUCTS, "luo_flb_link", *(structure(schema).tag for schema in schemas()))))
"""Structs that are walked, or handed over."""
_ANONYMOUS = ("luo_global",)
"""Variables whose struct has no name."""


class DrgnTypes(Types):
    """Types of a drgn program, numbered as they are met: the structs of KHO and LUO first."""

    def __init__(self, prog: drgn.Program, names: Iterable[str] = _NAMES) -> None:
        """prog: with debug info. names: of the structs that can be asked for, as far as it has them."""
        super().__init__("debug info of drgn")
        self._types: list[drgn.Type | None] = [None]
        self._made: dict[int, Type] = {0: Type(Kind.OTHER, "void", word="void")}
        self._structs: dict[int, str] = {}
        for name in names:
            try:
                self._structs[self._number(prog.type(f"struct {name}"))] = name
            except LookupError:
                continue
        for name in _ANONYMOUS:
            try:
                self._structs[self._number(prog[name].type_)] = ""
            except LookupError:
                continue

    def _number(self, found: drgn.Type) -> int:
        if found.kind.name == "VOID":
            return 0
        if len(self._types) > LIMITS.types:
            raise TypesError(f"{self.where}: more than {LIMITS.types} types; {how_to_raise('types')}")
        self._types.append(found)
        return len(self._types) - 1

    def type(self, number: int) -> Type:
        if number not in self._made:
            found = self._types[number] if 0 < number < len(self._types) else None
            if found is None:
                raise TypesError(f"{self.where}: no type {number}")
            self._made[number] = self._type(found)
        return self._made[number]

    def _type(self, found: drgn.Type) -> Type:
        kind, name = _KINDS.get(found.kind.name, Kind.OTHER), _name(found)
        word = found.kind.name.lower()
        if kind in (Kind.STRUCT, Kind.UNION):
            if found.members is None:
                return Type(Kind.OTHER, name, word=word)
            return Type(kind, name, found.size or 0, members=tuple(self._members(found)), word=word)
        if kind is Kind.INTEGER:
            is_signed = found.kind.name == "INT" and found.is_signed
            return Type(kind, name, found.size or 0, signed=is_signed, word="int")
        if kind is Kind.ENUM:
            integer = found.type if found.enumerators is not None else None
            return Type(kind, name, (integer.size or 0) if integer is not None else 0, word="enum")
        if kind is Kind.POINTER:
            return Type(kind, "", 8, target=self._number(found.type), word="ptr")
        if kind is Kind.ARRAY:
            return Type(kind, "", target=self._number(found.type), count=found.length or 0, word="array")
        if kind is Kind.ALIAS:
            return Type(kind, name, target=self._number(found.type), word="typedef")
        return Type(kind, name)

    def _members(self, found: drgn.Type) -> Iterator[Member]:
        for member in found.members or ():
            name = safe_text(member.name) if member.name is not None else ""
            yield Member(name, self._number(member.type), member.bit_offset, member.bit_field_size or 0)

    def named(self, name: str) -> list[int]:
        return [number for number, struct in self._structs.items() if struct == name]

    def structs(self) -> Iterator[tuple[int, str]]:
        yield from self._structs.items()


def _name(found: drgn.Type) -> str:
    """The name or tag of a type. Empty: it has none."""
    name = getattr(found, "name", None) or getattr(found, "tag", None)
    return safe_text(name) if name else ""


def answers(prog: drgn.Program, memory: Memory) -> bytes:
    """What drgn's debug info says of the kernel, as the note of a cut has it.

    prog:   with debug info or without.
    memory: of the program.

    Empty: there is no debug info, the kernel is not where VMCOREINFO says, or the memory has all of it itself.
    """
    if memory.answers or "kho_in" not in prog or not _is_there(prog, memory):
        return b""
    space, symbols = AddressSpace(memory, memory.vmcoreinfo), dict(_symbols(prog))
    has_types = _has_types(space, symbols)
    if has_types and _has_symbols(space):
        return b""
    text, place, build = space.identity()
    btf = b"" if has_types else _btf(DrgnTypes(prog))
    return Answers(text=text, place=place, build=build, symbols=symbols, btf=btf).pack()


def _btf(types: Types) -> bytes:
    """Types as BTF. Empty: they cannot be read; symbols alone are of use, too."""
    try:
        return write_btf(types, [number for number, _ in types.structs()])
    except TypesError:
        return b""


def _is_there(prog: drgn.Program, memory: Memory) -> bool:
    """Whether the kernel of VMCOREINFO, of which the debug info is, is in memory: after a kexec it may be gone.

    A cut may be without the page that says it.
    """
    from drgn import FaultError

    try:
        release = prog["init_uts_ns"].name.release.string_()
    except FaultError:
        return True
    except (LookupError, AttributeError):
        return False
    return safe_text(release) == memory.vmcoreinfo.get("OSRELEASE")


def _has_types(space: AddressSpace, symbols: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the kernel's own types are in its memory, sound or not. symbols: as of `_symbols`."""
    start, end = (symbols.get(name, (0, 0))[0] for name in ("__start_BTF", "__stop_BTF"))
    try:
        return bool(start) and bool(space.read(start, min(max(0, end - start), LIMITS.type_bytes)))
    except (Unmapped, MissingMemory):
        return False


def _has_symbols(space: AddressSpace) -> bool:
    """Whether the kernel's own symbols are in its memory, those of variables included."""
    try:
        return bool(find_kallsyms(space).get(frozenset({"kho_in"})))
    except (NoKallsyms, Unmapped, MissingMemory):
        return False


def _symbols(prog: drgn.Program) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (virtual address, size in bytes)) of each symbol that is there once."""
    for name in SYMBOLS:
        places = {found.address: found.size for found in prog.symbols(name)}
        if len(places) == 1:
            yield name, next(iter(places.items()))
