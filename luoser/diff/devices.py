# SPDX-License-Identifier: MIT
"""Two device lists, by BDF, whatever their layouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from luoser.diff.model import Change, Kind
from luoser.diff.rows import common_ends, unequal_rows
from luoser.state import Device, DeviceList

__all__ = ["device_changes"]

_Named = dict[tuple[int, int], Device]


def device_changes(before: DeviceList, after: DeviceList) -> Iterator[Change]:
    """Devices that came, went or changed; one more change when those in both stand in another order."""
    old, new = _windows(before, after)
    was, now = _by_bdf(old), _by_bdf(new)
    for key, device in was.items():
        if key not in now:
            yield Change(kind=Kind.REMOVED, where=device.name, before=_text(device.fields))
    for key, device in now.items():
        if key not in was:
            yield Change(kind=Kind.ADDED, where=device.name, after=_text(device.fields))
    for key, device in was.items():
        if key in now:
            yield from _members(device, now[key])
    order_was, order_now = [key for key in was if key in now], [key for key in now if key in was]
    if order_was != order_now:
        moved = next(one for one, other in zip(order_was, order_now, strict=True) if one != other)
        yield Change(
            kind=Kind.CHANGED, where="order", before=str(was[moved].index), after=str(now[moved].index),
            note=f"{was[moved].name} is the first that stands elsewhere",
        )  # fmt: skip


def _windows(before: DeviceList, after: DeviceList) -> tuple[Iterable[Device], Iterable[Device]]:
    """The devices that may differ: of two long lists of one layout only those in rows that are not the same."""
    if before.columns != after.columns:
        return before, after
    size, old, new = before.record_size, before.data, after.data
    if len(old) == len(new):
        rows = list(unequal_rows(old, new, size))
        return before.at_rows(rows), after.at_rows(rows)
    first, last = common_ends(old, new, size)
    return (
        before.at_rows(range(first, len(old) // size - last)),
        after.at_rows(range(first, len(new) // size - last)),
    )


def _by_bdf(devices: Iterable[Device]) -> _Named:
    found: _Named = {}
    for device in devices:
        found.setdefault((device.domain, device.bdf), device)
    return found


def _members(before: Device, after: Device) -> Iterator[Change]:
    """Members that both layouts have."""
    for name, value in before.fields.items():
        if name != "path" and name in after.fields and after.fields[name] != value:
            yield Change(
                kind=Kind.CHANGED,
                where=f"{before.name}/{name}",
                before=_value(value),
                after=_value(after.fields[name]),
            )


def _text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items() if name != "path")


def _value(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)
