# SPDX-License-Identifier: MIT
"""Changes between two bare blobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from luoser.changes.model import Change, Kind
from luoser.changes.pci import device_changes
from luoser.state import Blob

__all__ = ["blob_changes"]


def blob_changes(before: Blob, after: Blob) -> Iterator[Change]:
    """Changes in layout, members, devices and records. Members of the head are not compared if there are devices.

    before: first blob.
    after:  second blob.
    """
    if before.layout != after.layout:
        yield Change(kind=Kind.CHANGED, where="layout", before=before.layout, after=after.layout)
    has_devices = before.devices is not None and after.devices is not None
    if has_devices and before.devices is not None and after.devices is not None:
        yield from device_changes(before.devices, after.devices)
    else:
        yield from _members("fields", before.fields, after.fields)
    for index in range(max(len(before.records), len(after.records))):
        where = f"records/{index}"
        if index >= len(after.records):
            yield Change(kind=Kind.REMOVED, where=where, before=str(len(before.records[index])))
        elif index >= len(before.records):
            yield Change(kind=Kind.ADDED, where=where, after=str(len(after.records[index])))
        else:
            yield from _members(where, before.records[index], after.records[index])
    if before.fdt is not None and after.fdt is not None and before.fdt.root != after.fdt.root:
        yield Change(kind=Kind.CHANGED, where="fdt", before="one devicetree", after="another")


def _members(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _members(f"{where}/{name}", old, new)
        elif old != new:
            yield Change(kind=Kind.CHANGED, where=f"{where}/{name}", before=_text(old), after=_text(new))


def _text(value: Any) -> str | None:
    return f"{value:#x}" if isinstance(value, int) else None if value is None else str(value)
