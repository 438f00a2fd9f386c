# SPDX-License-Identifier: MIT
"""PCI devices in sysfs, of the running machine or in a copy with or without symbolic links."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from luoser.errors import SourceError, TooLargeError
from luoser.limits import LIMITS, how_to_raise
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
    """The devices in a folder.

    folder:  /sys, /sys/bus/pci/devices, /sys/devices or a folder below it, or a copy of one of these.
    remarks: gets a remark for each attribute or link that is ignored.

    Raises SourceError if the folder cannot be read, FormatError if almost all of it is malformed, TooLargeError.
    """
    listing = folder.joinpath(*_LISTING)
    if listing.is_dir() and not Path(os.path.realpath(listing)).is_relative_to(os.path.realpath(folder)):
        remarks.add(f"{safe_text(os.fspath(listing))}: a link that leads outside of the folder; not read")
        listing = folder
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
        except OSError as error:  # unplugged in the meantime
            remarks.add(f"{safe_text(name)}: {error.strerror or error}")


def _linked(link: Path, top: Path, name: str, remarks: Remarks) -> Found:
    """The device of a link. Its path is the text of the link, even if the link is broken.

    top: links out of this folder are not followed.
    """
    target = Path(os.path.realpath(link))  # resolve() may raise RuntimeError for a loop of links
    place: Path | None = target
    if not target.is_relative_to(top):
        remarks.add(f"{safe_text(name)}: its link points outside {safe_text(os.fspath(top))}; only its path is used")
        place = None
    elif not target.is_dir():
        remarks.add(f"{safe_text(name)}: its link is broken; only its path is used")
        place = None
    address = address_of(name)
    assert address is not None
    return _device(address, place, str(link.readlink()), name, remarks)


def _walk(start: Path, remarks: Remarks) -> Iterator[Found]:
    """The devices in a tree of folders. Links are not followed. Inside a device only folders of devices are read."""
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
            raise TooLargeError(f"more than {LIMITS.sysfs_entries} folders; {how_to_raise('sysfs_entries')}")
        if address is not None:
            names = [name for name in names if address_of(name) or name.startswith("pci")]
        folders += [folder / name for name in sorted(names, reverse=True)]


def _device(address: Address, folder: Path | None, path: str, name: str, remarks: Remarks) -> Found:
    """The facts about a device.

    folder: with its attributes. None if it cannot be read.
    path:   in sysfs, which ends with the bridges above the device and the device.
    """
    place = safe_text(name)
    addresses, is_rooted = parse_path(path)
    if not addresses or addresses[-1] != address:
        remarks.add(f"{place}: expected a path that ends in its address, found {safe_text(path)}; ignored")
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
    # Some devices fail when they are read beyond the header. With links and a complete path this can be the running
    # machine, and the rest is not needed: the links show which devices are VFs and which buses are root buses.
    size = HEADER_SIZE if has_links and is_rooted else CONFIG_SIZE
    data = _attribute(folder, "config", size, place, remarks)
    config = parse_config(data, address[1]) if data is not None else None
    if data is not None and config is None:
        remarks.add(
            f"{place}: config of {len(data)} bytes ignored: too few, or all are ff because the device does not answer"
        )
    if config is not None:
        device = fill(device, config)
    return Found(device=device, place=place, above=addresses[:-1], is_rooted=is_rooted, config=config)


def _attribute(folder: Path, name: str, size: int, place: str, remarks: Remarks) -> bytes | None:
    """The first bytes of an attribute. None if it is missing or, in a copy, not a regular file."""
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
        remarks.add(f"{place}: {name} is not a regular file; ignored")
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
        remarks.add(f"{place}: {name}: expected a hex number up to {largest:#x}, found {safe_text(data[:40])}; ignored")
        return None
    return int(match[1], 16)


def _driver(folder: Path, has_links: bool, place: str, remarks: Remarks) -> str | None:
    """Name of the bound driver, "" if none is bound: from the link `driver` or, in a copy without links, `uevent`.

    None if neither is there.
    """
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
    """(whether a device is a VF, its PF), each None if not known."""
    link = folder / "physfn"
    if not link.is_symlink():
        return False if has_links else None, None
    target = link.readlink().name
    address = address_of(target)
    if address is None:
        remarks.add(f"{place}: physfn: expected a link to a PCI device, found {safe_text(target)}; ignored")
    return True, address
