# SPDX-License-Identifier: MIT
"""Programs of drgn: of real dumps, of memory with pages that fault, with types as debug info would have them."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from luoser.kernel.kallsyms import find_kallsyms
from luoser.kernel.types import Kind, Types
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.reader.kernel import SYMBOLS
from tests.kernel import real as kernel

drgn = pytest.importorskip("drgn", reason="drgn is not installed: pip install drgn")

__all__ = ["RAM", "Resources", "core", "custom", "drgn", "kernel_program", "unpacked", "with_debug_info"]

RAM = 0x0100_0200
"""Flags of a resource that is RAM."""
Hole = tuple[int, int, str]
"""[start, end) of what faults, and what drgn says of it."""


def unpacked(path: Path, folder: Path) -> Path:
    """A core that drgn can open: it knows no .xz."""
    made = folder / path.name.removesuffix(".xz")
    made.write_bytes(lzma.decompress(path.read_bytes()))
    return made


def core(path: Path) -> Any:
    """A program of a core file, without debug info."""
    prog = drgn.Program()
    prog.set_core_dump(path)
    return prog


def custom(memory: Memory, holes: Sequence[Hole] = (), *, live: bool = False, info: bytes | None = None) -> Any:
    """A program whose memory is that of a source, as a user may add it to one.

    holes: what cannot be read.
    """
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.set_linux_kernel_custom(memory.info_note if info is None else info, live)

    def read(address: int, count: int, _: int, __: bool) -> bytes:
        for start, end, words in holes:
            if start < address + count and address < end:
                raise drgn.FaultError(words, max(address, start))
        return memory.read(address, count)

    for segment in memory.segments:
        prog.add_memory_segment(segment.start, segment.size, read, True)
    return prog


def with_debug_info(prog: Any, types: Types, variables: dict[str, tuple[int, str]], symbols: Iterable[Any]) -> Any:
    """A program that has types, variables and symbols as a vmlinux would give them.

    types:     of the kernel.
    variables: (virtual address, name of its struct, or of a member if it has no name) by name.
    symbols:   of drgn.
    """
    made = _Made(prog, types)
    prog.register_type_finder("test", lambda _, kinds, name, __: made.named(kinds, name), enable_index=0)
    prog.register_object_finder(
        "test",
        lambda _, name, __, ___: (
            drgn.Object(prog, made.of_variable(*variables[name][1:]), address=variables[name][0])
            if name in variables
            else None
        ),
        enable_index=0,
    )
    prog.register_symbol_finder("test", drgn.SymbolIndex(list(symbols)), enable_index=0)
    return prog


class Resources:
    """Resources of a kernel whose tables are in memory, planted in the page of its `iomem_resource`."""

    def __init__(self) -> None:
        self.memory = Overlay(kernel.memory("pre"))
        types, space = kernel.running("pre").types, kernel.space("pre")
        assert types is not None
        self._number = types.struct("resource") or 0
        self._types = types
        self.root = find_kallsyms(space).get(frozenset({"iomem_resource"}))["iomem_resource"][0].address
        self._base = space.image(self.root) or 0
        self.at(0, 0, (1 << 40) - 1, child=1)

    def at(self, number: int, start: int, end: int, flags: int = 0x200, *, child: int = 0, sibling: int = 0) -> None:
        """Write a resource. end: of its last byte. child, sibling: numbers of others, 0: none."""
        values = {"start": start, "end": end, "flags": flags, "child": child, "sibling": sibling}
        for name, value in values.items():
            place = self._types.find(self._number, name)
            assert place is not None
            value = self.root + 128 * value if name in ("child", "sibling") and value else value
            self.memory.write(self._base + 128 * number + place.offset, struct.pack("<Q", value))

    def cover(self) -> Memory:
        """The memory, with a resource for each segment of it."""
        segments = self.memory.segments
        for number, one in enumerate(segments, 1):
            self.at(number, one.start, one.end - 1, RAM, sibling=(number + 1) % (len(segments) + 1))
        return self.memory


class _Made:
    """Types of drgn, made from others."""

    def __init__(self, prog: Any, types: Types) -> None:
        self.prog, self.types = prog, types
        self.type: Callable[[int], Any] = cache(self._type)

    def named(self, kinds: Any, name: str) -> Any:
        word = {Kind.STRUCT: drgn.TypeKind.STRUCT, Kind.UNION: drgn.TypeKind.UNION}
        found = [one for one in self.types.named(name) if word.get(self.types.type(one).kind) in kinds]
        return self.type(found[0]) if found else None

    def of_variable(self, struct: str) -> Any:
        number = self.types.struct(struct)
        if number is None:  # one without a name is known by a member
            number = next(one for one, name in self.types.structs() if not name and self.types.find(one, struct))
        return self.type(number)

    def _type(self, number: int) -> Any:
        prog, found = self.prog, self.types.type(number)
        if not number:
            return prog.void_type()
        if found.kind is Kind.INTEGER:
            return prog.int_type(found.name, found.size, found.signed)
        if found.kind is Kind.POINTER:
            return prog.pointer_type(self.type(found.target))
        if found.kind is Kind.ARRAY:
            return prog.array_type(self.type(found.target), found.count)
        if found.kind is Kind.ENUM:
            return prog.enum_type(found.name or None, prog.int_type("int", found.size, True), ())
        if found.kind is Kind.ALIAS:
            return prog.typedef_type(found.name, self.type(found.target)) if found.name else self.type(found.target)
        make = prog.union_type if found.kind is Kind.UNION else prog.struct_type
        if found.kind not in (Kind.STRUCT, Kind.UNION):
            return prog.struct_type(found.name or "nothing")
        members = [
            drgn.TypeMember(self._member(one.type, one.bits), one.name or None, one.bit) for one in found.members
        ]
        return make(found.name or None, found.size, members)

    def _member(self, number: int, bits: int) -> Any:
        def make() -> Any:
            return drgn.Object(self.prog, self.type(number), bit_field_size=bits) if bits else self.type(number)

        return make


def kernel_program(memory: Memory, holes: Sequence[Hole] = (), *, live: bool = False) -> Any:
    """A program of the kernel of fixtures/kernel, `pre`, with debug info. memory: of it, changed or not."""
    running, space = kernel.running("pre"), kernel.space("pre")
    assert running.types is not None
    found = find_kallsyms(space).get(SYMBOLS | {"init_uts_ns", "iomem_resource"})
    symbols = [
        drgn.Symbol(name, one.address, one.size, drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.OBJECT)
        for name, places in found.items()
        for one in places
    ]
    other = {"init_uts_ns": "uts_namespace", "luo_global": "liveupdate_num", "iomem_resource": "resource"}
    names = ("kho_in", "kho_out", "luo_session_global", "luo_flb_global", *other)
    variables = {name: (found[name][0].address, other.get(name, name)) for name in names}
    return with_debug_info(custom(memory, holes, live=live), running.types, variables, symbols)
