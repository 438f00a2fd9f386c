# SPDX-License-Identifier: MIT
"""Members of structs, and facts about one thing, as text."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from luoser.abi.memfd import SEALS
from luoser.abi.schema import set_bits
from luoser.state import Hex
from luoser.text import bdf_text, bytes_text, counted, human_size, rounded_size, safe_text

if TYPE_CHECKING:  # a folio is decoded without them
    from luoser.memory.source import Memory
    from luoser.state import Device, DeviceList, Memfd, PreservedMap, Record

__all__ = [
    "device_columns",
    "in_brackets",
    "lost_folios",
    "machine_text",
    "members",
    "memfd_text",
    "place_text",
    "preserved_note",
    "property_text",
    "record_text",
    "value_text",
]

_WORDS = 16
"""Most words of an array in a line. --full and JSON have all."""
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
    from luoser.memory.source import MACHINES

    ram = sum(end - start for start, end in memory.known_ram)
    return ", ".join(filter(None, (MACHINES.get(memory.machine or 0), f"{rounded_size(ram)} RAM" if ram else "")))


def preserved_note(found: PreservedMap | None, address: int, *, brief: bool = False) -> str:
    """Whether an address is preserved, in words.

    found: the preserved map. None if it cannot be read.
    brief: nothing about an address that is preserved, or if the map cannot be read: it says so itself.
    """
    block = found.find(address) if found is not None else None
    if brief and (found is None or block is not None):
        return ""
    if found is None:
        return "map not readable"
    if block is None:
        return "not preserved" if found.complete else "not in the part of the map that can be read"
    offset = address - block.address
    return f"preserved, order {block.order}" + (f", {offset:#x} into its block" if offset else "")


def lost_folios(found: PreservedMap | None, memfd: Memfd | None) -> str:
    """How many folios of a memfd are not preserved, in words. Empty: none, or not the whole map is known.

    found: the preserved map. None if it cannot be read.
    """
    if found is None or memfd is None or not found.complete:
        return ""
    addresses = list(memfd.folios.list.addresses())
    lost = sum(order is None for address, order in zip(addresses, found.heads(addresses), strict=True) if address)
    return f"{lost} of {counted(len(addresses), 'folio')} not preserved" if lost else ""


def device_columns(
    devices: DeviceList, device: Device, found: PreservedMap | None, *, brief: bool = False
) -> Iterator[tuple[str, str]]:
    """(member, text) for each member of a device except `path`, in the order of the layout.

    devices: the list that it is in.
    found:   the preserved map. None if it cannot be read.
    brief:   no addresses that are 0, and as of `preserved_note`.
    """
    for name, value in device.fields.items():
        column = devices.column(name)
        is_address = column is not None and column.kind in ("address", "handle")
        if name == "path" or (brief and is_address and not value):
            continue
        if column is not None and column.kind == "flags" and isinstance(value, int):
            yield name, " | ".join(set_bits(value, column.bit_names)) or "0"
        elif is_address and isinstance(value, int):
            yield name, f"{value:#x}{in_brackets(preserved_note(found, value, brief=brief))}" if value else "0x0"
        elif column is not None and column.is_hex and isinstance(value, int):
            yield name, f"{value:#x}"
        elif isinstance(value, tuple):
            used = sum(1 for item in value if item.get("end"))
            yield name, f"{used} of {len(value)} in use"
        else:
            yield name, safe_text(value) if isinstance(value, str) else str(value)


def in_brackets(note: str) -> str:
    """` (note)`, or nothing for an empty one."""
    return f" ({note})" if note else ""


def record_text(record: Record, *, full: bool = False) -> str:
    """A struct in a line: each layout that fits, arrays, and why these layouts. full: show all words of arrays."""
    readings = [f"{layout}: {members(fields)}" for layout, fields in record.readings]
    arrays = [f"  {safe_text(array.member)}: {_words(array.words, full)}" for array in record.arrays]
    return f"{' or '.join(readings)}{''.join(arrays)}  ({safe_text(record.confidence, again=True)})"


def _words(words: tuple[int, ...], full: bool) -> str:
    shown = words if full else words[:_WORDS]
    more = f" and {len(words) - len(shown)} more" if len(words) > len(shown) else ""
    return f"[{', '.join(f'{word:#x}' for word in shown)}]{more}"


def memfd_text(memfd: Memfd, *, page_size: int | None = None) -> str:
    """Size, folios, position and seals of a memfd in a line.

    page_size: of the kernel. The folios are left out if they are one for each page. None: they are shown, with the
               address of their array.
    """
    names = [name for bit, name in SEALS.items() if (memfd.seals or 0) & bit]
    unknown = (memfd.seals or 0) & ~sum(SEALS)
    seals = " | ".join([*names, *([f"{unknown:#x}"] if unknown else [])])
    readable, count = len(memfd.folios.list), memfd.folios.count
    is_plain = page_size is not None and count == -(-memfd.size // page_size)
    array = f", array at {memfd.folios.address:#x}" if page_size is None and memfd.folios.address else ""
    return "".join(
        (
            human_size(memfd.size),
            "" if is_plain else f", {counted(count, 'folio')}{array}",
            f", position {memfd.position:#x}" if memfd.position else "",
            f"  seals {seals}" if seals else "",
            "" if readable == count else f" ({readable} of the folios readable)",
        )
    )
