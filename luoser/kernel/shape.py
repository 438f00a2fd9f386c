# SPDX-License-Identifier: MIT
"""A kernel whose VMCOREINFO is lost: its kallsyms are found by their shape, and say what VMCOREINFO would.

The table of tokens has the ten digits one after another. Around it lie, in this order: number of symbols, names,
markers, tokens, index of tokens, offsets. Variables of the kernel say where its image is.

Source: scripts/kallsyms.c, arch/x86/kernel/head_64.S, arch/arm64/kernel/head.S from 6.12 to 7.3.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from luoser.errors import MissingMemory
from luoser.kernel.kallsyms import Kallsyms, KernelSymbol, NoKallsyms, find_kallsyms
from luoser.kernel.space import START_KERNEL_MAP, AddressSpace, Unmapped
from luoser.memory.source import Memory
from luoser.text import safe_text

__all__ = ["kallsyms_places", "recovered_infos"]

_DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
_BEFORE = 0x30
"""Tokens before that of the digit 0."""
_TOKENS, _MARKED = 256, 256
_TABLE, _MARKERS = 1 << 13, 1 << 16
_NAME = 130
"""Bytes of a name, at most: of all names after the last marker."""
_REACH, _STEP = 256 << 20, 64 << 10
"""How far the image can reach to both sides of the tables, and the alignment of an image."""
_WORD = (1 << 64) - 1
_FIVE_LEVELS = 48
"""pgdir_shift with page tables of five levels."""
_TABLE_NAMES = ("names", "num_syms", "token_table", "token_index", "offsets", "relative_base")
_VARIABLES = (
    *("_text", "_stext", "linux_banner", "swapper_pg_dir", "init_top_pgt", "init_uts_ns"),
    *("phys_base", "pgdir_shift", "sme_me_mask", "vmalloc_base"),
    *("kimage_voffset", "memstart_addr", "high_memory"),
)
_BANNER = re.compile(rb"Linux version (\S+) ")
_LOST = (MissingMemory, Unmapped, NoKallsyms, struct.error, ValueError)


def kallsyms_places(memory: Memory) -> Iterator[int]:
    """Physical addresses of what looks like a part of kallsyms: the tokens of the ten digits."""
    return memory.find(_DIGITS)


def recovered_infos(memory: Memory, places: Iterable[int]) -> Iterator[Mapping[str, str]]:
    """What VMCOREINFO of each kernel in a source would say, value by key, as far as symbols and addresses need it.

    memory: of which no VMCOREINFO was found.
    places: those of `kallsyms_places` to try.
    """
    for place in places:
        try:
            tables = _tables(memory, place)
            info = _placed(memory, tables) if tables is not None else None
        except _LOST:
            continue
        if info is not None:
            yield info


def _tables(memory: Memory, digits: int) -> dict[str, int] | None:
    """Physical addresses of the tables around the digits, and the number of symbols. None: no such tables."""
    _, low = _until(memory, max(0, digits - _TABLE), digits)
    before = low.split(b"\0")[:-1][-_BEFORE:]
    tokens = digits - sum(len(text) + 1 for text in before)
    data = _from(memory, tokens, _TABLE)
    parts = data.split(b"\0")[:_TOKENS]
    starts, end = [], 0
    for text in parts:
        starts.append(end)
        end += len(text) + 1
    index = next((tokens + place for place in range(end, end + 9) if _is_index(data, place, starts)), None)
    markers = _markers(memory, tokens) if index is not None and len(parts) == _TOKENS else None
    if index is None or markers is None:
        return None
    start, marks = markers
    found = _names(memory, start, marks)
    if found is None:
        return None
    names, number, count = found
    offsets = -(-(index + 2 * _TOKENS) // 4) * 4
    return {
        "names": names,
        "num_syms": number,
        "token_table": tokens,
        "token_index": index,
        "offsets": offsets,
        "count": count,
    }


def _is_index(data: bytes, place: int, starts: list[int]) -> bool:
    return data[place : place + 2 * _TOKENS] == struct.pack(f"<{_TOKENS}H", *starts)


def _markers(memory: Memory, end: int) -> tuple[int, list[int]] | None:
    """(address of the markers, their values), which end at the tokens, or four bytes before."""
    low, data = _until(memory, max(0, end - _MARKERS) // 4 * 4, end)
    words = struct.unpack(f"<{(end - low) // 4}I", data[(end - low) % 4 :])
    for skip in (0, 1):
        place = len(words) - skip
        while place > 0 and (words[place - 1] < words[place] if place < len(words) - skip else words[place - 1]):
            place -= 1
            if words[place] == 0:
                return end - 4 * (len(words) - place), list(words[place : len(words) - skip])
    return None


def _names(memory: Memory, end: int, marks: list[int]) -> tuple[int, int, int] | None:
    """(address of the names, address of their number, number) by the markers, which end after the names."""
    high = (end - marks[-1]) // 4 * 4
    low, data = _until(memory, max(0, high - _MARKED * _NAME), high)
    for start in range(high - 4, low + 8, -4):
        for number in (start - 4, start - 8):
            count = int.from_bytes(data[number - low : number - low + 4], "little")
            if (len(marks) - 1) * _MARKED < count <= len(marks) * _MARKED and _fits(memory, start, marks, count):
                return start, number, count
    return None


def _until(memory: Memory, low: int, high: int) -> tuple[int, bytes]:
    """(address, bytes) of memory up to an address, as far back as it is in the source, at most to `low`."""
    while True:
        try:
            return low, memory.read(low, high - low)
        except MissingMemory as error:
            low = max(low, error.address) // 4096 * 4096 + 4096
            if low >= high:
                raise


def _from(memory: Memory, start: int, size: int) -> bytes:
    """Bytes of memory from an address on, as far as it is in the source."""
    try:
        return memory.read(start, size)
    except MissingMemory as error:
        return memory.read(start, error.address - start) if error.address > start else b""


def _fits(memory: Memory, start: int, marks: list[int], count: int) -> bool:
    """Whether as many names as a marker says are between the first two, and the rest after the last."""
    first = min(count, _MARKED)
    data, place = _from(memory, start, first * _NAME), 0
    for _ in range(first):
        if place >= len(data) - 2:
            return False
        size = data[place]
        place += 1 + size if size < 0x80 else 2 + ((size & 0x7F) | data[place + 1] << 7)
        if not size:
            return False
    return len(marks) == 1 or place == marks[1]


def _placed(memory: Memory, tables: dict[str, int]) -> Mapping[str, str] | None:
    """VMCOREINFO for tables of which the physical addresses are known. None: the image cannot be placed."""
    # 7.0 and later count from the place of each offset: any place that is assumed for the image gives right distances.
    assumed = max(0, tables["token_table"] - _REACH) // _STEP * _STEP
    found = _told(memory, tables, find_kallsyms(_space(memory, tables, assumed), alone=True), assumed, [assumed])
    if found is not None:
        return found
    for padding in (0, 4):  # before 7.0 a base follows the offsets
        tables["relative_base"] = -(-(tables["offsets"] + 4 * tables["count"] + padding) // 8) * 8
        kallsyms = find_kallsyms(_space(memory, tables, assumed), alone=True)
        places = range(assumed, tables["token_table"], _STEP)
        if (found := _told(memory, tables, kallsyms, None, places)) is not None:
            return found
    return None


def _told(
    memory: Memory, tables: dict[str, int], kallsyms: Kallsyms, assumed: int | None, places: Iterable[int]
) -> Mapping[str, str] | None:
    """VMCOREINFO of an image that lies where its own variable says so.

    assumed: the place of the image by which addresses of symbols are made. None: they are the true ones.
    places:  physical ones of the image, to try.
    """
    symbols = kallsyms.get(_VARIABLES)
    if "_text" not in symbols or "linux_banner" not in symbols:
        return None
    text = symbols["_text"][0].address
    for place in places:
        delta = place - text if assumed is None else assumed - START_KERNEL_MAP
        for name in ("phys_base", "kimage_voffset"):
            for symbol in symbols.get(name, ()):
                with suppress(MissingMemory):
                    value = _signed(memory.read((symbol.address + delta) & _WORD, 8))
                    said = value - START_KERNEL_MAP if name == "phys_base" else -value
                    if assumed is not None or (said - delta) & _WORD == 0:
                        found = _info_of(memory, tables, symbols, delta, said, is_x86=name == "phys_base")
                        if found is not None:
                            return found
    return None


def _info_of(
    memory: Memory,
    tables: dict[str, int],
    symbols: Mapping[str, list[KernelSymbol]],
    delta: int,
    said: int,
    *,
    is_x86: bool,
) -> Mapping[str, str] | None:
    """delta: from the addresses of `symbols` to physical ones. said: from true virtual addresses to physical ones."""

    def number(name: str, size: int = 8) -> int | None:
        if name not in symbols:
            return None
        return int.from_bytes(memory.read((symbols[name][0].address + delta) & _WORD, size), "little")

    banner = _BANNER.match(memory.read((symbols["linux_banner"][0].address + delta) & _WORD, 128))
    if banner is None or (symbols["linux_banner"][0].address + delta - said) & _WORD < 1 << 63:
        return None  # an image that never ran
    info = {"OSRELEASE": safe_text(banner[1])}
    for name in ("_stext", "swapper_pg_dir", "init_top_pgt", "init_uts_ns"):
        if name in symbols:
            info[f"SYMBOL({name})"] = f"{(symbols[name][0].address + delta - said) & _WORD:x}"
    for name in _TABLE_NAMES:
        if name in tables:
            info[f"SYMBOL(kallsyms_{name})"] = f"{(tables[name] - said) & _WORD:x}"
    if is_x86:
        info["NUMBER(phys_base)"] = f"{said + START_KERNEL_MAP}"
        info["NUMBER(pgtable_l5_enabled)"] = f"{int(number('pgdir_shift', 4) == _FIVE_LEVELS)}"
        info["NUMBER(sme_mask)"] = f"{number('sme_me_mask') or 0}"
        return info | ({"NUMBER(VMALLOC_START)": f"{start:#x}"} if (start := number("vmalloc_base")) else {})
    info["NUMBER(kimage_voffset)"] = f"{-said & _WORD:#x}"
    info["NUMBER(PHYS_OFFSET)"] = f"{number('memstart_addr') or 0:#x}"
    top = number("high_memory") or 0  # in the direct map, whose addresses begin with as many ones as it has no bits
    bits = (~top & _WORD).bit_length()
    return info | {"NUMBER(VA_BITS)": f"{bits}"}


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _space(memory: Memory, tables: dict[str, int], assumed: int) -> AddressSpace:
    """An image at a physical address, with the addresses of an x86-64 kernel."""
    info = {
        f"SYMBOL(kallsyms_{name})": f"{tables[name] - assumed + START_KERNEL_MAP:x}"
        for name in _TABLE_NAMES
        if name in tables
    }
    return AddressSpace(memory, info | {"NUMBER(phys_base)": f"{assumed}"}, memory.page_size or 4096)
