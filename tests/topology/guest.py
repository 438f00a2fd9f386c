# SPDX-License-Identifier: MIT
"""One QEMU guest in every form, as its own kernel and lspci told it, and made-up machines."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from luoser.topology import Address, Topology
from tests.real import ROOT

__all__ = ["GUEST", "Said", "bridge", "config", "dump_text", "names", "parents", "said", "unpack"]

GUEST = ROOT / "fixtures/topology"


@dataclass(frozen=True, slots=True)
class Said:
    """What the guest's kernel said of a device: names as in sysfs, "" for none."""

    parent: str
    driver: str
    physfn: str


@cache
def said() -> dict[str, Said]:
    found = {}
    for line in (GUEST / "list.txt").read_text().splitlines():
        name, link, driver, physfn = line.split(" ")
        above = link.split("/")[-2]
        found[name] = Said("" if above.startswith("pci") else above, driver, physfn)
    return found


def unpack(folder: Path, *, links: bool = True) -> Path:
    """The guest's sysfs in a folder; links: with its symbolic links."""
    with tarfile.open(GUEST / "sys.tar.xz") as archive:
        for member in archive:
            place = folder / member.name
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.issym() and links:
                place.symlink_to(member.linkname)
            elif file := archive.extractfile(member) if member.isfile() else None:
                place.write_bytes(file.read())
    return folder


def names(addresses: Iterable[Address]) -> list[str]:
    return [f"{domain:04x}:{bdf >> 8:02x}:{bdf >> 3 & 31:02x}.{bdf & 7}" for domain, bdf in addresses]


def parents(topology: Topology) -> dict[str, str]:
    """Name of each device to that of its parent, "" on a root bus, "?" where that is not known."""
    found = {}
    for device in topology.devices.values():
        root = "" if device.on_root_bus else "?"
        found[device.name] = names([device.parent])[0] if device.parent is not None else root
    return found


def config(
    *, vendor: int = 0x8086, device: int = 0x1234, command: int = 0, kind: int = 0, class_code: int = 0x020000,
    buses: tuple[int, int, int] = (0, 0, 0), port: int | None = None, sriov: tuple[int, int, int] | None = None,
) -> bytes:  # fmt: skip
    """Configuration space. buses: primary, secondary, subordinate. port: type of the PCI Express capability.
    sriov: number of VFs, offset, stride."""
    data = bytearray(4096 if sriov else 256 if port is not None else 64)
    struct.pack_into("<HHHH", data, 0, vendor, device, command, 0x10 if port is not None else 0)
    data[9:12] = class_code.to_bytes(3, "little")
    data[0x0E] = kind
    if kind:
        data[0x18:0x1B] = bytes(buses)
    if port is not None:
        data[0x34] = 0x40
        data[0x40:0x44] = bytes([0x10, 0, port << 4 | 2, 0])
    if sriov:
        struct.pack_into("<IIHHHHHHHH", data, 0x100, 0x0001_0010, 0, 1, 0, 8, 8, sriov[0], 0, sriov[1], sriov[2])
    return bytes(data)


def bridge(primary: int, secondary: int, subordinate: int, *, port: int | None = None) -> bytes:
    return config(kind=1, class_code=0x060400, buses=(primary, secondary, subordinate), port=port)


def dump_text(machine: dict[str, bytes]) -> str:
    """What lspci -xxxx prints of a machine of name to configuration space."""
    lines = []
    for name, data in machine.items():
        lines.append(f"{name} Some device")
        lines += [f"{place:02x}: {data[place : place + 16].hex(' ')}" for place in range(0, len(data), 16)]
        lines.append("")
    return "\n".join(lines) + "\n"
