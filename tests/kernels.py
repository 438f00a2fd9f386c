# SPDX-License-Identifier: MIT
"""Kernels in synthetic images: variables at known addresses, VMCOREINFO, and the symbol lists that fit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.images import Image, u64
from tests.memory.images import note

__all__ = ["PLACES", "Kernel"]

_IMAGE_PAGES = 16
PLACES = {
    "_stext": 0,
    "kallsyms_names": 0x1040,
    "page_offset_base": 0x1220,
    "init_top_pgt": 0x2000,
    "swapper_pg_dir": 0x2000,
    "prb": 0x3108,
    "init_uts_ns": 0x3200,
    "clear_seq": 0x40E0,
    "kho_scratch_cnt": 0x4160,
    "kho_scratch": 0x4168,
    "kho_in": 0x4180,
    "kho_out": 0x4220,
    "luo_global": 0x42C0,
    "node_data": 0x4520,
    "_end": 0x6000,
}
"""Offsets in the kernel image; those of the variables of KHO are as far from each other as in a 7.3 kernel."""


@dataclass(kw_only=True)
class Kernel:
    """A kernel in an image. link, slide: addresses as linked, and what the boot added. start: physical.

    direct, vmemmap: virtual addresses of the direct map's first byte, which maps `lowest`, and of the struct page
    of frame 0. arm: address bits of an arm64 kernel, those of the machine where they are fewer.
    """

    image: Image
    release: str = "7.3.4"
    link: int = 0xFFFF_FFFF_8100_0000
    slide: int = 0x1A60_0000
    direct: int = 0xFF11_2233_4000_0000
    lowest: int = 0
    vmemmap: int = 0xFFD4_0000_0000_0000
    arm: tuple[int, int] | None = None
    build_id: str = "ab" * 20
    places: Mapping[str, int] = field(default_factory=lambda: dict(PLACES))
    start: int = 0

    def __post_init__(self) -> None:
        order = _IMAGE_PAGES.bit_length() - 1
        self.start = self.start or self.image.alloc(order=order, keep=False)
        self.put("page_offset_base", self.direct)
        fields = (b"Linux", b"lab", self.release.encode())
        self.image.put(self.physical("init_uts_ns"), b"".join(text.ljust(65, b"\0") for text in fields))

    # -- addresses --

    def physical(self, name: str) -> int:
        return self.start + self.places[name]

    def virtual(self, address: int) -> int:
        """The direct map's address of a physical one."""
        return address - self.lowest + self.direct & (1 << 64) - 1

    def page(self, address: int) -> int:
        """Address of the struct page."""
        return self.vmemmap + address // self.image.page_size * 64

    # -- what lies in the image --

    def put(self, name: str, *words: int, at: int = 0) -> None:
        """Words of a variable, from its byte `at` on."""
        self.image.put(self.physical(name) + at, b"".join(map(u64, words)))

    def hand(self, *, incoming: int = 0, outgoing: int = 0, luo: int = 0) -> None:
        """The roots that the kernel was handed and hands over, as a 7.3 kernel has them; and its own LUO page."""
        self.put("kho_in", incoming)
        self.put("kho_out", self.virtual(outgoing) if outgoing else 0)
        self.put("luo_global", 1, self.virtual(luo) if luo else 0, 2)

    def scratch(self, *areas: tuple[int, int]) -> int:
        """The array of scratch areas, (address, bytes) each, and the variables that name it."""
        array = self.image.alloc(b"".join(u64(word) for area in areas for word in area))
        self.put("kho_scratch_cnt", len(areas))
        self.put("kho_scratch", self.virtual(array))
        return array

    # -- what is said of it --

    def vmcoreinfo(self, **more: str) -> bytes:
        run = self.link + self.slide
        lines = {
            "OSRELEASE": self.release,
            "BUILD-ID": self.build_id,
            "PAGESIZE": str(self.image.page_size),
            **{f"SYMBOL({name})": f"{run + at:x}" for name, at in self.places.items() if name in _NAMED},
            "OFFSET(uts_namespace.name)": "0",
            "SYMBOL(vmemmap)": f"{self.vmemmap:x}",
            "SIZE(page)": "64",
            **(self._arm() if self.arm else {"NUMBER(phys_base)": str(self.start - run + 0xFFFF_FFFF_8000_0000)}),
            "KERNELOFFSET": f"{self.slide:x}",
            **more,
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items() if value).encode()

    def _arm(self) -> dict[str, str]:
        assert self.arm is not None
        bits, usable = self.arm
        base = -(1 << bits)
        offset = self.lowest - (self.direct - (base & (1 << 64) - 1)) & (1 << 64) - 1
        return {
            "NUMBER(VA_BITS)": str(bits),
            "NUMBER(kimage_voffset)": f"{self.link + self.slide - self.start & (1 << 64) - 1:#x}",
            "NUMBER(PHYS_OFFSET)": f"{offset:#x}",
            "NUMBER(TCR_EL1_T1SZ)": f"{64 - usable:#x}",
        }

    def info_page(self) -> int:
        """VMCOREINFO on a page of memory, where the kernel keeps it."""
        return self.image.alloc(self.vmcoreinfo(), keep=False)

    def note(self, **more: str) -> bytes:
        return note("VMCOREINFO", self.vmcoreinfo(**more))

    def system_map(self, *, slide: int = 0, without: tuple[str, ...] = ()) -> str:
        """What `nm` says of it; with the slide what /proc/kallsyms says."""
        places = sorted((at, name) for name, at in self.places.items() if name not in without)
        return "".join(f"{self.link + slide + at:016x} {'T' if not at else 'b'} {name}\n" for at, name in places)


_NAMED = ("_stext", "kallsyms_names", "init_top_pgt", "swapper_pg_dir", "prb", "init_uts_ns", "clear_seq", "node_data")
