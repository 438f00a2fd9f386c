# SPDX-License-Identifier: MIT
"""Writes the PCI part of luoser/state/state.schema.json: devices, buses and headers as the layouts have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from luoser.abi.c_struct import Member, structure
from luoser.abi.pci import LAYOUTS, PciLayout
from luoser.abi.schema import Schema
from tests.real import ROOT

__all__ = ["FILE", "made", "text"]

FILE = ROOT / "luoser" / "state" / "state.schema.json"
Json = dict[str, Any]
_WIDTH = 120
_HEX_KINDS = ("address", "handle", "token", "size")


def made(schema: Json) -> Json:
    """The state schema with its PCI part as the layouts are."""
    defs = {name: value for name, value in schema["$defs"].items() if not _is_pci(name)}
    return {**schema, "$defs": {**defs, **dict(_pci_defs())}}


def text(value: Any, indent: int = 0) -> str:
    """JSON with a space for each level; what fits one line is on one line."""
    line = json.dumps(value, ensure_ascii=True)
    if len(line) + indent <= _WIDTH - 20 or not isinstance(value, dict | list) or not value:
        return line
    pad, end = "\n" + " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, list):
        return "[" + ",".join(pad + text(item, indent + 1) for item in value) + end + "]"
    items = (f"{pad}{json.dumps(name)}: {text(item, indent + 1)}" for name, item in value.items())
    return "{" + ",".join(items) + end + "}"


def _is_pci(name: str) -> bool:
    return name.startswith(("device_", "bus_")) or name in ("resource", "pci_layout", "pci_header", "devices_by_layout")


def _pci_defs() -> Iterator[tuple[str, Json]]:
    rules: list[Json] = []
    resource = next(
        member.struct for form in LAYOUTS for member in structure(form.record).members if member.name == "resource"
    )
    assert resource is not None
    yield "resource", _object({member.name: _value(member) for member in resource.members})
    for member, prefix, fixed in (("record", "device", _place()), ("bus", "bus", _bus())):
        for schema, forms in _by_schema(member).items():
            name = f"{prefix}_{forms[0].name}"
            yield (
                name,
                _object({**fixed, **_members(schema, skip=("path", "domain", "bdf") if prefix == "device" else ())}),
            )
            array = "devices" if prefix == "device" else "buses"
            rules.append(_rule(forms, {array: {"items": {"$ref": f"#/$defs/{name}"}}}))
    rules.append(_rule([form for form in LAYOUTS if form.bus is None], {"buses": {"maxItems": 0}}))
    yield "pci_layout", {"enum": [form.name for form in LAYOUTS]}
    yield "devices_by_layout", {"allOf": rules}
    yield "pci_header", {"type": "object", "properties": _header(), "additionalProperties": False, "minProperties": 1}


def _by_schema(member: str) -> dict[Schema, list[PciLayout]]:
    found: dict[Schema, list[PciLayout]] = {}
    for form in LAYOUTS:
        schema = getattr(form, member)
        if schema is not None:
            found.setdefault(schema, []).append(form)
    return found


def _rule(forms: list[PciLayout], then: Json) -> Json:
    return {"if": {"properties": {"layout": {"enum": [form.name for form in forms]}}}, "then": {"properties": then}}


def _place() -> Json:
    return {"index": {"$ref": "#/$defs/count"}, "bdf": {"$ref": "#/$defs/bdf"}}


def _bus() -> Json:
    return {"bus": {"type": "string", "pattern": "^[0-9a-f]{4}:[0-9a-f]{2}$"}}


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _members(schema: Schema, skip: tuple[str, ...] = ()) -> Json:
    properties: Json = {}
    for member in structure(schema).members:
        if member.count == 0 or member.name in skip:
            continue
        properties[member.name] = _value(member)
        if member.kind == "flags":
            names = "|".join(member.bit_names.values())
            items = {"type": "string", "pattern": f"^({names}|0x[0-9a-f]+)$"}
            properties["flag_names"] = {"type": "array", "items": items, "uniqueItems": True}
    return properties


def _header() -> Json:
    """The members of all headers, each as wide as its widest."""
    members: dict[str, Member] = {}
    for form in LAYOUTS:
        for member in structure(form.header).members:
            if member.count != 0 and member.size >= (members[member.name].size if member.name in members else 0):
                members[member.name] = member
    return {name: _value(member) for name, member in members.items()}


def _value(member: Member) -> Json:
    if member.struct is not None:
        item = {"$ref": f"#/$defs/{member.name}"}
        return {"type": "array", "items": item, "minItems": member.count, "maxItems": member.count}
    if member.kind in _HEX_KINDS:
        return {"$ref": "#/$defs/hex"}
    if member.kind == "text":
        return {"$ref": "#/$defs/name"}
    if member.width:
        assert member.width == 1, member.name
        return {"$ref": "#/$defs/bit"}
    return {"$ref": f"#/$defs/u{8 * member.size}"}


if __name__ == "__main__":
    FILE.write_text(text(made(json.loads(FILE.read_text()))) + "\n")
