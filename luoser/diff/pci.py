# SPDX-License-Identifier: MIT
"""Changes in the device lists of a handover, and between two lists by BDF, also of different layouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from luoser.diff.luo import ROOT_CODES, flb_signs
from luoser.diff.model import Change, Kind
from luoser.diff.rows import common_ends, unequal_rows
from luoser.diff.sides import UNREAD, Sides, mapping_changes, one_sided, paired, path_part, text_of
from luoser.state import Device, DeviceList, Handover, PciList, Problem

__all__ = ["device_changes", "pci_changes"]

_LIST_CODES = UNREAD | {"pci-unknown-layout"}

_Named = dict[tuple[int, int], Device]


def device_changes(before: DeviceList, after: DeviceList) -> Iterator[Change]:
    """Changes of devices by BDF, and one more if the order of the common devices changed.

    before: first list.
    after:  second list.
    """
    old, new = _windows(before, after)
    was, now = _by_bdf(old), _by_bdf(new)
    for key, device in was.items():
        if key not in now:
            yield Change(kind=Kind.REMOVED, where=device.name, before=_fields_text(device.fields))
    for key, device in now.items():
        if key not in was:
            yield Change(kind=Kind.ADDED, where=device.name, after=_fields_text(device.fields))
    for key, device in was.items():
        if key in now:
            yield from _members(device, now[key])
    order_was, order_now = [key for key in was if key in now], [key for key in now if key in was]
    if order_was != order_now:
        moved = next(one for one, other in zip(order_was, order_now, strict=True) if one != other)
        yield Change(
            kind=Kind.CHANGED, where="order", before=str(was[moved].index), after=str(now[moved].index),
            note=f"{was[moved].name} is the first at another position",
        )  # fmt: skip


def _windows(before: DeviceList, after: DeviceList) -> tuple[Iterable[Device], Iterable[Device]]:
    """The devices that may differ: of two lists of the same layout only those in different rows."""
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
    """Changes of the members that both layouts have."""
    for name, value in before.fields.items():
        if name != "path" and name in after.fields and after.fields[name] != value:
            yield Change(
                kind=Kind.CHANGED,
                where=f"{before.name}/{name}",
                before=_value(value),
                after=_value(after.fields[name]),
            )


def _fields_text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items() if name != "path")


def _value(value: Any) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


def pci_changes(sides: Sides) -> Iterator[Change]:
    """Changes in the device lists of a handover. sides: the handover."""
    left = list(sides.after.pci)
    for old in sides.before.pci:
        new = next((entry for entry in left if _is_same_list(old, entry)), None)
        if new is None:
            yield sides.gone(f"pci/{_way(old)}", f"{len(old.devices)} devices", "consumed", _signs(sides, old))
            continue
        left.remove(new)
        if old.layout != new.layout:
            yield Change(
                kind=Kind.CHANGED, where=f"pci/{_way(old)}/layout", before=old.layout, after=new.layout,
                note="members of only one of them are not compared",
            )  # fmt: skip
        if old.address != new.address:
            yield Change(
                kind=Kind.CHANGED,
                where=f"pci/{_way(old)}/address",
                before=text_of(old.address),
                after=text_of(new.address),
            )
        changes = list(device_changes(old.devices, new.devices))
        yield from (change.below("pci") for change in changes)
        if old.layout == new.layout and all(change.kind is Kind.CHANGED for change in changes):
            # if devices were added or removed, the counts of the head change, too
            for name in old.header.keys() & new.header.keys():
                if old.header[name] != new.header[name]:
                    where, first, then = f"pci/{_way(old)}/header/{name}", old.header[name], new.header[name]
                    yield Change(kind=Kind.CHANGED, where=where, before=text_of(first), after=text_of(then))
        for number, was, now in paired(old.buses, new.buses, lambda bus: (bus.get("domain"), bus.get("number"))):
            where = f"pci/bus/{number[0] or 0:04x}:{number[1] or 0:02x}"
            if was is None or now is None:
                yield one_sided(where, was, now, lambda bus: str(len(bus)))
            else:
                yield from mapping_changes(where, was, now)
    serialised = not _is_serialised(sides.before) and _is_serialised(sides.after)
    for new in left:
        is_late = serialised and all(way.startswith("flb:") for way in new.via)
        where, text = f"pci/{_way(new)}", f"{len(new.devices)} devices"
        if is_late:
            yield Change(kind=Kind.PROGRESS, where=where, after=text)
        else:
            yield sides.come(where, text, *_paths(sides.before, new))


def _paths(handover: Handover, entry: PciList) -> Iterator[str]:
    """The paths of all that leads to a list, in another state of its handover."""
    luo = handover.luo
    for way in entry.via:
        kind, _, name = way.partition(":")
        yield from ("luo", "luo.flbs") if kind == "flb" else ("luo",) if kind == "subsystem" else ()
        for index, flb in enumerate(luo.flbs if luo is not None else ()):
            if flb.name == name:
                yield f"luo.flbs[{index}]"
        for index, other in enumerate(luo.subsystems if luo is not None else ()):
            if other.name == name:
                yield f"luo.subsystems[{index}]"
        for index, subtree in enumerate(handover.subtrees):
            if subtree.name in (name, "LUO"):
                yield f"subtrees[{index}]"


def _is_serialised(handover: Handover) -> bool:
    return handover.luo is not None and handover.luo.serialized


def _is_same_list(old: PciList, new: PciList) -> bool:
    return bool(set(old.via) & set(new.via)) or old.address == new.address


def _way(entry: PciList) -> str:
    return path_part(entry.via[0]) if entry.via else f"{entry.address:#x}"


def _signs(sides: Sides, old: PciList) -> list[Problem]:
    """The problems that explain why a list is gone: of its FLB, subsystem or sub-tree, or of LUO."""
    luo = sides.after.luo
    if luo is None:
        return sides.about_subtree("LUO", "luo", ROOT_CODES)
    found: list[Problem] = []
    for way in old.via:
        kind, _, name = way.partition(":")
        named = {
            "flb": ("luo.flbs", [flb.name for flb in luo.flbs]),
            "subsystem": ("luo.subsystems", [entry.name for entry in luo.subsystems]),
            "subtree": ("subtrees", [subtree.name for subtree in sides.after.subtrees]),
        }
        path, names = named.get(kind, ("", []))
        places = [f"{path}[{index}]" for index, other in enumerate(names) if other == name]
        for place in places:
            found += sides.about(place, _LIST_CODES)
        if not places and kind == "flb" and sides.before.luo is not None:
            found += [sign for flb in sides.before.luo.flbs if flb.name == name for sign in flb_signs(sides, flb)]
        elif not places:
            found += sides.about(path, _LIST_CODES)
    return found
