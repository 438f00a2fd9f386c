# SPDX-License-Identifier: MIT
"""Symbols of a kernel: addresses of its variables and, from a vmlinux, their members."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from luoser.errors import SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import is_url, safe_text, source_name

if TYPE_CHECKING:
    from luoser.vmlinux import Debug

__all__ = ["Symbol", "Symbols", "read_symbols"]

_LINE = re.compile(rb"^([0-9a-f]{16}) \S (\S+)\r?$", re.MULTILINE)
"""A symbol of the kernel proper. Symbols of modules have the module's name after them."""
_HEAD = 64 << 10
_LARGEST = 4096
"""Assumed maximum size of a variable in bytes. The next symbol of an incomplete list can be far away."""
_TYPES, _MEMBERS = 32, 4096
"""Bounds on debug info: length of a chain of types, members of a variable."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable of the kernel.

    address: virtual, as the file has it: at link time or, from kallsyms, at run time.
    size:    in bytes; an upper bound where the file has no sizes.
    members: path of each member, such as `ser.fdt`, by offset in bytes. None without debug info.
    """

    name: str
    address: int
    size: int
    members: Mapping[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """The requested symbols that a file has.

    path:     of the file, safe to print.
    found:    symbol by name. A name with several addresses is left out.
    build_id: of a vmlinux, in hex. None for other files.
    """

    path: str
    found: Mapping[str, Symbol] = field(default_factory=dict)
    build_id: str | None = None

    def get(self, name: str) -> Symbol | None:
        """The symbol of this name. None if the file has none, or several."""
        return self.found.get(name)


def read_symbols(path: str | os.PathLike[str], names: frozenset[str]) -> Symbols:
    """The symbols of these names from a System.map, a copy of /proc/kallsyms, or an unstripped vmlinux.

    A vmlinux needs pyelftools (`luoser[vmlinux]`). If it has readable debug info, members of structs are known too.

    Raises SourceError for any other file, and for one whose addresses are hidden.
    """
    shown = source_name(os.fspath(path))
    if is_url(os.fspath(path)):
        raise SourceError(f"{shown}: a URL: only dumps and state documents are read from there; copy it first")
    try:
        with open(path, "rb") as file:
            head = file.read(4)
            if head == b"\x7fELF":
                return _from_elf(file, shown, names)
            data = head + file.read(_HEAD)
            if _LINE.search(data) is None:
                raise SourceError(
                    f"{shown}: expected a System.map, kallsyms or vmlinux, found no line like "
                    "`ffffffff81000000 T _stext`"
                )
            data += file.read(LIMITS.symbol_bytes + 1)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    if len(data) > LIMITS.symbol_bytes:
        text = f"more than {LIMITS.symbol_bytes} bytes of symbols; {how_to_raise('symbol_bytes')}"
        raise SourceError(f"{shown}: {text}")
    return _from_text(data, shown, names)


# -- System.map and kallsyms ------------------------------------------------------------------------------


def _from_text(data: bytes, shown: str, names: frozenset[str]) -> Symbols:
    wanted = {name.encode(): name for name in names}
    addresses: list[int] = []
    found: dict[str, set[int]] = {}
    for match in _LINE.finditer(data):
        address = int(match[1], 16)
        addresses.append(address)
        if match[2] in wanted:
            found.setdefault(wanted[match[2]], set()).add(address)
    if not any(addresses):
        raise SourceError(f"{shown}: all addresses are zero, the kernel hides them (kptr_restrict); read it as root")
    addresses.sort()
    return Symbols(
        path=shown,
        found={
            name: Symbol(name, place, _room(addresses, place))
            for name, places in found.items()
            for place in places
            if len(places) == 1
        },
    )


def _room(addresses: list[int], address: int) -> int:
    """Bytes from an address to the next symbol, at most _LARGEST."""
    after = bisect_right(addresses, address)
    return min(addresses[after] - address, _LARGEST) if after < len(addresses) else _LARGEST


# -- vmlinux ----------------------------------------------------------------------------------------------

_SYM = struct.Struct("<IBBHQQ")
_FILE, _FUNC = 4, 2


def _from_elf(file: Any, shown: str, names: frozenset[str]) -> Symbols:
    from luoser.vmlinux import damage, open_elf  # late: few give a vmlinux

    try:
        elf = open_elf(file, shown)
        if elf.elfclass != 64 or not elf.little_endian:
            raise SourceError(f"{shown}: expected a 64-bit little-endian ELF file")
        table = elf.get_section_by_name(".symtab")
        if table is None:
            raise SourceError(f"{shown}: an ELF file without .symtab; use an unstripped vmlinux")
        found, neighbours = _symbols(table.data(), elf.get_section(table["sh_link"]).data(), names)
        build_id = _build_id(elf)
    except (SourceError, OSError):
        raise
    except Exception as error:  # pyelftools raises many kinds of errors for a damaged file
        raise SourceError(f"{shown}: {damage(error)}") from None
    members = _members(elf, neighbours)
    return Symbols(
        path=shown,
        found={
            name: Symbol(name, address, min(size or _LARGEST, _LARGEST), members.get(name))
            for name, (address, size) in found.items()
        },
        build_id=build_id,
    )


def _symbols(
    table: bytes, strings: bytes, names: frozenset[str]
) -> tuple[dict[str, tuple[int, int]], dict[str, list[int]]]:
    """Two mappings by name of a variable: (address, size), and addresses of functions in the same source file."""
    found: dict[str, tuple[int, int]] = {}
    functions: dict[str, list[int]] = {}
    several: set[str] = set()
    in_file: list[int] = []
    wanted = {name.encode(): name for name in names}
    longest = max(map(len, wanted)) + 1
    for place, info, _, section, value, size in _SYM.iter_unpack(table[: len(table) // _SYM.size * _SYM.size]):
        kind = info & 15
        if kind == _FILE:
            in_file = []
        elif kind == _FUNC:
            in_file.append(value)
        elif section:
            end = strings.find(b"\0", place, place + longest + 1)
            name = wanted.get(strings[place:end]) if end > 0 else None
            if name is not None and found.setdefault(name, (value, size))[0] != value:
                several.add(name)
            elif name is not None:
                functions.setdefault(name, in_file)
    return {name: place for name, place in found.items() if name not in several}, functions


def _build_id(elf: Any) -> str | None:
    for section in elf.iter_sections("SHT_NOTE"):
        for note in section.iter_notes():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                return str(note["n_desc"])
    return None


def _members(elf: Any, functions: Mapping[str, list[int]]) -> dict[str, dict[int, str]]:
    """Members by offset, for each variable whose debug info is found through a function of the same source file."""
    from luoser.vmlinux import Debug

    made: dict[str, dict[int, str]] = {}
    with contextlib.suppress(Exception):  # debug info is optional: symbols are usable without it
        if not elf.has_dwarf_info(strict=True):
            return made
        debug = Debug(elf)
        for name, addresses in functions.items():
            variables = (_variable(debug, top, name) for top in debug.tops_at(addresses[:8]))
            variable = next((found for found in variables if found is not None), None)
            if variable is not None and (layout := _layout(debug, variable)):
                made[name] = layout
    return made


def _variable(debug: Debug, top: Any, name: str) -> Any:
    for entry in debug.children(top):
        if entry.tag == "DW_TAG_variable" and "DW_AT_type" in entry.attributes:
            named = entry.attributes.get("DW_AT_name")
            if named is not None and named.value == name.encode():
                return entry
    return None


def _layout(debug: Debug, variable: Any) -> dict[int, str]:
    """Path of each member of a variable's struct by offset, members of inner structs included."""
    found: dict[int, str] = {}
    todo, left = [(variable, 0, "")], _MEMBERS
    while todo:
        entry, base, path = todo.pop()
        entry = _type(debug, entry)
        if entry.tag != "DW_TAG_structure_type" or path.count(".") > 4:
            if path:
                found.setdefault(base, path.removesuffix("."))
            continue
        for member in islice(debug.children(entry), left):
            left -= 1
            offset = member.attributes.get("DW_AT_data_member_location")
            named = member.attributes.get("DW_AT_name")
            if member.tag == "DW_TAG_member" and offset is not None:
                inner = safe_text(named.value) + "." if named is not None else ""
                todo.append((member, base + offset.value, path + inner))
    return found


def _type(debug: Debug, entry: Any) -> Any:
    """The struct, pointer or plain type of a variable or member, typedefs and qualifiers removed."""
    for _ in range(_TYPES):
        is_end = entry.tag in ("DW_TAG_pointer_type", "DW_TAG_structure_type")
        target = debug.type_of(entry) if not is_end else None
        if target is None:
            break
        entry = target
    return entry
