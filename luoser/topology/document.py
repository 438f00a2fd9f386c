# SPDX-License-Identifier: MIT
"""A topology in JSON: luoser's own snapshot, and plain lists of devices with their paths in sysfs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luoser.errors import UsageError
from luoser.state.from_json import Item
from luoser.text import bdf_text, parse_bdf, safe_text
from luoser.topology.build import Found, Remarks, build, parse_path
from luoser.topology.model import Address, Device, Topology

__all__ = ["SCHEMA", "from_document", "from_list", "to_document"]

SCHEMA = "luoser/topology/1"
_DIGITS = re.compile(r"[0-9a-fA-F]{1,6}")
_NAME_SIZE = 256


def to_document(topology: Topology) -> dict[str, Any]:
    """The snapshot of a topology, as docs/topology.md describes it. `from_document` reads it."""
    return {
        "schema": SCHEMA,
        "source": {"path": topology.source, "form": topology.form},
        "unknown": ["class" if name == "class_code" else name for name in topology.unknown],
        "devices": [_device(device) for device in topology.devices.values()],
        "remarks": list(topology.remarks),
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "bdf": device.name,
        "parent": _name(device.parent),
        "on_root_bus": device.on_root_bus,
        "is_bridge": device.is_bridge,
        "class": _hex(device.class_code, 6),
        "vendor": _hex(device.vendor, 4),
        "device": _hex(device.device, 4),
        "driver": device.driver,
        "is_vf": device.is_vf,
        "physfn": _name(device.physfn),
        "busmaster": device.busmaster,
        "secondary_bus": device.secondary_bus,
        "subordinate_bus": device.subordinate_bus,
    }


def _name(address: Address | None) -> str | None:
    return None if address is None else bdf_text(*address)


def _hex(number: int | None, digits: int) -> str | None:
    return None if number is None else f"{number:#0{digits + 2}x}"


def from_document(document: Mapping[str, Any]) -> Topology:
    """The topology of a snapshot. Devices with impossible values are ignored, with a remark.

    Raises UsageError for a document that is not a snapshot.
    """
    top = Item(document, "")
    if top.get("schema") is None:
        raise top.fail("schema", f"missing; expected {SCHEMA}")
    if top.get("schema") != SCHEMA:
        raise top.fail("schema", f"expected {SCHEMA}, found {safe_text(str(top.get('schema'))[:80])}")
    source = top.item("source") or Item({}, "source")
    remarks = Remarks()
    for remark in top.array("remarks"):
        if isinstance(remark, str):
            remarks.add(remark)
    return build(
        _devices(top, remarks), source=source.text("path", ""), form=source.text("form", ""), remarks=remarks,
        infer=False,
    )  # fmt: skip


def from_list(entries: Sequence[Any], *, source: str) -> Topology:
    """The topology of a list of objects {bdf, sysfs, driver, class, vendor, device, physfn}, each of them optional but
    bdf.

    `sysfs` is the device's path in sysfs. A driver of null means that none is bound. Malformed entries are ignored,
    with a remark.

    source: what was read, as the user gave it.
    """
    remarks = Remarks()
    return build(_entries(entries, remarks), source=source, form="list", remarks=remarks)


def _devices(top: Item, remarks: Remarks) -> Iterator[Found]:
    for index, value in enumerate(top.array("devices")):
        try:
            yield _found(_item(value, f"devices[{index}]"))
        except UsageError as error:
            remarks.add(f"{error}; ignored")


def _entries(entries: Sequence[Any], remarks: Remarks) -> Iterator[Found]:
    for index, value in enumerate(entries):
        try:
            yield _listed(_item(value, f"[{index}]"), remarks)
        except UsageError as error:
            remarks.add(f"{error}; ignored")


def _item(value: Any, path: str) -> Item:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: expected an object")
    return Item(value, path)


def _found(item: Item) -> Found:
    address, parent = _required_address(item), _address(item, "parent")
    is_bridge = _truth(item, "is_bridge")
    device = Device(
        domain=address[0],
        bdf=address[1],
        on_root_bus=_truth(item, "on_root_bus"),
        is_bridge=is_bridge,
        class_code=_number(item, "class", 0xFFFFFF),
        vendor=_number(item, "vendor", 0xFFFF),
        device=_number(item, "device", 0xFFFF),
        driver=None if item.get("driver") is None else _driver(item),
        is_vf=_truth(item, "is_vf"),
        physfn=_address(item, "physfn"),
        busmaster=_truth(item, "busmaster"),
        secondary_bus=_number(item, "secondary_bus", 0xFF),
        subordinate_bus=_number(item, "subordinate_bus", 0xFF),
    )
    return Found(device=device, place=item.path, above=() if parent is None else (parent,))


def _listed(item: Item, remarks: Remarks) -> Found:
    address, physfn = _required_address(item), _address(item, "physfn")
    path = item.text("sysfs") if item.get("sysfs") is not None else ""
    addresses, is_rooted = parse_path(path)
    if path and (not addresses or addresses[-1] != address):
        remarks.add(
            f"{item.at('sysfs')}: expected a path that ends in {bdf_text(*address)}, found "
            f"{safe_text(path[:_NAME_SIZE])}; ignored"
        )
        addresses, is_rooted = (), False
    device = Device(
        domain=address[0],
        bdf=address[1],
        class_code=_number(item, "class", 0xFFFFFF),
        vendor=_number(item, "vendor", 0xFFFF),
        device=_number(item, "device", 0xFFFF),
        driver=_driver(item) if "driver" in item.values else None,
        is_vf=(physfn is not None) if "physfn" in item.values else None,
        physfn=physfn,
    )
    return Found(device=device, place=item.path, above=addresses[:-1], is_rooted=is_rooted)


def _required_address(item: Item) -> Address:
    address = _address(item, "bdf")
    if address is None:
        raise item.fail("bdf", "missing; expected DDDD:BB:SS.F")
    return address


def _address(item: Item, name: str) -> Address | None:
    if item.get(name) is None:
        return None
    text = item.text(name)
    try:
        return parse_bdf(text)
    except ValueError:
        raise item.fail(name, f"expected a PCI address such as 0000:41:00.0, found {safe_text(text[:40])}") from None


def _truth(item: Item, name: str) -> bool | None:
    return None if item.get(name) is None else item.truth(name, default=False)


def _number(item: Item, name: str, largest: int) -> int | None:
    """A number, also as hex text with or without 0x, as sysfs and lspci write it. Raises UsageError."""
    value = item.get(name)
    if isinstance(value, str):
        digits = value.removeprefix("0x")
        value = int(digits, 16) if _DIGITS.fullmatch(digits) else -1
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise item.fail(name, f"expected a number up to {largest:#x}, found {safe_text(str(item.get(name))[:40])}")
    return value


def _driver(item: Item) -> str:
    """The driver's name, "" for null (none is bound). Raises UsageError for a name that is too long."""
    name = item.text("driver") if item.get("driver") is not None else ""
    if len(name) > _NAME_SIZE:
        raise item.fail("driver", f"expected a name of at most {_NAME_SIZE} characters, found {len(name)}")
    return name
