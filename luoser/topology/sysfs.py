# SPDX-License-Identifier: MIT
"""PCI devices of sysfs, of the running machine or a copy of it, with or without its symbolic links."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from luoser.errors import SourceError
from luoser.limits import LIMITS
from luoser.text import safe_text
from luoser.topology.build import Found, Remarks, address_of, parse_path
from luoser.topology.config import CONFIG_SIZE, HEADER_SIZE, fill, parse_config
from luoser.topology.model import Address, Device

__all__ = ["SYSFS", "read_sysfs"]

SYSFS = "/sys/bus/pci/devices"
_LISTING = ("bus", "pci", "devices")
_HEX = re.compile(rb"0x([0-9a-fA-F]{1,6})\s*")
_ATTRIBUTE_SIZE = 4096
_NAME_SIZE = 256


def read_sysfs(folder: Path, remarks: Remarks) -> list[Found]:
    """The devices below a folder: /sys, /sys/bus/pci/devices, /sys/devices or what is below it, or copies of them.

    Raises SourceError when the folder cannot be read.
    """
    listing = folder.joinpath(*_LISTING)
    listing = listing if listing.is_dir() else folder
    try:
        links = sorted(entry.name for entry in os.scandir(listing) if entry.is_symlink() and address_of(entry.name))
    except OSError as error:
        raise SourceError(f"{safe_text(os.fspath(folder))}: {error.strerror or error}") from error
    if links:
        return list(_links(listing, links, remarks))
    tree = folder / "devices"
    found = list(_walk(tree, remarks)) if tree.is_dir() and not tree.is_symlink() else []
    return found or list(_walk(folder, remarks))


def _links(listing: Path, names: list[str], remarks: Remarks) -> Iterator[Found]:
    """The devices of a listing of links."""
    top = Path(os.path.realpath(listing))
    if top.parts[-len(_LISTING) :] == _LISTING:
        top = top.parents[len(_LISTING) - 1]
    for name in names[: LIMITS.pci_devices + 1]:
        try:
            yield _linked(listing / name, top, name, remarks)
        except OSError as error:  # unplugged meanwhile
            remarks.add(f"{safe_text(name)}: {error.strerror or error}")


def _linked(link: Path, top: Path, name: str, remarks: Remarks) -> Found:
    """A device that a link names: its path is the link's text, even where that leads nowhere."""
    target = Path(os.path.realpath(link))  # resolve() may raise RuntimeError for a loop of links
    place: Path | None = target
    if not target.is_relative_to(top):
        remarks.add(f"{safe_text(name)}: its link leads out of {safe_text(os.fspath(top))}; only its path is read")
        place = None
    elif not target.is_dir():
        remarks.add(f"{safe_text(name)}: its link leads nowhere; only its path is known")
        place = None
    address = address_of(name)
    assert address is not None
    return _device(address, place, str(link.readlink()), name, remarks)


def _walk(start: Path, remarks: Remarks) -> Iterator[Found]:
    """The devices in a tree of folders. Links are not followed; inside of a device only devices are looked for."""
    start = Path(os.path.realpath(start))
    folders, seen = [start], 0
    while folders:
        folder = folders.pop()
        address = address_of(folder.name)
        try:
            if address is not None:
                name = os.fspath(folder.relative_to(start.parent))
                yield _device(address, folder, os.fspath(folder), name, remarks)
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            remarks.add(f"{safe_text(os.fspath(folder))}: {error.strerror or error}")
            continue
        seen += len(names) + 1
        if seen > LIMITS.sysfs_entries:
            remarks.add(f"more than {LIMITS.sysfs_entries} folders; the rest is not looked into")
            return
        if address is not None:
            names = [name for name in names if address_of(name) or name.startswith("pci")]
        folders += [folder / name for name in sorted(names, reverse=True)]


def _device(address: Address, folder: Path | None, path: str, name: str, remarks: Remarks) -> Found:
    """What the attributes of a device say, and the path that leads to it."""
    place = safe_text(name)
    addresses, is_rooted = parse_path(path)
    if not addresses or addresses[-1] != address:
        remarks.add(f"{place}: its path {safe_text(path)} does not end in its address")
        addresses, is_rooted = (address,), False
    device = Device(domain=address[0], bdf=address[1])
    if folder is None:
        return Found(device=device, place=place, above=addresses[:-1], is_rooted=is_rooted)
    has_links = (folder / "subsystem").is_symlink()
    is_vf, physfn = _physfn(folder, has_links, place, remarks)
    device = Device(
        domain=address[0],
        bdf=address[1],
        class_code=_number(folder, "class", 0xFFFFFF, place, remarks),
        vendor=_number(folder, "vendor", 0xFFFF, place, remarks),
        device=_number(folder, "device", 0xFFFF, place, remarks),
        driver=_driver(folder, has_links, place, remarks),
        is_vf=is_vf,
        physfn=physfn,
    )
    # Some devices do not bear to be read beyond the header. With links and a whole path this may be the running
    # machine, and they tell what the rest would: which devices are VFs, and which buses are root buses.
    size = HEADER_SIZE if has_links and is_rooted else CONFIG_SIZE
    data = _attribute(folder, "config", size, place, remarks)
    config = parse_config(data, address[1]) if data is not None else None
    if data is not None and config is None:
        remarks.add(f"{place}: config is {len(data)} bytes: too few, or those of a device that does not answer")
    if config is not None:
        device = fill(device, config)
    return Found(device=device, place=place, above=addresses[:-1], is_rooted=is_rooted, config=config)


def _attribute(folder: Path, name: str, size: int, place: str, remarks: Remarks) -> bytes | None:
    """The first bytes of a regular file, None where there is none: in a copy anything may have that name."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        remarks.add(f"{place}: {name}: {error.strerror or error}")
        return None
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.read(descriptor, size)
        remarks.add(f"{place}: {name} is no regular file")
    except OSError as error:
        remarks.add(f"{place}: {name}: {error.strerror or error}")
    finally:
        os.close(descriptor)
    return None


def _number(folder: Path, name: str, largest: int, place: str, remarks: Remarks) -> int | None:
    data = _attribute(folder, name, _ATTRIBUTE_SIZE, place, remarks)
    if data is None:
        return None
    match = _HEX.fullmatch(data)
    if match is None or int(match[1], 16) > largest:
        remarks.add(f"{place}: {name} holds {safe_text(data[:40])}, no number up to {largest:#x}")
        return None
    return int(match[1], 16)


def _driver(folder: Path, has_links: bool, place: str, remarks: Remarks) -> str | None:
    """The bound driver's name, "" for none: by its link or, where the links are gone, by the uevent."""
    link = folder / "driver"
    if link.is_symlink():
        return link.readlink().name[:_NAME_SIZE] or None
    if has_links:
        return ""
    data = _attribute(folder, "uevent", _ATTRIBUTE_SIZE, place, remarks)
    if data is None:
        return None
    for line in data.splitlines():
        if line.startswith(b"DRIVER="):
            return os.fsdecode(line[len(b"DRIVER=") :])[:_NAME_SIZE]
    return ""


def _physfn(folder: Path, has_links: bool, place: str, remarks: Remarks) -> tuple[bool | None, Address | None]:
    """(whether a device is a VF, its PF)."""
    link = folder / "physfn"
    if not link.is_symlink():
        return False if has_links else None, None
    target = link.readlink().name
    address = address_of(target)
    if address is None:
        remarks.add(f"{place}: physfn leads to {safe_text(target)}, no PCI device")
    return True, address
