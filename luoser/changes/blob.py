# SPDX-License-Identifier: MIT
"""Changes between two bare blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from luoser.abi.pci import COUNTS
from luoser.changes.model import Change, Kind
from luoser.changes.pci import bus_changes, device_changes
from luoser.state import Blob

__all__ = ["blob_changes"]


def blob_changes(before: Blob, after: Blob) -> Iterator[Change]:
    """Changes in layout, members, devices, buses and records. A count is compared if it is not right.

    before: first blob.
    after:  second blob.
    """
    if before.layout != after.layout:
        yield Change(kind=Kind.CHANGED, where="layout", before=before.layout, after=after.layout)
    counts = frozenset[str]()
    if before.devices is not None and after.devices is not None:
        yield from device_changes(before.devices, after.devices)
        yield from bus_changes(before.buses, after.buses)
        numbers = [(len(before.devices), len(after.devices)), (len(before.buses), len(after.buses))]
        counts = frozenset(name for name in COUNTS if (before.fields.get(name), after.fields.get(name)) in numbers)
    if before.devices is None or before.layout == after.layout:
        yield from _members("fields", before.fields, after.fields, counts)
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


def _members(
    where: str, before: Mapping[str, Any], after: Mapping[str, Any], ignored: Collection[str] = ()
) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        if name in ignored:
            continue
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _members(f"{where}/{name}", old, new)
        elif old != new:
            yield Change(kind=Kind.CHANGED, where=f"{where}/{name}", before=_text(old), after=_text(new))


def _text(value: Any) -> str | None:
    return f"{value:#x}" if isinstance(value, int) else None if value is None else str(value)
