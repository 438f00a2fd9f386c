# SPDX-License-Identifier: MIT
"""Kernels made by hand: memory, page tables, kallsyms and BTF, written from the formats and not with luoser's numbers.

Formats: scripts/kallsyms.c of 6.12 to 7.3, include/uapi/linux/btf.h, the processors' manuals of x86-64 and arm64.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from luoser.errors import MissingMemory
from luoser.kernel.space import AddressSpace
from luoser.memory.overlay import Overlay
from tests.memory.images import Nothing

__all__ = ["IMAGE", "Blob", "Form", "Ram", "Tables", "kallsyms_memory", "map_arm64", "map_x86"]

IMAGE = 0xFFFF_FFFF_8100_0000
"""Virtual address of `_stext` of an x86-64 kernel without KASLR, at physical 16 MiB."""
Form = Literal["near", "base", "percpu", "addresses"]
"""How addresses are written: 7.0 and later; 6.15 to 6.19; x86-64 before with per-CPU variables; absolute."""


class Ram(Overlay):
    """Memory that has what was written, in whole pages."""

    def __init__(self) -> None:
        super().__init__(Nothing("made"))

    def words(self, address: int, *words: int) -> None:
        """Write words of 8 bytes."""
        self.write(address, struct.pack(f"<{len(words)}Q", *words))

    def word(self, address: int) -> int:
        """A word of 8 bytes; 0 where nothing was written."""
        try:
            return int.from_bytes(self.read(address, 8), "little")
        except MissingMemory:
            return 0


# -- page tables -------------------------------------------------------------------------------------------


def map_x86(
    ram: Ram, root: int, virtual: int, physical: int, *, levels: int = 4, last: int = 1, flags: int = 0
) -> None:
    """Map one page of level `last` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB). flags: bits in all entries, such as C or NX."""
    table = root
    for level in range(levels, 0, -1):
        place = table + 8 * (virtual >> 12 + 9 * (level - 1) & 511)
        if level == last:
            ram.words(place, physical | 0x63 | flags | (0x80 if level > 1 else 0))
            return
        if not ram.word(place):
            ram.words(place, _fresh(ram) | 0x67 | flags)
        table = ram.word(place) & 0x000F_FFFF_FFFF_F000 & ~flags


def map_arm64(
    ram: Ram, root: int, virtual: int, physical: int, *, page: int, bits: int, last: int = 1, lpa2: bool = False
) -> None:
    """Map one page or block of level `last`, counted from the pages."""
    shift = page.bit_length() - 1
    step = shift - 3
    levels, table = -(-(bits - shift) // step), root
    for level in range(levels, 0, -1):
        low = shift + step * (level - 1)
        width = bits - low if level == levels else step
        place = table + 8 * (virtual >> low & (1 << width) - 1)
        if level == last:
            ram.words(place, _descriptor(physical, page, lpa2) | 0x0060_0000_0000_0400 | (3 if level == 1 else 1))
            return
        if not ram.word(place):
            ram.words(place, _descriptor(_fresh(ram, page), page, lpa2) | 3)
        table = _address(ram.word(place), page, lpa2)


def _descriptor(physical: int, page: int, lpa2: bool) -> int:
    if page == 0x10000:
        return physical & 0xFFFF_FFFF_FFFF | (physical >> 48) << 12
    return physical & (1 << 50) - 1 | (physical >> 50) << 8 if lpa2 else physical


def _address(entry: int, page: int, lpa2: bool) -> int:
    if page == 0x10000:
        return entry & 0xFFFF_FFFF_0000 | (entry >> 12 & 15) << 48
    return (entry & (1 << (50 if lpa2 else 48)) - 1) // page * page | ((entry >> 8 & 3) << 50 if lpa2 else 0)


def _fresh(ram: Ram, size: int = 0x1000) -> int:
    """Physical address of an empty table, after all others."""
    tables = [0x9000_0000, *(segment.end for segment in ram.segments if 0x9000_0000 <= segment.start < 0xA000_0000)]
    place = -(-max(tables) // size) * size
    ram.write(place, bytes(size))
    return place


# -- kallsyms ----------------------------------------------------------------------------------------------

_TOKENS = [b"kho_", b"luo_", b"init_", *(bytes([byte]) for byte in range(3, 256))]


@dataclass(kw_only=True)
class Tables:
    """kallsyms to write.

    symbols:   (address, kind, name), by address.
    form:      of addresses.
    align:     of each table: 4 from 7.0 on, 8 before.
    ordered:   with the table of names in order.
    markers:   with the table of markers where the kernel has it; else with rubbish.
    at:        virtual address of the first table.
    base:      relative_base.
    tokens:    all 256.
    """

    symbols: Sequence[tuple[int, str, bytes]]
    form: Form = "near"
    align: int = 4
    ordered: bool = True
    markers: bool = True
    at: int = IMAGE + 0x10_0000
    base: int = IMAGE
    tokens: Sequence[bytes] = field(default_factory=lambda: _TOKENS)

    def _packed(self, kind: str, name: bytes) -> bytes:
        text = kind.encode() + name
        for number, token in enumerate(_TOKENS[:3]):
            text = text.replace(token, bytes([number]))
        size = bytes([len(text)]) if len(text) < 0x80 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
        return size + text

    def _offset(self, address: int, place: int) -> bytes:
        if self.form == "addresses":
            return struct.pack("<Q", address)
        if self.form == "near":
            return struct.pack("<i", address - place)
        if self.form == "percpu":  # absolute ones as they are, others below -1
            return struct.pack("<i", address if address < 1 << 31 else self.base - 1 - address)
        return struct.pack("<I", address - self.base)

    def written(self) -> tuple[bytes, dict[str, int]]:
        """(all tables, virtual address of each)."""
        out, places = bytearray(), dict[str, int]()

        def table(name: str, data: bytes) -> None:
            out.extend(bytes(-len(out) % self.align))
            places[name] = self.at + len(out)
            out.extend(data)

        names, marks = bytearray(), list[int]()
        for index, (_, kind, name) in enumerate(self.symbols):
            if index % 256 == 0:
                marks.append(len(names))
            names += self._packed(kind, name)
        starts = [sum(len(token) + 1 for token in self.tokens[:index]) for index in range(256)]
        table("num_syms", struct.pack("<I", len(self.symbols)))
        table("names", bytes(names))
        table("markers", struct.pack(f"<{len(marks)}I", *(marks if self.markers else [0x7777_7777] * len(marks))))
        table("token_table", b"".join(token + b"\0" for token in self.tokens))
        table("token_index", struct.pack("<256H", *(start & 0xFFFF for start in starts)))
        kind = "addresses" if self.form == "addresses" else "offsets"
        size, first = (8 if kind == "addresses" else 4), self.at + -(-len(out) // self.align) * self.align
        table(kind, b"".join(self._offset(one[0], first + size * at) for at, one in enumerate(self.symbols)))
        if self.form in ("base", "percpu"):
            table("relative_base", struct.pack("<Q", self.base))
        order = sorted(range(len(self.symbols)), key=lambda index: (self.symbols[index][2], index))
        if self.ordered:
            table("seqs_of_names", b"".join(index.to_bytes(3, "big") for index in order))
        return bytes(out), places


def kallsyms_memory(tables: Tables, **info: str) -> tuple[Ram, AddressSpace]:
    """An x86-64 kernel with kallsyms at their virtual addresses, and VMCOREINFO that names them. info: more of it."""
    ram = Ram()
    data, places = tables.written()
    known = {name.decode(): address for address, _, name in tables.symbols if name in (b"_stext", b"init_uts_ns")}
    hidden = ("markers", "seqs_of_names")
    given = {
        "NUMBER(phys_base)": "0",
        "OSRELEASE": "made",
        **{f"SYMBOL({name})": f"{address:x}" for name, address in known.items()},
        **{f"SYMBOL(kallsyms_{name})": f"{place:x}" for name, place in places.items() if name not in hidden},
        **info,
    }
    ram.write(tables.at - 0xFFFF_FFFF_8000_0000, data)
    ram.write(tables.at - 0xFFFF_FFFF_8000_0000 + len(data), bytes(0x1000))
    return ram, AddressSpace(ram, given)


# -- BTF ---------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Blob:
    """A blob of BTF, type by type.

    first: number of its first type; more than 1 for a module.
    text:  bytes of strings that are in the base of a module.
    """

    first: int = 1
    text: int = 0
    types: list[bytes] = field(default_factory=list)
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))

    def name(self, name: bytes) -> int:
        """Offset of a name in the strings."""
        if not name:
            return 0
        self.strings += name + b"\0"
        return self.text + len(self.strings) - len(name) - 1

    def add(
        self, kind: int, name: bytes = b"", last: int = 0, body: bytes = b"", *, count: int = 0, flag: bool = False
    ) -> int:
        """Add a type. Returns its number."""
        self.types.append(struct.pack("<III", self.name(name), flag << 31 | kind << 24 | count, last) + body)
        return self.first + len(self.types) - 1

    def integer(self, name: bytes, size: int, *, signed: bool = False) -> int:
        return self.add(1, name, size, struct.pack("<I", signed << 24 | 8 * size & 0xFF))

    def pointer(self, target: int) -> int:
        return self.add(2, last=target)

    def array(self, target: int, count: int) -> int:
        return self.add(3, body=struct.pack("<III", target, 0, count))

    def structure(
        self,
        name: bytes,
        size: int,
        *members: tuple[bytes, int, int] | tuple[bytes, int, int, int],
        union: bool = False,
    ) -> int:
        """Add a struct. members: name, type, offset in bits, and bits of a bit-field."""
        flag = any(len(member) == 4 for member in members)
        body = b"".join(
            struct.pack("<III", self.name(member[0]), member[1], member[2] | (_width(member) << 24))
            for member in members
        )
        return self.add(5 if union else 4, name, size, body, count=len(members), flag=flag)

    def data(self, *, layouts: bytes | None = None, **head: Any) -> bytes:
        """The blob. layouts: the table of kinds of newer headers. head: fields of the header that are to be wrong."""
        body = b"".join(self.types)
        size = 24 if layouts is None else 32
        fields: dict[str, int] = {
            "magic": 0xEB9F,
            "version": 1,
            "hdr_len": size,
            "type_off": 0,
            "type_len": len(body),
            "str_off": len(body),
            "str_len": len(self.strings),
            **head,
        }
        names = ("hdr_len", "type_off", "type_len", "str_off", "str_len")
        out = struct.pack("<HBB", fields["magic"], fields["version"], 0)
        out += struct.pack("<5I", *(fields[name] for name in names))
        if layouts is not None:
            out += struct.pack("<II", len(body) + len(self.strings), len(layouts))
        return out + body + bytes(self.strings) + (layouts or b"")


def _width(member: tuple[Any, ...]) -> int:
    return member[3] if len(member) == 4 else 0
