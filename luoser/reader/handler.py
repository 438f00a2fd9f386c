# SPDX-License-Identifier: MIT
"""Structs that file handlers and FLBs other than memfd and PCI hand over, decoded as far as bytes decide."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any

from luoser.abi import iommu
from luoser.abi.luo import is_test_flb
from luoser.abi.pci import MAX_DOMAIN
from luoser.abi.registry import Layout, layout, layouts
from luoser.abi.schema import Field, Schema
from luoser.errors import MissingMemory
from luoser.reader.walk import PHYSICAL_LIMIT, Walk
from luoser.state import Hex, Record
from luoser.text import decode_name

__all__ = ["plain_fields", "read_detail", "read_flb_detail", "settled", "struct_candidates", "with_hex"]

_HEX_MEMBERS = frozenset(
    {"addr", "attachment_id", "data", "dma_owner_token", "driver_data", "dt_size", "end", "fdt_size", "foliodesc"}
    | {
        "gfn",
        "iova",
        "len",
        "mem_cache_size",
        "pos",
        "restored_domain",
        "scratch_size",
        "size",
        "start",
        "token",
        "vm_token",
    }
)
"""Handles, tokens, sizes in bytes and file positions, by the names that the kernel gives them."""
_SUBJECTS = ("hugetlb", "guest", "iommu", "vfio", "other")


def read_detail(walk: Walk, compatible: str, address: int, what: str) -> Record | None:
    """The handler's struct of a file; None for handlers without a known layout."""
    forms = [entry for entry in layouts() if entry.subject in _SUBJECTS and entry.handler == compatible]
    return _read(walk, forms, address, what)


def read_flb_detail(walk: Walk, name: str, address: int, what: str) -> Record | None:
    """The owner's struct of an FLB; None for unknown ones, for device lists and for the kernel's test FLBs."""
    if is_test_flb(address):
        return None
    return read_detail(walk, name, address, what)


def _read(walk: Walk, forms: list[Layout], address: int, what: str) -> Record | None:
    if not forms:
        return None
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, f"{what}: {address:#x} is no page address")
        return None
    chosen = [entry for name in walk.layouts if (entry := layout(name)) in forms and entry is not None]
    try:
        page = walk.memory.read(address, walk.page_size)
    except MissingMemory as error:
        walk.missing(error, what)
        return None
    fits = chosen[:1] or struct_candidates(forms, page)
    if not fits:
        walk.problem(
            "bad-handler-data",
            address,
            f"{what}: bytes are none of {', '.join(entry.name for entry in forms)}; reused memory?",
        )
        return None
    readings = tuple((entry.name, plain_fields(entry.schemas[0].parse(page), entry.schemas[0])) for entry in fits)
    return Record(address=address, readings=readings, confidence=_confidence(len(readings), chosen=bool(chosen)))


def _confidence(readings: int, *, chosen: bool) -> str:
    if chosen:
        return "chosen by --layout"
    return "the only layout that fits" if readings == 1 else f"{readings} layouts fit, these bytes do not decide"


def settled(record: Record, devices: Set[tuple[int, int]]) -> Record:
    """A vfio record with the readings that name a device of a preserved list, if that leaves some and not all.

    devices: (domain, bus << 8 | devfn) of every device that the handover preserves.
    """
    named = tuple(
        (layout_name, fields)
        for layout_name, fields in record.readings
        if (fields.get("domain", 0), fields.get("bdf")) in devices
    )
    if not named or len(named) == len(record.readings):
        return record
    word = "its device is in the preserved PCI list"
    return replace(record, readings=named, confidence=f"{_confidence(len(named), chosen=False)}; {word}")


def struct_candidates(forms: list[Layout], page: bytes) -> list[Layout]:
    """The forms of one handler that a zero-filled page fits, likeliest first."""
    fits = [entry for entry in forms if entry.schemas[0].size <= len(page) and _is_plausible(entry, page)]
    return sorted(fits, key=lambda entry: -entry.schemas[0].size)


def _is_plausible(entry: Layout, page: bytes) -> bool:
    head = entry.schemas[0]
    fields = plain_fields(head.parse(page), head)
    if entry.subject == "vfio":
        return _is_vfio(entry, fields, page)
    if entry.name == "kvm-vm-rfc" and bool(fields["nr_mem_attrs"]) != bool(fields["mem_attrs"]["first"]):
        return False
    if entry.name == "iommu-liveupdate-1" and fields["version"] != iommu.FLB_VERSION:
        return False
    return all(_member_is_plausible(head, name, value) for name, value in fields.items())


def _is_vfio(entry: Layout, fields: Mapping[str, Any], page: bytes) -> bool:
    """Shorter forms leave zeros where longer ones have members; domain and reset_works have few values."""
    size = entry.schemas[0].size
    return fields.get("domain", 0) <= MAX_DOMAIN and fields.get("reset_works", 0) <= 1 and not page[size:].strip(b"\0")


def _member_is_plausible(head: Any, name: str, value: Any) -> bool:
    member = next((field for field in head.fields if field.name == name), None)
    if member is None or not isinstance(value, int):
        return True
    return member.c_type != "phys" or (value % 4096 == 0 and value < PHYSICAL_LIMIT)


def plain_fields(container: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """A parsed struct as plain values: names as text, bit-fields as members, addresses and sizes as Hex."""
    return with_hex(schema, _members(container))


def with_hex(schema: Schema, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a struct with those that are addresses, sizes or handles as Hex."""
    hexes = {field.name for field in schema.fields if _is_hex(field)}
    texts = {field.name for field in schema.fields if field.c_type.startswith("char")}
    return _typed(fields, hexes, texts, "")


def _is_hex(field: Field) -> bool:
    return field.c_type == "phys" or field.name.rsplit(".", 1)[-1] in _HEX_MEMBERS


def _typed(fields: Mapping[str, Any], hexes: set[str], texts: set[str], prefix: str) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for name, value in fields.items():
        full = prefix + name
        if isinstance(value, Mapping):
            typed[name] = _typed(value, hexes, texts, f"{full}.")
        elif isinstance(value, int) and full in hexes:
            typed[name] = Hex(value)
        elif isinstance(value, bytes) and full in texts:
            typed[name] = decode_name(value)
        elif isinstance(value, list) and name in ("resource", "phys", "table", "bitmaps"):
            typed[name] = [_hex_item(item) for item in value]
        else:
            typed[name] = value
    return typed


def _hex_item(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {name: _hex_item(value) for name, value in item.items()}
    if isinstance(item, bytes):
        return decode_name(item)  # the only text in such a list is the name of a resource
    return Hex(item) if isinstance(item, int) else item


def _members(container: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in container.items():
        if name == "_io" or name.startswith(("_pad", "_unused")):
            continue
        if name.startswith("_"):
            fields |= _members(value)
        else:
            plain = _plain(value)
            if plain is not None:
                fields[name] = plain
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _members(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
