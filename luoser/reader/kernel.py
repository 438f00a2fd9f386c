# SPDX-License-Identifier: MIT
"""Variables of the running kernel: the addresses in `kho_in`, `kho_out`, `kho_scratch` and `luo_global`.

VMCOREINFO gives the physical address of a symbol: phys_base on x86-64, kimage_voffset on arm64. Offsets in the
variables depend on release and configuration, so there are none here: debug info has the members; without it each
aligned word is tried that may point to a root.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from luoser.abi.kho import kho_scratch
from luoser.errors import MissingMemory, SourceError
from luoser.memory.elf import parse_vmcoreinfo
from luoser.reader.walk import Subject, Walk
from luoser.symbols import Symbols
from luoser.text import safe_text

__all__ = ["SYMBOLS", "Kernel", "Pointer", "find_kernels"]

_AREAS = (("kho_scratch", "kho_scratch_cnt"), ("kho_bootmem", "kho_bootmem_cnt"))
"""Pointer to the array of scratch areas, and their number; scratch is to be called bootmem from 7.4 on."""
_ANCHORS = (
    *("_stext", "swapper_pg_dir", "init_top_pgt", "init_uts_ns"),
    *("kallsyms_names", "prb", "clear_seq", "node_data"),
)
"""Symbols that are also in VMCOREINFO, in text, data, read-only data and bss. They identify the build."""
SYMBOLS = frozenset(
    ("kho_in", "kho_out", *(name for names in _AREAS for name in names), "luo_global", "page_offset_base", *_ANCHORS)
)
"""Names that `luoser.symbols.read_symbols` has to find."""
_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_PAGE_OFFSET = 0xFFFF_8880_0000_0000
"""Start of the direct map of x86-64 if the kernel has no variable for it."""
_WORD = (1 << 64) - 1
_TAG = 0xFF << 56
"""Bits of the KASAN tag in an arm64 pointer."""
_WORDS = 128
"""Bytes of a variable that are searched for a pointer. In all releases it is in there; bytes after it may be another
variable without a symbol."""
_INFO = b"OSRELEASE="
_INFO_PAGES, _KERNELS = 4096, 16
_UTS_FIELD, _UTS_RELEASE = 65, 2
_SCRATCH_AREAS = 4096


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer in a variable.

    address: physical.
    holder:  the variable with its member, such as `kho_in.fdt_phys`.
    """

    address: int
    holder: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in memory with known symbols.

    walk:    the source.
    symbols: of this kernel.
    info:    its VMCOREINFO, value by key.
    slide:   bytes to add to the address of a symbol (KASLR).
    """

    walk: Walk
    symbols: Symbols
    info: Mapping[str, str]
    slide: int

    def reads(self, name: str) -> bool:
        """Whether a variable has a symbol and its bytes are in the source."""
        return bool(self._read(name, _WORDS))

    def pointers(self, name: str, members: tuple[str, ...]) -> list[Pointer]:
        """Possible pointers to pages in a variable.

        name:    of the variable.
        members: with debug info, only these members are used.
        """
        symbol = self.symbols.get(name)
        if symbol is None:
            return []
        known = symbol.members or {}
        if not any(member in members for member in known.values()):
            known = {}
        data = self._read(name, symbol.size if known else _WORDS)
        found: list[Pointer] = []
        for place, word in enumerate(struct.unpack_from(f"<{len(data) // 8}Q", data)):
            member = known.get(8 * place)
            if word and (not known or member in members):
                holder = f"{name}.{member}" if member else f"{name}, byte {8 * place}"
                found += [Pointer(address, holder) for address in self._meanings(word)]
        return found

    def scratch(self) -> tuple[int, int] | None:
        """(physical address, size in bytes) of the array that `kho_scratch` (bootmem) points to. None: unknown."""
        known = next((names for names in _AREAS if self.symbols.get(names[0]) is not None), _AREAS[0])
        pointer, count = self._number(known[0], 8), self._number(known[1], 4)
        if not pointer or not count or count > _SCRATCH_AREAS:
            return None
        address = self._direct(pointer)
        return None if address is None else (address, count * kho_scratch.size)

    def _read(self, name: str, size: int) -> bytes:
        """The first bytes of a variable. Empty: no symbol, or not in the source."""
        symbol = self.symbols.get(name)
        address = _image(self.info, symbol.address + self.slide) if symbol is not None else None
        if symbol is None or address is None:
            return b""
        return self.walk.read(address, min(size, symbol.size), Subject(f"variable {name}", "")) or b""

    def _number(self, name: str, size: int) -> int | None:
        data = self._read(name, size)
        return int.from_bytes(data, "little") if len(data) == size else None

    def _meanings(self, word: int) -> Iterator[int]:
        """Pages that a word may point to: as physical address, through the direct map, or as a struct page."""
        for address in (word, self._direct(word), self._page(word)):
            if address is not None and self.walk.is_page_address(address):
                yield address

    def _direct(self, virtual: int) -> int | None:
        """Physical address of a pointer into the direct map. None: not such a pointer."""
        if _number(self.info, "NUMBER(phys_base)") is not None:
            known = self.symbols.get("page_offset_base")
            base = self._number("page_offset_base", 8) if known is not None else _PAGE_OFFSET
            return virtual - base if base is not None and base <= virtual < _START_KERNEL_MAP else None
        bits, start = _number(self.info, "NUMBER(VA_BITS)"), _number(self.info, "NUMBER(PHYS_OFFSET)")
        if bits is None or start is None or not 36 <= bits <= 52:
            return None
        # A 52-bit kernel on a machine with less keeps its formula and moves PHYS_OFFSET, below zero if need be.
        unused = _number(self.info, "NUMBER(TCR_EL1_T1SZ)")
        usable = 64 - unused if unused is not None and 64 - bits <= unused <= 28 else bits
        base, end = -(1 << bits) & _WORD, -(1 << usable - 1) & _WORD
        virtual |= _TAG
        return (virtual - base + start) & _WORD if base <= virtual < end else None

    def _page(self, virtual: int) -> int | None:
        """Physical address of the page of a struct page. None: not a pointer to one."""
        base, size = _number(self.info, "SYMBOL(vmemmap)", base=16), _number(self.info, "SIZE(page)")
        if not base or not size:
            return None
        index, rest = divmod((virtual - base) & _WORD, size)
        return None if rest else index * self.walk.page_size


def find_kernels(walk: Walk, symbols: Symbols) -> list[Kernel]:
    """The kernels in memory with these symbols. Two if the image of the previous kernel is still there.

    walk:    the source.
    symbols: of the running kernel.

    Empty, with a problem, if a kernel with other symbols is there, too: it may be the running one. Raises SourceError
    if the source has VMCOREINFO and the symbols are those of another kernel.
    """
    info = walk.memory.vmcoreinfo
    if info:
        kernel = _checked(walk, symbols, info)
        if _is_there(walk, info) is not False:
            return [kernel]
        text = f"kernel {_release(info)} of VMCOREINFO is not in this source; symbols not used"
        walk.problem("symbols", None, None, text)
        return []
    found: list[Kernel] = []
    others: dict[str, str] = {}
    for info in _kernel_infos(walk):
        try:
            found.append(_checked(walk, symbols, info))
        except SourceError as error:
            others[_release(info)] = str(error)
    if found and others:
        word = f"kernel {', '.join(others)} is in this source, too: unknown which kernel is running"
        walk.problem("symbols", None, None, f"{symbols.path}: {word}; symbols not used")
        return []
    if not found:
        word = f" ({'; '.join(others.values())})" if others else ""
        walk.problem(
            "symbols", None, None, f"{symbols.path}: no kernel with these symbols in this source{word}; not used"
        )
    return found


def _kernel_infos(walk: Walk) -> Iterator[Mapping[str, str]]:
    """VMCOREINFO of each kernel whose image is in the source. A crash kernel has a copy of the page."""
    images: set[int | None] = set()
    for address in islice(walk.memory.find_pages(_INFO), _INFO_PAGES):
        try:
            page = walk.memory.read(address, walk.page_size)
        except MissingMemory:
            continue
        info = parse_vmcoreinfo(page.partition(b"\0")[0])
        image = _image(info, _number(info, "SYMBOL(_stext)", base=16))
        if image not in images and _is_there(walk, info):
            images.add(image)
            yield info
        if len(images) >= _KERNELS:
            return


def _is_there(walk: Walk, info: Mapping[str, str]) -> bool | None:
    """Whether a kernel is at the addresses of its VMCOREINFO, by the release in its utsname. None: unknown."""
    names, offset = _number(info, "SYMBOL(init_uts_ns)", base=16), _number(info, "OFFSET(uts_namespace.name)")
    address = _image(info, names + offset) if names is not None and offset is not None else None
    if address is None:
        return None
    try:
        release = walk.memory.read(address + _UTS_RELEASE * _UTS_FIELD, _UTS_FIELD).split(b"\0")[0]
    except MissingMemory:
        return None
    return bool(release) and safe_text(release) == info.get("OSRELEASE")


def _checked(walk: Walk, symbols: Symbols, info: Mapping[str, str]) -> Kernel:
    """The kernel of some VMCOREINFO, if build id and distances between symbols are the same. Raises SourceError."""
    theirs = info.get("BUILD-ID")
    if symbols.build_id and theirs and symbols.build_id != theirs:
        raise SourceError(
            f"{symbols.path}: wrong build id: expected {theirs} of {_release(info)}, found {symbols.build_id}"
        )
    slides = {
        name: said - symbol.address
        for name in _ANCHORS
        if (said := _number(info, f"SYMBOL({name})", base=16)) is not None and (symbol := symbols.get(name))
    }
    if not slides:
        raise SourceError(f"{symbols.path}: no symbol in common with VMCOREINFO: expected one of {', '.join(_ANCHORS)}")
    first, slide = next(iter(slides.items()))
    other = next((name for name in slides if slides[name] != slide), None)
    if other is not None:
        raise SourceError(
            f"{symbols.path}: symbols of another kernel than {_release(info)}: the distance from {first} to {other} "
            f"differs by {abs(slides[other] - slide):#x} bytes"
        )
    if len(slides) == 1 and slide and not (symbols.build_id and theirs):
        raise SourceError(f"{symbols.path}: only {first} in common with VMCOREINFO, which does not identify the kernel")
    return Kernel(walk, symbols, info, slide)


def _release(info: Mapping[str, str]) -> str:
    return safe_text(info.get("OSRELEASE", "?"), again=True)


def _image(info: Mapping[str, str], virtual: int | None) -> int | None:
    """Physical address of a virtual address in the kernel image. None: unknown."""
    base, offset = _number(info, "NUMBER(phys_base)"), _number(info, "NUMBER(kimage_voffset)")
    if virtual is None or (base is None and offset is None):
        return None
    return (virtual - _START_KERNEL_MAP + base if base is not None else virtual - (offset or 0)) & _WORD


def _number(info: Mapping[str, str], key: str, *, base: int = 0) -> int | None:
    try:
        return int(info[key], base)
    except (KeyError, ValueError):
        return None
