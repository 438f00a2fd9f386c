# SPDX-License-Identifier: MIT
"""Changes in the device lists of a handover, and between two lists by BDF, also of different layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from luoser.abi.pci import COUNTS
from luoser.changes.luo import ROOT_CODES, flb_signs
from luoser.changes.model import Change, Kind
from luoser.changes.rows import common_runs, outside
from luoser.changes.sides import UNREAD, Matches, Sides, mapping_changes, one_sided, paired, path_part, text_of
from luoser.state import Device, DeviceList, Handover, PciList, Problem
from luoser.text import counted

__all__ = ["bus_changes", "device_changes", "pci_changes"]

_LIST_CODES = UNREAD | {"pci-unknown-layout"}

_Buses = Sequence[Mapping[str, Any]]
_Run = tuple[int, int, int]
"""(first slot before, first slot after, number) of records that are equal on both sides."""


def device_changes(before: DeviceList, after: DeviceList) -> Iterator[Change]:
    """Changes of devices by BDF, and one more if the order of the common devices changed.

    before: first list.
    after:  second list.
    """
    is_same_form, runs = before.columns == after.columns, list[_Run]()
    if is_same_form:
        runs = list(common_runs(before.data, after.data, before.record_size))
    was = _slots(before, [(first, count) for first, _, count in runs])
    now = _slots(after, [(first, count) for _, first, count in runs])
    lone = was.keys() ^ now.keys()
    if _are_within(lone, before, runs):  # in a list twice: the first one counts
        runs, was, now = [], _slots(before, []), _slots(after, [])
        lone = was.keys() ^ now.keys()
    for path, slot in was.items() if lone else ():
        if path not in now:
            device = before.in_slot(slot)
            yield Change(kind=Kind.REMOVED, where=device.name, before=_fields_text(device.fields))
    for path, slot in now.items() if lone else ():
        if path not in was:
            device = after.in_slot(slot)
            yield Change(kind=Kind.ADDED, where=device.name, after=_fields_text(device.fields))
    pairs = [(slot, now[path]) for path, slot in was.items() if path in now]
    old, new, size = before.data, after.data, before.record_size
    for slot, other in pairs:
        if not (is_same_form and old.startswith(new[other * size : other * size + size], slot * size)):
            yield from _members(before.in_slot(slot), after.in_slot(other))
    yield from _order(pairs, before, runs)


def _slots(devices: DeviceList, runs: list[tuple[int, int]]) -> dict[int, int]:
    """The slots of the devices that are in no run, by domain << 16 | bdf. runs: (first slot, number), ascending."""
    found: dict[int, int] = {}
    for rows in outside(runs, devices.slots):
        made = dict(zip(devices.paths(rows.start, rows.stop), rows, strict=True))
        if len(made) == len(rows) and 0 not in made and made.keys().isdisjoint(found):  # none twice, and no hole
            found.update(made)
            continue
        for slot, path in zip(rows, devices.paths(rows.start, rows.stop), strict=True):
            if path not in found and (path or not devices.is_hole(slot)):
                found[path] = slot
    return found


def _are_within(paths: set[int], before: DeviceList, runs: list[_Run]) -> bool:
    """Whether one of some devices is in a run, too. paths: of the devices."""
    return bool(paths) and any(not paths.isdisjoint(before.paths(at, at + count)) for at, _, count in runs)


def _order(pairs: list[tuple[int, int]], before: DeviceList, runs: list[_Run]) -> Iterator[Change]:
    """The change of the order of the common devices. pairs: slots of those outside of runs, before and after."""
    places = list(pairs)
    for start, other, count in runs if places else ():
        slot = next((slot for slot in range(start, start + count) if not before.is_hole(slot)), None)
        if slot is not None:
            places.append((slot, slot - start + other))
    places.sort()
    for (slot, other), in_order in zip(places, sorted(other for _, other in places), strict=True):
        if other != in_order:
            note = f"{before.in_slot(slot).name} is the first at another position"
            yield Change(kind=Kind.CHANGED, where="order", before=str(slot), after=str(other), note=note)
            return


def _members(before: Device, after: Device) -> Iterator[Change]:
    """Changes of the members that both layouts have."""
    for name, value in before.fields.items():
        if name != "path" and name in after.fields and after.fields[name] != value:
            where, other = f"{before.name}/{name}", after.fields[name]
            if isinstance(value, tuple) and isinstance(other, tuple):
                yield from _resources(where, value, other)
            else:
                yield Change(kind=Kind.CHANGED, where=where, before=_value(value), after=_value(other))


def _resources(where: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    """Changes of resources, by their place in the record. An empty one is like none: layouts have more or fewer."""
    for place, (was, now) in enumerate(zip_longest(before, after)):
        if was is not None and now is not None:
            yield from mapping_changes(f"{where}[{place}]", was, now)
        elif any((was or now or {}).values()):
            yield one_sided(f"{where}[{place}]", was, now, _fields_text)


def bus_changes(before: _Buses, after: _Buses) -> Iterator[Change]:
    """Changes of the records of buses, by domain and number."""
    for number, was, now in paired(before, after, lambda bus: (bus.get("domain"), bus.get("number"))):
        where = f"bus/{number[0] or 0:04x}:{number[1] or 0:02x}"
        if was is None or now is None:
            yield one_sided(where, was, now, lambda bus: str(len(bus)))
        else:
            yield from mapping_changes(where, was, now)


def _fields_text(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in fields.items() if name != "path")


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return counted(len(value), "item")
    return f"{value:#x}" if isinstance(value, int) else str(value)


def pci_changes(sides: Sides) -> Iterator[Change]:
    """Changes in the device lists of a handover. sides: the handover."""
    matches = Matches(sides.after.pci, lambda entry: (*entry.via, entry.address))
    for old in sides.before.pci:
        new = matches.take(old)
        if new is None:
            yield sides.gone(f"pci/{_way(old)}", counted(len(old.devices), "device"), "consumed", _signs(sides, old))
            continue
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
        if old.layout == new.layout:
            # if devices were added or removed, the counts of the head change, too
            follow = COUNTS if any(change.kind is not Kind.CHANGED for change in changes) else frozenset[str]()
            for name in (name for name in old.header if name in new.header and name not in follow):
                if old.header[name] != new.header[name]:
                    where, first, then = f"pci/{_way(old)}/header/{name}", old.header[name], new.header[name]
                    yield Change(kind=Kind.CHANGED, where=where, before=text_of(first), after=text_of(then))
        yield from (change.below("pci") for change in bus_changes(old.buses, new.buses))
    serialised = not _is_serialised(sides.before) and _is_serialised(sides.after)
    for new in matches.left():
        is_late = serialised and all(way.startswith("flb:") for way in new.via)
        where, text = f"pci/{_way(new)}", counted(len(new.devices), "device")
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
