# SPDX-License-Identifier: MIT
"""SPEC of `luoser build`: a state document, a decoded blob, or the same in TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luoser.abi.pci import layout as pci_layout
from luoser.abi.registry import Layout, layout, unknown_layout
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import FormatError, UsageError
from luoser.fdt import flatten
from luoser.parse import decoded, parse_json, parse_toml
from luoser.state.from_json import Item, load_buses, load_devices, load_fdt
from luoser.writer.pci import list_bytes

__all__ = ["blob_bytes", "is_blob", "list_as_state", "parse_spec"]


def parse_spec(data: bytes, shown: str) -> dict[str, Any]:
    """The values of a SPEC.

    data:  JSON if it starts with an object, else TOML.
    shown: name of the SPEC in errors.

    Raises UsageError with line and column.
    """
    try:
        text = decoded(data)
        values = parse_json(text) if text.lstrip()[:1] == "{" else parse_toml(text)
    except FormatError as error:
        raise UsageError(f"{shown}: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{shown}: expected an object")
    return values


def is_blob(values: Mapping[str, Any]) -> bool:
    """Whether a SPEC describes a bare blob, not handovers."""
    return "handovers" not in values and ("layout" in values or "devices" in values)


def blob_bytes(values: Mapping[str, Any], name: str | None = None) -> tuple[Layout, bytes]:
    """(layout, bytes) of a bare blob.

    values: of a SPEC.
    name:   of the layout. None: that in the SPEC.

    Raises UsageError with the path of a value that does not fit.
    """
    item = Item(values, "")
    wanted = item.text("layout") if name is None else name
    form = layout(wanted)
    if form is None:
        raise item.fail("layout", str(unknown_layout(wanted)))
    if form.kind == "fdt":
        tree = item.item("fdt")
        if tree is None:
            raise item.fail("fdt", f"missing; expected a devicetree, as {form.name} is one")
        try:
            return form, flatten(load_fdt(tree))
        except FormatError as error:
            raise item.fail("fdt", str(error)) from None
    return form, _list(item, form) if form.kind == "list" else _struct(item, form)


def list_as_state(values: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """A document with a bare device list as the only list of a handover.

    values: of a SPEC.
    name:   of the layout if the SPEC has none.

    Raises UsageError for any other blob.
    """
    wanted = values.get("layout", name)
    if pci_layout(str(wanted)) is None:
        raise UsageError("layout: expected that of a device list; to break anything else describe a whole handover")
    entry = {"layout": wanted, "devices": values.get("devices", []), "header": dict(values.get("fields") or {})}
    return {"handovers": [{"pci": [{**entry, "buses": values.get("buses", [])}]}]}


def _list(item: Item, form: Layout) -> bytes:
    known = pci_layout(form.name)
    assert known is not None
    fields = item.item("fields") or Item({}, "fields")
    header = {name: fields.number(name) for name in fields.values}
    if known.blocks is not None and item.array("devices"):
        word = f"the records of {form.name} are in KHO blocks, not in this blob"
        raise item.fail("devices", f"{word}; leave them out, or describe a handover and select a node with --blob")
    devices = load_devices(item, known, fields)
    _refuse_duplicates(item, devices)
    return list_bytes(known, devices, load_buses(item, known), header=header)


def _refuse_duplicates(item: Item, devices: Any) -> None:
    seen: dict[tuple[int, int], int] = {}
    for place, device in enumerate(devices):
        first = seen.setdefault((device.domain, device.bdf), place)
        if first != place:
            raise item.fail(f"devices[{place}].bdf", f"duplicate device {device.name}, also devices[{first}]")


def _struct(item: Item, form: Layout) -> bytes:
    head = form.schemas[0]
    if form.name == "kho-block-pci":
        return _device_block(item, form)
    given = item.item("fields") or Item({}, "fields")
    fields, records = dict(given.values), list(item.items("records"))
    if form.count:
        count = given.number(form.count, len(records))
        if count != len(records):
            raise given.fail(form.count, f"expected {len(records)}, the number of records, found {count}")
        fields[form.count] = count
    elif records:
        raise item.fail("records", f"expected no records, as {form.name} has none")
    data = struct_bytes(head, fields, "fields")
    for record in records:
        data += struct_bytes(form.schemas[1], record.values, record.path)
    return data


def _device_block(item: Item, form: Layout) -> bytes:
    """A block of entries of the newest device list. Entries of zeros are holes."""
    known = pci_layout("pci-version-2")
    assert known is not None
    fields = item.item("fields") or Item({}, "fields")
    slots = {"slots": fields.number(form.count)} if form.count in fields.values else {}
    devices = load_devices(Item({**item.values, **slots}, ""), known, Item({}, ""))
    _refuse_duplicates(item, devices)
    return struct_bytes(form.schemas[0], {**fields.values, form.count: devices.slots}, "fields") + devices.data
