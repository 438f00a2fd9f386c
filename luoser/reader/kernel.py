# SPDX-License-Identifier: MIT
"""The running kernel's own variables: what `kho_in`, `kho_out`, `kho_scratch` and `luo_global` point to.

With VMCOREINFO a symbol's virtual address becomes a physical one: phys_base on x86-64, kimage_voffset on
arm64. Offsets inside of the variables differ by release and configuration, so none is written down here: debug
info names the members, and without it every aligned word is tried that may point to a root.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from luoser.abi.kho import kho_scratch
from luoser.errors import MissingMemory, SourceError
from luoser.memory.elf import parse_vmcoreinfo
from luoser.reader.walk import Walk
from luoser.symbols import Symbol, Symbols
from luoser.text import safe_text

__all__ = ["SYMBOLS", "Kernel", "Pointer", "find_kernels"]

SYMBOLS = frozenset(
    (
        *("kho_in", "kho_out", "kho_scratch", "kho_scratch_cnt", "luo_global"),
        *("_stext", "swapper_pg_dir", "init_uts_ns", "linux_banner", "page_offset_base", "vmemmap_base"),
    )
)
"""What `luoser.symbols.read_symbols` has to look for."""
_ANCHORS = ("_stext", "swapper_pg_dir", "init_uts_ns")
_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_PAGE_OFFSET = 0xFFFF_8880_0000_0000
"""x86-64's direct map where the kernel was built without a variable for it."""
_WORD = (1 << 64) - 1
_BANNER = b"Linux version "
_INFO = b"OSRELEASE="
_SCRATCH_AREAS = 4096


@dataclass(frozen=True, slots=True)
class Pointer:
    """A physical address that a variable holds, and the name of what holds it, such as `kho_in.fdt_phys`."""

    address: int
    holder: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in memory whose symbols are known. slide: run-time minus the symbols' addresses, in bytes."""

    walk: Walk
    symbols: Symbols
    info: Mapping[str, str]
    slide: int

    def pointers(self, name: str, members: tuple[str, ...]) -> list[Pointer]:
        """Where the words of a variable may point to: with debug info only the members of these names."""
        symbol = self.symbols.get(name)
        data = self._variable(symbol) if symbol is not None else None
        if symbol is None or data is None:
            return []
        found: list[Pointer] = []
        for place, word in enumerate(struct.unpack_from(f"<{len(data) // 8}Q", data)):
            member = symbol.members.get(8 * place) if symbol.members is not None else None
            if word and (symbol.members is None or (member is not None and member in members)):
                holder = f"{name}.{member}" if member else f"{name}, byte {8 * place}"
                found += [Pointer(address, holder) for address in self._meanings(word)]
        return found

    def scratch(self) -> tuple[int, int] | None:
        """Address and size in bytes of the array that `kho_scratch` points to."""
        pointer, count = self._number("kho_scratch", 8), self._number("kho_scratch_cnt", 4)
        if not pointer or not count or count > _SCRATCH_AREAS:
            return None
        address = self._direct(pointer)
        return None if address is None else (address, count * kho_scratch.size)

    def _variable(self, symbol: Symbol) -> bytes | None:
        address = self._image(symbol.address + self.slide)
        try:
            return self.walk.memory.read(address, symbol.size) if address is not None else None
        except MissingMemory as error:
            self.walk.missing(error, f"variable {symbol.name}")
            return None

    def _number(self, name: str, size: int) -> int | None:
        symbol = self.symbols.get(name)
        data = self._variable(symbol) if symbol is not None else None
        return int.from_bytes(data[:size], "little") if data is not None else None

    def _meanings(self, word: int) -> Iterator[int]:
        """The page that a word may mean: by physical address, through the direct map, or as a struct page."""
        for address in (word, self._direct(word), self._page(word)):
            if address is not None and self.walk.is_page_address(address):
                yield address

    def _image(self, virtual: int) -> int | None:
        """Physical address of a variable of the kernel image."""
        base, offset = _number(self.info, "NUMBER(phys_base)"), _number(self.info, "NUMBER(kimage_voffset)")
        if base is not None:
            return (virtual - _START_KERNEL_MAP + base) & _WORD
        return (virtual - offset) & _WORD if offset is not None else None

    def _direct(self, virtual: int) -> int | None:
        """Physical address behind a pointer into the direct map."""
        if _number(self.info, "NUMBER(phys_base)") is not None:
            known = self.symbols.get("page_offset_base")
            base = self._number("page_offset_base", 8) if known is not None else _PAGE_OFFSET
            return virtual - base if base is not None and base <= virtual < _START_KERNEL_MAP else None
        bits, start = _number(self.info, "NUMBER(VA_BITS)"), _number(self.info, "NUMBER(PHYS_OFFSET)")
        if bits is None or start is None or not 36 <= bits <= 52:
            return None
        base = (1 << 64) - (1 << bits)
        return virtual - base + start if base <= virtual < base + (1 << bits - 1) else None

    def _page(self, virtual: int) -> int | None:
        """Physical address of the page that a struct page describes."""
        base, size = self._number("vmemmap_base", 8), _number(self.info, "SIZE(page)")
        if base is None or not size or not base <= virtual < _START_KERNEL_MAP:
            return None
        index, rest = divmod(virtual - base, size)
        return None if rest else index * self.walk.page_size


def find_kernels(walk: Walk, symbols: Symbols) -> list[Kernel]:
    """The kernels in memory that these symbols belong to; more than one where the previous one still lies there.

    Raises SourceError when the source has VMCOREINFO and the symbols are those of another kernel.
    """
    info = walk.memory.vmcoreinfo
    if info:
        return [_checked(walk, symbols, info)]
    found: list[Kernel] = []
    for data in _vmcoreinfo_pages(walk):
        try:
            kernel = _checked(walk, symbols, parse_vmcoreinfo(data))
        except SourceError:
            continue
        twins = [known for known in found if known._image(known.slide) == kernel._image(kernel.slide)]
        if not twins and _has_banner(kernel):  # a crash kernel is given a copy of the page
            found.append(kernel)
    if not found:
        walk.problem("symbols", None, f"{symbols.path}: no VMCOREINFO of this kernel in the source; symbols not used")
    return found


def _vmcoreinfo_pages(walk: Walk) -> Iterator[bytes]:
    for address in walk.memory.find_pages(_INFO):
        try:
            page = walk.memory.read(address, walk.page_size)
        except MissingMemory:
            continue
        yield page.partition(b"\0")[0]


def _checked(walk: Walk, symbols: Symbols, info: Mapping[str, str]) -> Kernel:
    """The kernel, if the symbols that VMCOREINFO names lie as far from each other as here, with the same build id."""
    release = safe_text(info.get("OSRELEASE", "?"))
    theirs = info.get("BUILD-ID")
    if symbols.build_id and theirs and symbols.build_id != theirs:
        raise SourceError(
            f"{symbols.path}: build id {symbols.build_id}, but the kernel in this source, {release}, has {theirs}"
        )
    slides = {
        said - symbol.address
        for name in _ANCHORS
        if (said := _number(info, f"SYMBOL({name})", base=16)) is not None and (symbol := symbols.get(name))
    }
    if len(slides) > 1:
        raise SourceError(f"{symbols.path}: the symbols of another kernel than {release}: {', '.join(_ANCHORS)} differ")
    if not slides:
        raise SourceError(f"{symbols.path}: VMCOREINFO and these symbols have none of {', '.join(_ANCHORS)} in common")
    return Kernel(walk, symbols, info, slides.pop())


def _has_banner(kernel: Kernel) -> bool:
    """Whether the image of this kernel lies where its VMCOREINFO says: the page may be the previous kernel's."""
    symbol = kernel.symbols.get("linux_banner")
    wanted = _BANNER + kernel.info.get("OSRELEASE", "").encode() + b" "
    address = kernel._image(symbol.address + kernel.slide) if symbol is not None else None
    try:
        return address is not None and kernel.walk.memory.read(address, len(wanted)) == wanted
    except MissingMemory:
        return False


def _number(info: Mapping[str, str], key: str, *, base: int = 0) -> int | None:
    try:
        return int(info[key], base)
    except (KeyError, ValueError):
        return None
