# SPDX-License-Identifier: MIT
"""The ABI catalogue (fixtures/layouts.json) as C declarations and as values, without a look at luoser's schemas.

The declarations contain no offsets, so that every offset is the compiler's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from tests.real import ROOT

__all__ = ["INDEX", "LAYOUTS", "SCALARS", "Layout", "declare_struct", "nested", "tag", "values"]

Layout = dict[str, Any]
LAYOUTS: list[Layout] = json.loads((ROOT / "fixtures" / "layouts.json").read_text())
INDEX = {(layout["name"], layout["abi"]): number for number, layout in enumerate(LAYOUTS)}

SCALARS = {
    "u8": "unsigned char",
    "char": "char",
    "bool": "_Bool",
    "u16": "unsigned short",
    "u32": "unsigned int",
    "s32": "int",
    "be32": "unsigned int",
    "u64": "unsigned long long",
    "be64": "unsigned long long",
}

Naming = Callable[[int], str]


def tag(number: int) -> str:
    """What the kernel calls a struct of the catalogue."""
    found = re.match(r"\w+", LAYOUTS[number]["name"])
    assert found
    return found[0]


def nested(name: str, size: int, before: int) -> int:
    """A nested struct: of its forms the nearest before its user that fits the size."""
    for number in range(before - 1, -1, -1):
        if LAYOUTS[number]["name"] == name and (size == 0 or size % LAYOUTS[number]["size"] == 0):
            return number
    raise LookupError(name)


def _base(text: str) -> str:
    found = re.match(r"\w+", text)
    assert found, text
    return found[0]


def _count(text: str) -> int | None:
    """Counts of arrays follow from the size where the type's wording gives a name."""
    found = re.match(r"\w+(?: phys)?\[(\d+)\]", text)
    return int(found[1]) if found else None


def _declare_plain(name: str, text: str, size: int, before: int, naming: Naming) -> str:
    if text.startswith("bitmap"):
        return f"unsigned long long {name}[{size // 8}];"
    if text.startswith("union"):
        return f"unsigned char {name}[{size}];"
    c_type = SCALARS.get(_base(text)) or f"struct {naming(nested(_base(text), size, before))}"
    if size == 0:
        return f"{c_type} {name}[];"
    count = _count(text)
    return f"{c_type} {name}{f'[{count}]' if count else ''};"


def _declare(field: Layout, name: str, before: int, naming: Naming) -> str:
    if "bit_width" in field:
        return f"{SCALARS[field['type'].split()[0]]} {name}:{field['bit_width']};"
    return _declare_plain(name, field["type"], field["size"], before, naming)


def _groups(number: int) -> Iterator[tuple[str, list[Layout]]]:
    """(member that holds them, fields): fields with dotted names together."""
    for parent, group in groupby(LAYOUTS[number]["fields"], key=lambda field: field["name"].rpartition(".")[0]):
        yield parent, list(group)


def declare_struct(number: int, naming: Naming) -> str:
    """One struct; members with dotted names make up a packed struct of their own."""
    lines = []
    for parent, fields in _groups(number):
        own = [_declare(field, field["name"].rpartition(".")[2], number, naming) for field in fields]
        lines += [f"struct {{ {' '.join(own)} }} __attribute__((packed)) {parent};"] if parent else own
    attribute = " __attribute__((packed))" if LAYOUTS[number]["packed"] else ""
    body = "\n".join(f"    {line}" for line in lines)
    return f"struct {naming(number)} {{\n{body}\n}}{attribute};\n"


def values(number: int, data: bytes, base: int, path: str = "") -> Iterator[tuple[int, str, int | bytes]]:
    """(offset, dotted name, value) of every scalar in a struct; arrays element by element, texts and bitmaps whole."""
    for field in LAYOUTS[number]["fields"]:
        at, name, text, size = base + field["offset"], path + field["name"], field["type"], field["size"]
        kind, count = _base(text), _count(text)
        if "bit_width" in field:
            word = int.from_bytes(data[at : at + size], "little")
            yield at, name, word >> field["bit_offset"] & ((1 << field["bit_width"]) - 1)
        elif text.startswith(("bitmap", "union")) or kind == "bool" or (kind in ("char", "u8") and count):
            yield at, name, data[at : at + size]
        elif size:
            for index in range(count or 1):
                place = at + index * (size // (count or 1))
                label = f"{name}[{index}]" if count else name
                yield from _value(kind, number, data, place, label, size // (count or 1))


def _value(
    kind: str, before: int, data: bytes, at: int, name: str, size: int
) -> Iterator[tuple[int, str, int | bytes]]:
    if kind in SCALARS:
        order = "big" if kind.startswith("be") else "little"
        yield at, name, int.from_bytes(data[at : at + size], order, signed=kind == "s32")
    else:
        yield from values(nested(kind, size, before), data, at, f"{name}.")
