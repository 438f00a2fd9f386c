# SPDX-License-Identifier: MIT
"""ELF files and their DWARF through pyelftools, which reads what a file claims: as much as the file can really have.

Needs pyelftools (`luoser[vmlinux]`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from luoser.budget import Budget
from luoser.errors import FormatError, SourceError, TooLargeError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import safe_text

__all__ = ["Debug", "damage", "open_elf"]

_READ = (".debug", ".eh_frame", ".symtab", ".strtab")
"""What the names of sections that are read begin with."""
_TIMES = 16
"""Bytes of such sections that a byte of a file stands for at most."""
_OLD = ".zdebug_info"
_TABLE = 4
"""Bytes of a table of abbreviations that cost as much as one attribute."""
_TEXT = 32
"""Bytes of a value that cost as much as one attribute: entries may share a long text."""


def open_elf(file: BinaryIO, shown: str) -> Any:
    """The ELFFile of pyelftools. No section that is to be read is larger than the file can have.

    Raises SourceError if pyelftools is not installed, FormatError or an exception of pyelftools for a damaged file.
    """
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise SourceError(f"{shown}: reading a vmlinux needs pyelftools: pip install 'luoser[vmlinux]'") from None
    elf, total = ELFFile(file), 0
    most = LIMITS.section_bytes + _TIMES * elf.stream_len
    for section in elf.iter_sections():
        if section.name == _OLD:
            raise FormatError("compressed debug info of an old form; objcopy can unpack it")
        if not section.name.startswith(_READ):
            continue
        if section["sh_type"] == "SHT_NOBITS" or section["sh_offset"] + section["sh_size"] > elf.stream_len:
            raise FormatError(f"section {safe_text(section.name)} is not in the file")
        total += section.data_size
        if total > most:
            raise TooLargeError(f"symbols and debug info of more than {most} bytes; {how_to_raise('section_bytes')}")
    return elf


def damage(error: Exception) -> str:
    """What is wrong with a file, in words. error: ours, or of pyelftools, whose words are about Python."""
    return str(error) if isinstance(error, FormatError) else "damaged ELF file"


class Debug:
    """The DWARF of a file. No more of it is read than LIMITS.debug_entries; entries cannot lead back."""

    def __init__(self, elf: Any) -> None:
        """elf: of `open_elf`, with DWARF."""
        self._info = elf.get_dwarf_info(follow_links=False)
        self._left = Budget(LIMITS.debug_entries, lambda: 0)
        self._tables, self._types = set[int](), set[int]()

    def tops(self) -> Iterator[Any]:
        """The first entry of each unit."""
        return map(self._top, self._info.iter_CUs())

    def tops_at(self, addresses: list[int]) -> Iterator[Any]:
        """The first entry of each unit that has code at some addresses."""
        ranges = self._info.get_aranges()
        for unit in sorted({ranges.cu_offset_at_addr(address) for address in addresses} - {None}):
            yield self._top(self._info.get_CU_at(unit))

    def _top(self, unit: Any) -> Any:
        self._need_table(unit)
        return self._counted(unit.get_top_DIE())

    def _need_table(self, unit: Any) -> None:
        place = unit["debug_abbrev_offset"]
        if place not in self._tables:
            self._tables.add(place)
            unit.get_abbrev_table()
            self._need((self._info.debug_abbrev_sec.stream.tell() - place) // _TABLE)

    def type_of(self, entry: Any) -> Any:
        """The entry of the type that an entry refers to. None: it has none. Only the first reference to one counts."""
        if "DW_AT_type" not in entry.attributes:
            return None
        found = entry.get_DIE_from_attribute("DW_AT_type")
        if found.offset not in self._types:
            self._types.add(found.offset)
            self._need_table(found.cu)
            self._counted(found)
        return found

    def children(self, entry: Any) -> Iterator[Any]:
        """The entries that an entry holds, itself: not those inside of them."""
        unit, depth = entry.cu, 0
        place, end = entry.offset + entry.size, unit.cu_offset + unit.size
        while entry.has_children and place < end:
            child = self._counted(unit.get_DIE_from_refaddr(place))
            place += child.size
            if child.is_null():
                if not depth:
                    return
                depth -= 1
                continue
            if not depth:
                yield child
            depth += child.has_children

    def _counted(self, entry: Any) -> Any:
        """An entry, after its attributes were counted: also those that take no byte, and those that share theirs."""
        is_null = entry.is_null()
        decl = None if is_null else entry.cu.get_abbrev_table().get_abbrev(entry.abbrev_code)
        values = (each.value for each in entry.attributes.values())
        shared = sum(len(value) for value in values if isinstance(value, (bytes, list))) // _TEXT
        self._need(1 + shared + (len(decl["attr_spec"]) if decl is not None else 0))
        return entry

    def _need(self, count: int) -> None:
        if self._left.take(count) < count:
            raise TooLargeError(f"more debug info than is read; {how_to_raise('debug_entries')}")
