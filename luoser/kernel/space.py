# SPDX-License-Identifier: MIT
"""Virtual addresses of a kernel in memory: its image, its direct map and, for the rest, its page tables.

VMCOREINFO has what is needed: phys_base on x86-64, kimage_voffset, VA_BITS and PHYS_OFFSET on arm64.

Source: arch/x86/include/asm/page_64.h, arch/arm64/include/asm/memory.h, kernel/vmcore_info.c of 7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.errors import MissingMemory
from luoser.memory.source import Memory

__all__ = ["START_KERNEL_MAP", "AddressSpace", "Unmapped", "hex_number", "info_number"]

START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Where x86-64 maps the kernel image: __START_KERNEL_map of arch/x86/include/asm/page_64_types.h."""
_IMAGE_SIZE = 1 << 30
_WORD = (1 << 64) - 1
_TAG = 0xFF << 56
"""Bits of the KASAN tag in an arm64 pointer."""
_UPPER_HALF = 1 << 63
_PRESENT, _HUGE = 1, 0x80
_TRANSLATIONS, _BYTES = 1 << 14, 32 << 20
"""Translations, and bytes of pages, that are remembered; beyond that all are forgotten."""
_BEFORE, _AFTER = 2 << 20, 256 << 20
"""Bytes of an arm64 image before and after `_stext`, at most."""
_NARROWEST, _WIDEST = 36, 52
"""Bits of an arm64 virtual address."""
_PHYSICAL = 1 << 52
"""No machine has physical addresses from here on."""


class Unmapped(Exception):
    """A virtual address that leads nowhere. Its text says why."""


def info_number(info: Mapping[str, str], key: str) -> int | None:
    """A NUMBER of VMCOREINFO, decimal or with 0x. None: not there, or no number."""
    return _number(info.get(key), 0)


def hex_number(info: Mapping[str, str], key: str) -> int | None:
    """A SYMBOL, KERNELOFFSET or the like of VMCOREINFO: hexadecimal without 0x. None: not there, or no number."""
    return _number(info.get(key), 16)


def _number(text: str | None, base: int) -> int | None:
    try:
        return int(text, base) if text is not None and len(text) <= 24 else None
    except ValueError:
        return None


@dataclass(slots=True)
class AddressSpace:
    """The virtual memory of one kernel.

    memory:      the source.
    info:        VMCOREINFO of the kernel, value by key.
    page_size:   of the kernel, in bytes.
    page_offset: virtual address of the direct map of x86-64. None: not known yet, page tables are used.
    """

    memory: Memory
    info: Mapping[str, str]
    page_size: int = 4096
    page_offset: int | None = None
    _known: dict[int, int] = field(default_factory=dict)
    _pages: dict[int, bytes] = field(default_factory=dict)

    @property
    def is_x86(self) -> bool:
        """Whether the kernel is one of x86-64."""
        return "NUMBER(phys_base)" in self.info

    def image(self, virtual: int) -> int | None:
        """Physical address of a virtual address in the kernel image. None: unknown."""
        base, offset = info_number(self.info, "NUMBER(phys_base)"), info_number(self.info, "NUMBER(kimage_voffset)")
        if base is not None:
            return (virtual - START_KERNEL_MAP + base) & _WORD
        return None if offset is None else (virtual - offset) & _WORD

    def identity(self) -> tuple[int, int, str]:
        """(virtual and physical address of _stext, build id): by what a kernel is known, 0 and empty if unknown."""
        text = hex_number(self.info, "SYMBOL(_stext)") or 0
        return text, self.image(text) or 0, self.info.get("BUILD-ID", "")

    @property
    def knows_direct(self) -> bool:
        """Whether it is known where the direct map is."""
        return self.page_offset is not None if self.is_x86 else self._arm64_direct() is not None

    def _arm64_direct(self) -> tuple[int, int] | None:
        """(bits of a virtual address, physical address of the direct map's start) of an arm64 kernel."""
        bits, start = info_number(self.info, "NUMBER(VA_BITS)"), info_number(self.info, "NUMBER(PHYS_OFFSET)")
        return None if bits is None or start is None or not _NARROWEST <= bits <= _WIDEST else (bits, start)

    def direct(self, virtual: int) -> int | None:
        """Physical address of a pointer into the direct map. None: not such a pointer, or the map is unknown."""
        address = self._direct(virtual)
        return address if address is not None and address < _PHYSICAL else None

    def _direct(self, virtual: int) -> int | None:
        if self.is_x86:
            end = info_number(self.info, "NUMBER(VMALLOC_START)") or START_KERNEL_MAP
            base = self.page_offset
            return virtual - base if base is not None and base <= virtual < max(end, base) else None
        known = self._arm64_direct()
        if known is None:
            return None
        bits, start = known
        # A 52-bit kernel on a machine with less keeps its formula and moves PHYS_OFFSET, below zero if need be.
        base, end = -(1 << bits) & _WORD, -(1 << self._usable_bits(bits) - 1) & _WORD
        virtual |= _TAG
        return (virtual - base + start) & _WORD if base <= virtual < end else None

    def _usable_bits(self, bits: int) -> int:
        """Bits of a virtual address that the machine has, of those that the kernel was built for."""
        unused = info_number(self.info, "NUMBER(TCR_EL1_T1SZ)")
        return 64 - unused if unused is not None and 64 - bits <= unused <= 64 - _NARROWEST else bits

    def physical(self, virtual: int) -> int:
        """Physical address of a virtual one. Raises Unmapped, or MissingMemory if a page table is not in the source."""
        page = virtual // self.page_size
        known = self._known.get(page)
        if known is None:
            if virtual < _UPPER_HALF:
                raise Unmapped(f"{virtual:#x} is not an address of a kernel")
            known = self._translated(page * self.page_size)
            if len(self._known) >= _TRANSLATIONS:
                self._known.clear()
            self._known[page] = known
        return known + virtual % self.page_size

    def _translated(self, virtual: int) -> int:
        direct = self.direct(virtual)
        if direct is not None:
            return direct
        start, last, end = self._image_bounds()
        image = self.image(virtual)
        if image is not None and start <= virtual < last:
            return image
        try:
            return self._by_tables(virtual)
        except MissingMemory:
            if image is not None and last <= virtual < end:
                return image
            raise

    def _image_bounds(self) -> tuple[int, int, int]:
        """(start, end that is certain, end at most) of the image.

        That of arm64 may be among vmalloc areas: what is after the last symbol of VMCOREINFO may not be the image.
        """
        if self.is_x86:
            end = START_KERNEL_MAP + (info_number(self.info, "NUMBER(KERNEL_IMAGE_SIZE)") or _IMAGE_SIZE)
            return START_KERNEL_MAP, end, end
        start = hex_number(self.info, "SYMBOL(_stext)")
        if start is None:
            return 0, 0, 0
        symbols = (hex_number(self.info, key) or 0 for key in self.info if key.startswith("SYMBOL("))
        last = max(symbol for symbol in symbols if symbol < start + _AFTER)
        return start - _BEFORE, last + self.page_size, start + _AFTER

    def _by_tables(self, virtual: int) -> int:
        root = hex_number(self.info, "SYMBOL(swapper_pg_dir)") or hex_number(self.info, "SYMBOL(init_top_pgt)")
        table = self.image(root) if root is not None else None
        if table is None:
            raise Unmapped(f"{virtual:#x}: VMCOREINFO does not say where the page tables are")
        return self._x86(virtual, table) if self.is_x86 else self._arm64(virtual, table)

    def _x86(self, virtual: int, table: int) -> int:
        encrypted = info_number(self.info, "NUMBER(sme_mask)") or 0
        five = info_number(self.info, "NUMBER(pgtable_l5_enabled)") == 1
        for level in range(5 if five else 4, 0, -1):
            shift = 12 + 9 * (level - 1)
            entry = self._entry(table, virtual >> shift & 511)
            if not entry & _PRESENT:
                raise Unmapped(f"{virtual:#x} is not mapped (level {level} of the page tables)")
            address = entry & 0x000F_FFFF_FFFF_F000 & ~encrypted
            if level == 1 or (level <= 3 and entry & _HUGE):
                return address & -(1 << shift) | virtual & (1 << shift) - 1
            table = address
        raise Unmapped(f"{virtual:#x} is not mapped")

    def _arm64(self, virtual: int, table: int) -> int:
        shift = self.page_size.bit_length() - 1
        built = info_number(self.info, "NUMBER(VA_BITS)")
        if built is None or not _NARROWEST <= built <= _WIDEST:
            raise Unmapped(f"{virtual:#x}: VMCOREINFO has no VA_BITS")
        # With 64 KiB pages the first table is that of 52 bits, of which less capable machines use the end.
        bits = built if shift == 16 else self._usable_bits(built)
        step = shift - 3
        levels = -(-(bits - shift) // step)
        for level in range(levels, 0, -1):
            low = shift + step * (level - 1)
            width = bits - low if level == levels else step
            entry = self._entry(table, virtual >> low & (1 << width) - 1)
            if not entry & 1 or (level == 1 and not entry & 2):
                raise Unmapped(f"{virtual:#x} is not mapped (level {level} of the page tables)")
            address = self._arm64_address(entry, shift, wide=bits == _WIDEST and shift < 16)
            if level == 1 or not entry & 2:
                return address & -(1 << low) | virtual & (1 << low) - 1
            table = address
        raise Unmapped(f"{virtual:#x} is not mapped")

    @staticmethod
    def _arm64_address(entry: int, shift: int, *, wide: bool) -> int:
        """Physical address in a descriptor. Bits 48 to 51 of 64 KiB pages are in 12 to 15; LPA2 has 50, 51 in 8, 9."""
        if shift == 16:
            return entry & 0x0000_FFFF_FFFF_0000 | (entry >> 12 & 15) << 48
        if wide:
            return entry & (1 << 50) - (1 << shift) | (entry >> 8 & 3) << 50
        return entry & (1 << 48) - (1 << shift)

    def _entry(self, table: int, index: int) -> int:
        self.memory.keep(table + 8 * index, 8)
        with self.memory.exactly():
            return int.from_bytes(self.memory.read(table + 8 * index, 8), "little")

    def keep(self, virtual: int, size: int, *, is_name: bool = False) -> None:
        """Note that bytes at a virtual address belong to what is read. Raises as `read`. The others: `Memory.keep`."""
        while size > 0:
            take = min(size, self.page_size - virtual % self.page_size)
            self.memory.keep(self.physical(virtual), take, is_name=is_name)
            virtual, size = virtual + take, size - take

    def read(self, virtual: int, size: int) -> bytes:
        """Bytes at a virtual address. Raises Unmapped, or MissingMemory if a page is not in the source."""
        page, skip = divmod(virtual, self.page_size)
        if skip + size <= self.page_size:
            return self._part(page, skip, size)
        parts = []
        while size > 0:
            part = self._part(page, skip, min(size, self.page_size - skip))
            parts.append(part)
            page, skip, size = page + 1, 0, size - len(part)
        return b"".join(parts)

    def _part(self, page: int, skip: int, size: int) -> bytes:
        """Bytes of a page, which is remembered. A cut without contents may have these bytes alone."""
        known = self._pages.get(page)
        if known is None:
            place = self.physical(page * self.page_size)
            if self.memory.withholds(place, self.page_size):
                with self.memory.exactly():
                    return self.memory.read(place + skip, size)
            known = self.memory.read(place, self.page_size)
            if len(self._pages) * self.page_size >= _BYTES:
                self._pages.clear()
            self._pages[page] = known
        return known[skip : skip + size]

    def number(self, virtual: int, size: int) -> int:
        """A little-endian number of `size` bytes, which are kept. Raises as `read`."""
        self.keep(virtual, size)
        return int.from_bytes(self.read(virtual, size), "little")

    def holds(self, virtual: int, size: int) -> bool:
        """Whether the bytes at a virtual address are in the source."""
        try:
            self.read(virtual, size)
        except (Unmapped, MissingMemory):
            return False
        return True
