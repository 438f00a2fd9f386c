# SPDX-License-Identifier: MIT
"""Golden bytes: what a kernel would write, packed with `struct` from the offsets of the ABI description.

`python -m tests.golden` remakes every file of fixtures/golden. Nothing here looks at luoser's own layouts:
where both agree, both have read the description alike.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["BLOCK_FORMS", "CATALOGUE", "DEVICES", "FORMS", "GOLDEN", "Bus", "Dev", "Form", "files", "main"]

GOLDEN = Path(__file__).resolve().parents[1] / "fixtures" / "golden"
PAGE = 4096

Members = Iterable[tuple[int, str, int | bytes]]
"""(offset, struct format, value) of each member that is not zero."""


def record(size: int, members: Members) -> bytes:
    """A struct of `size` bytes; what no member covers is zero."""
    made = bytearray(size)
    for offset, form, value in members:
        struct.pack_into("<" + form, made, offset, value)
    return bytes(made)


# -- devices ----------------------------------------------------------------------------------------------

Range = tuple[int, int, bytes, int, int]
"""A resource: start, end, name, flags, descriptor."""


@dataclass(frozen=True, kw_only=True)
class Dev:
    """One preserved device with everything that any form says of it."""

    domain: int
    bdf: int
    flags: int = 1
    requested: int = 1
    refcount: int = 1
    num_vfs: int = 0
    driver: bytes = b"nvme"
    data: int = 0
    state: int = 0
    pm_cap: int = 0x40
    saved: int = 0
    """The nine saved bits: broken_intx_masking is bit 0, pref_64_window bit 8."""
    resources: Sequence[Range] = ()

    @property
    def path(self) -> int:
        return (self.domain << 16 | self.bdf) & 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class Bus:
    domain: int
    number: int
    parent_domain: int = 0
    parent: int = 0
    kind: int = 2
    """0 none, 1 host bridge, 2 PCI bridge."""
    resources: Sequence[Range] = ()


def resource(entry: Range) -> bytes:
    start, end, name, flags, descriptor = entry
    return record(96, [(0, "Q", start), (8, "Q", end), (16, "64s", name), (80, "Q", flags), (88, "Q", descriptor)])


def resources(entries: Sequence[Range], count: int) -> bytes:
    return b"".join(resource(entry) for entry in entries[:count]).ljust(96 * count, b"\0")


# Family A, patch by patch.


def dev_v2_03(dev: Dev) -> bytes:
    return record(16, [(0, "I", dev.path), (4, "I", dev.flags), (8, "Q", dev.data)])


def dev_v2_06(dev: Dev) -> bytes:
    return record(80, [(0, "I", dev.path), (4, "I", dev.flags), (8, "63s", dev.driver), (72, "Q", dev.data)])


def dev_v1_04(dev: Dev) -> bytes:
    return record(16, [(0, "I", dev.path), (4, "B", dev.requested), (8, "Q", dev.data)])


def dev_v1_07(dev: Dev) -> bytes:
    return record(80, [(0, "I", dev.path), (4, "B", dev.requested), (5, "63s", dev.driver), (72, "Q", dev.data)])


def dev_v1_09(dev: Dev) -> bytes:
    members: Members = [
        (0, "I", dev.path),
        (4, "B", dev.requested),
        (6, "H", dev.num_vfs),
        (8, "63s", dev.driver),
        (72, "Q", dev.data),
    ]
    return record(80, members)


def dev_v1_12(dev: Dev) -> bytes:
    members: Members = [
        (0, "I", dev.path),
        (4, "B", dev.requested),
        (5, "H", dev.num_vfs),
        (7, "63s", dev.driver),
        (70, "Q", dev.data),
        (78, "I", dev.bdf & 0xFF),
        (82, "I", dev.state),
        (86, "B", dev.pm_cap),
        (87, "H", dev.saved),
    ]
    return record(89, members)


def dev_v1_res(dev: Dev) -> bytes:
    return dev_v1_12(dev) + resources(dev.resources, 11)


def dev_v1_res_iov(dev: Dev) -> bytes:
    return dev_v1_12(dev) + resources(dev.resources, 17)


def bus_v1_19(bus: Bus) -> bytes:
    return record(4, [(0, "H", bus.domain), (2, "B", bus.number)])


def bus_v1_22(bus: Bus) -> bytes:
    members: Members = [
        (0, "H", bus.domain),
        (2, "B", bus.number),
        (4, "H", bus.parent_domain),
        (6, "B", bus.parent),
        (8, "I", bus.kind),
    ]
    return record(12, members) + resources(bus.resources, 4)


# Family B.


def dev_b_4(dev: Dev) -> bytes:
    return struct.pack("<HH", dev.domain, dev.bdf)


def dev_b_reserved(dev: Dev) -> bytes:
    return struct.pack("<IHH", dev.domain, dev.bdf, 0)


def dev_b_refcount(dev: Dev) -> bytes:
    return struct.pack("<IHH", dev.domain, dev.bdf, dev.refcount)


# -- lists ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Form:
    """How one layout lays a list out.

    header(count, capacity, buses, first block) -> bytes. block: records lie in KHO blocks. room: slots
    are allocated for more devices than there are. wide: domains have 32 bits, else 16.
    """

    header: Callable[[int, int, int, int], bytes]
    dev: Callable[[Dev], bytes]
    bus: Callable[[Bus], bytes] | None = None
    block: bool = False
    room: bool = False
    is_sorted: bool = False
    wide: bool = False
    bridges: bool = True

    def order(self, devices: Sequence[Dev]) -> list[Dev]:
        """The devices as the kernel would list them."""
        if not self.is_sorted:
            return list(devices)
        if self.wide:
            return sorted(devices, key=lambda dev: (dev.domain, dev.bdf))
        return sorted(devices, key=lambda dev: struct.unpack("<i", struct.pack("<I", dev.path)))

    def blob(
        self, devices: Sequence[Dev], buses: Sequence[Bus] = (), *, capacity: int | None = None, first: int = 0
    ) -> bytes:
        """The list as one blob; of a block form its header. first: address of the first block."""
        made = self.header(len(devices), len(devices) if capacity is None else capacity, len(buses), first)
        if self.block:
            return made
        body = b"".join(self.dev(dev) for dev in self.order(devices))
        if self.room and capacity is not None:
            body = body.ljust(len(self.dev(DEVICES[0])) * capacity, b"\0")
        return made + body + b"".join(self.bus(bus) for bus in buses if self.bus is not None)

    def block_page(self, devices: Sequence[Dev], *, holes: int = 0) -> bytes:
        """The one block of a block form, with holes behind its first device."""
        entries = [self.dev(dev) for dev in self.order(devices)]
        entries[1:1] = [bytes(8)] * holes
        return (struct.pack("<QQ", 0, len(entries)) + b"".join(entries)).ljust(PAGE, b"\0")


def _count_padded(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<I4x", count)


def _count(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<I", count)


def _count_and_buses(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<II", count, buses)


def _u32(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<II", capacity, count)


def _u64(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<QQ", capacity, count)


def _nr(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<Q", count)


def _block(count: int, capacity: int, buses: int, first: int) -> bytes:
    return struct.pack("<IQ", count, first)


def _version(version: int) -> Callable[[int, int, int, int], bytes]:
    return lambda count, capacity, buses, first: struct.pack("<IIQ", version, count, first)


FORMS: dict[str, Form] = {
    "pci-lu-v2-06": Form(header=_count_padded, dev=dev_v2_06),
    "pci-lu-v2-03": Form(header=_count_padded, dev=dev_v2_03),
    "pci-lu-v1-04": Form(header=_count_padded, dev=dev_v1_04),
    "pci-lu-v1-07": Form(header=_count_padded, dev=dev_v1_07),
    "pci-lu-v1-09": Form(header=_count_padded, dev=dev_v1_09),
    "pci-lu-v1-12": Form(header=_count, dev=dev_v1_12),
    "pci-lu-v1-resources": Form(header=_count, dev=dev_v1_res),
    "pci-lu-v1-resources-iov": Form(header=_count, dev=dev_v1_res_iov),
    "pci-lu-v1-19": Form(header=_count_and_buses, dev=dev_v1_12, bus=bus_v1_19),
    "pci-lu-v1-19-resources": Form(header=_count_and_buses, dev=dev_v1_res, bus=bus_v1_19),
    "pci-lu-v1-19-resources-iov": Form(header=_count_and_buses, dev=dev_v1_res_iov, bus=bus_v1_19),
    "pci-lu-v1-22": Form(header=_count_and_buses, dev=dev_v1_res, bus=bus_v1_22),
    "pci-lu-v1-22-iov": Form(header=_count_and_buses, dev=dev_v1_res_iov, bus=bus_v1_22),
    "pci-version-2": Form(header=_version(2), dev=dev_b_refcount, block=True, wide=True),
    "pci-version-1": Form(header=_version(1), dev=dev_b_refcount, block=True, wide=True, bridges=False),
    "pci-v2-block": Form(header=_block, dev=dev_b_refcount, block=True, wide=True),
    "pci-v1-block": Form(header=_block, dev=dev_b_reserved, block=True, wide=True),
    "pci-v2-u32": Form(header=_u32, dev=dev_b_refcount, room=True, wide=True),
    "pci-v1-u32": Form(header=_u32, dev=dev_b_reserved, room=True, wide=True),
    "pci-v2-u64": Form(header=_u64, dev=dev_b_refcount, room=True, is_sorted=True, wide=True),
    "pci-v1-u64-wide": Form(header=_u64, dev=dev_b_reserved, room=True, is_sorted=True, wide=True),
    "pci-v1-u64": Form(header=_u64, dev=dev_b_4, room=True, is_sorted=True),
    "pci-v1-nr": Form(header=_nr, dev=dev_b_4, is_sorted=True),
}
BLOCK_FORMS = tuple(name for name, form in FORMS.items() if form.block)

# -- the made lists ---------------------------------------------------------------------------------------

_MEM, _MEM64, _IO = 0x40200, 0x140204, 0x40101  # IORESOURCE_* of a 32-bit BAR, a 64-bit BAR, an I/O BAR
_BAR = (0xFE800000, 0xFE803FFF, b"0000:41:00.0", _MEM64, 0)
_BRIDGE_WINDOW = (0xFE800000, 0xFE9FFFFF, b"PCI Bus 0000:41", _MEM, 0)

DEVICES = (
    # The walk visits the last root bus first, and children before their bridge.
    Dev(domain=1, bdf=0x0020, driver=b"e1000e", data=0x7CC000, num_vfs=0, pm_cap=0xC8, saved=0b000000010,
        resources=((0xC0000000, 0xC001FFFF, b"0001:00:04.0", _MEM, 0), (0xC020, 0xC03F, b"0001:00:04.0", _IO, 0))),
    Dev(domain=0, bdf=0x4100, driver=b"nvme", data=0x1A96000, num_vfs=4, state=0, pm_cap=0x40, saved=0b000000100,
        resources=(_BAR,)),
    Dev(domain=0, bdf=0x4000, flags=2, requested=0, driver=b"pcieport", pm_cap=0x48, saved=0b110000001,
        resources=((0, 0, b"", 0, 0),) * 7 + (_BRIDGE_WINDOW,)),
)  # fmt: skip
"""0001:00:04.0 on a root bus, 0000:41:00.0, and its bridge 0000:40:00.0."""

BUSES = (
    Bus(domain=1, number=0, kind=1, resources=((0xC0000000, 0xDFFFFFFF, b"PCI Bus 0001:00", _MEM, 0),)),
    Bus(domain=0, number=0x41, parent=0x40),
    Bus(domain=0, number=0x40, kind=1, resources=((0xFE000000, 0xFEBFFFFF, b"PCI Bus 0000:40", _MEM, 0),)),
)
FIRST_BLOCK = 0x1F1D29000
CAPACITY = 8


def devices_of(form: Form) -> list[Dev]:
    """The three devices as a form can say them: a VMD domain where 32 bits are there for it."""
    made = [replace(dev, domain=0x10000 if form.wide and dev.domain else dev.domain) for dev in DEVICES]
    if not form.bridges:  # version 1 preserves endpoints only: another function in place of the bridge
        made[2] = replace(DEVICES[1], bdf=0x4101)
    return made


def buses_of(form: Form) -> tuple[Bus, ...]:
    return BUSES if form.bus is not None else ()


# -- bytes that the description prints --------------------------------------------------------------------

_DUMPS: dict[str, str] = {
    # PCI/LUO v2, the example of its cover letter: 0000:05:00.1 with pci-lu-stub, its bridge 0000:04:01.0
    "pci-folio.bin": """
        02 00 00 00 00 00 00 00  01 05 00 00 01 00 00 00
        70 63 69 2d 6c 75 2d 73  74 75 62 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 40 6f ac 01 00 00 00  08 04 00 00 02 00 00 00
        70 63 69 65 70 6f 72 74  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00""",
    "pci-luo.dtb": """
        d0 0d fe ed 00 00 00 af  00 00 00 38 00 00 00 a0
        00 00 00 28 00 00 00 11  00 00 00 10 00 00 00 00
        00 00 00 0f 00 00 00 68  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 01 00 00 00 00
        00 00 00 03 00 00 00 07  00 00 00 00 6c 75 6f 2d
        76 31 00 00 00 00 00 01  73 75 62 73 79 73 74 65
        6d 73 00 00 00 00 00 03  00 00 00 0e 00 00 00 00
        73 75 62 73 79 73 74 65  6d 73 2d 76 31 00 00 00
        00 00 00 03 00 00 00 08  00 00 00 0b 00 80 d2 f1
        01 00 00 00 00 00 00 02  00 00 00 02 00 00 00 09
        63 6f 6d 70 61 74 69 62  6c 65 00 70 63 69 00""",
    # the same devices as the newest form lists them
    "pci-version-2.bin": "02 00 00 00 02 00 00 00  00 90 d2 f1 01 00 00 00",
    "luo-ser.bin": """
        6c 75 6f 2d 76 35 00 00  01 00 00 00 00 00 00 00
        00 00 bc 0a 01 00 00 00  00 00 bd 0a 01 00 00 00""",
    "memfd-file.bin": """
        6d 65 6d 66 64 2d 76 32  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 0d 01 00 00 00  34 12 00 00 00 00 00 00""",
    "memfd-ser.bin": """
        10 00 00 00 00 00 00 00  00 30 00 00 00 00 00 00
        0f 00 00 00 00 00 00 00  03 00 00 00 00 00 00 00
        00 00 00 0c 01 00 00 00  01 00 00 00 01 00 00 00""",
    "memfd-folios.bin": """
        f4 c6 1a 00 00 00 30 00  00 00 00 00 00 00 00 00
        f5 c6 1a 00 00 00 30 00  01 00 00 00 00 00 00 00
        28 1d 1f 00 00 00 30 00  02 00 00 00 00 00 00 00""",
    "kexec-metadata.bin": """
        01 00 00 00 37 2e 31 2e  31 33 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 01 00 00  00""",
    "kho-v4-root.dtb": """
        d0 0d fe ed 00 00 00 dd  00 00 00 38 00 00 00 a4
        00 00 00 28 00 00 00 11  00 00 00 10 00 00 00 00
        00 00 00 39 00 00 00 6c  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 01 00 00 00 00
        00 00 00 03 00 00 00 07  00 00 00 00 6b 68 6f 2d
        76 34 00 00 00 00 00 03  00 00 00 08 00 00 00 0b
        00 40 23 01 01 00 00 00  00 00 00 01 4c 55 4f 00
        00 00 00 03 00 00 00 08  00 00 00 20 00 80 67 05
        01 00 00 00 00 00 00 03  00 00 00 08 00 00 00 2f
        20 00 00 00 00 00 00 00  00 00 00 02 00 00 00 02
        00 00 00 09 63 6f 6d 70  61 74 69 62 6c 65 00 70
        72 65 73 65 72 76 65 64  2d 6d 65 6d 6f 72 79 2d
        6d 61 70 00 70 72 65 73  65 72 76 65 64 2d 64 61
        74 61 00 62 6c 6f 62 2d  73 69 7a 65 00""",
}

_PAGES: dict[str, str] = {
    # the rest of each page is zero
    "pci-stub-page.bin": "01 05",
    "pci-version-2.block.bin": """
        00 00 00 00 00 00 00 00  02 00 00 00 00 00 00 00
        00 00 00 00 01 05 01 00  00 00 00 00 08 04 01 00""",
    "luo-session-block.bin": """
        00 00 00 00 00 00 00 00  01 00 00 00 00 00 00 00
        76 6d 30 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 50 bc 0a 01 00 00 00  01 00 00 00 00 00 00 00""",
    "luo-flb-page.bin": """
        01 00 00 00 00 00 00 00  01 00 00 00 00 00 00 00
        70 63 69 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
        00 a0 d2 f1 01 00 00 00  02 00 00 00 00 00 00 00""",
    "memfd-vmalloc-chunk.bin": """
        00 00 00 00 00 00 00 00  00 10 00 0c 01 00 00 00
        00 00 00 00 00 00 00 00""",
    # order-0 pages 0x1ac6f4000 and 0x1f1d28000, in both bitmap sizes of kho-v1
    "kho-chunk-512.bin": """
        00 00 00 00 00 00 00 00  00 00 00 00 02 00 00 00
        00 00 00 ac 01 00 00 00  00 32 2b 0a 01 00 00 00
        00 00 00 f1 01 00 00 00  00 34 2b 0a 01 00 00 00""",
    "kho-chunk-page.bin": """
        00 00 00 00 00 00 00 00  00 00 00 00 02 00 00 00
        00 00 00 a8 01 00 00 00  00 30 2b 0a 01 00 00 00
        00 00 00 f0 01 00 00 00  00 40 2b 0a 01 00 00 00""",
}

CATALOGUE: dict[str, bytes] = {
    **{name: bytes.fromhex(dump) for name, dump in _DUMPS.items()},
    **{name: bytes.fromhex(dump).ljust(PAGE, b"\0") for name, dump in _PAGES.items()},
}


def files() -> dict[str, bytes]:
    """Every golden file by its path below fixtures/golden."""
    made = dict(CATALOGUE)
    for name, form in FORMS.items():
        devices = devices_of(form)
        made[f"pci/{name}.bin"] = form.blob(devices, buses_of(form), capacity=CAPACITY, first=FIRST_BLOCK)
        if form.block:  # a device was taken back from the newest form, which leaves a hole
            made[f"pci/{name}.block.bin"] = form.block_page(devices, holes=1 if name == "pci-version-2" else 0)
    return made


def main(target: Path = GOLDEN) -> None:
    """Write every golden file below a directory."""
    for name, data in files().items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


if __name__ == "__main__":
    main()
