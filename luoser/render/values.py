# SPDX-License-Identifier: MIT
"""Members of structs and machines as text."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from luoser.memory.source import MACHINES, Memory
from luoser.state import Hex
from luoser.text import bdf_text, bytes_text, rounded_size, safe_text

__all__ = ["machine_text", "members", "place_text", "property_text", "value_text"]

_PRINTABLE = frozenset(string.printable.encode()) - frozenset(b"\t\n\r\x0b\x0c")


def members(values: Mapping[str, Any]) -> str:
    """`name value` of each member, on one line. bdf and domain are combined to `device DDDD:BB:SS.F`."""
    shown = dict(values)
    bdf, domain = shown.get("bdf"), shown.get("domain", 0)
    if isinstance(bdf, int) and isinstance(domain, int):
        shown = {"device": bdf_text(domain, bdf), **{n: v for n, v in shown.items() if n not in ("bdf", "domain")}}
    return "  ".join(f"{name} {value_text(value)}" for name, value in shown.items())


def place_text(address: int | None) -> str:
    """A physical address in hex. In words if it is None."""
    return "at an unknown address" if address is None else f"{address:#x}"


def value_text(value: Any) -> str:
    """The value of a member: numbers in hex, names safe to print, long values cut."""
    if isinstance(value, Mapping):
        return "{ " + members(value) + " }"
    if isinstance(value, list | tuple):
        return ", ".join(f"[{place}] {shown}" for place, shown in _elements([value_text(item) for item in value]))
    if isinstance(value, bytes):
        return bytes_text(value[:32]) + (" …" if len(value) > 32 else "")
    if isinstance(value, int):
        return f"{value:#x}" if isinstance(value, Hex) or value > 9 else str(value)
    return safe_text(value)


def _elements(shown: list[str]) -> Iterator[tuple[str, str]]:
    """(index, element) of an array, both as text. Equal elements in a row are one, with the range of their indices."""
    for element, group in groupby(enumerate(shown), key=lambda item: item[1]):
        places = [index for index, _ in group]
        yield (f"{places[0]}" if len(places) == 1 else f"{places[0]}-{places[-1]}"), element


def property_text(value: bytes) -> str:
    """The value of a devicetree property: a text, a little-endian number of 4 or 8 bytes, or bytes in hex."""
    if value.endswith(b"\0") and len(value) > 1 and set(value[:-1]) <= _PRINTABLE:
        return f'"{safe_text(value[:-1])}"'
    if len(value) in (4, 8):
        return f"<{int.from_bytes(value, 'little'):#x}>"
    return f"[{bytes_text(value[:64])}{' …' if len(value) > 64 else ''}]"


def machine_text(memory: Memory) -> str:
    """The machine of a source and its RAM, in words. Empty if the source has neither."""
    ram = sum(end - start for start, end in memory.known_ram)
    return ", ".join(filter(None, (MACHINES.get(memory.machine or 0), f"{rounded_size(ram)} RAM" if ram else "")))
