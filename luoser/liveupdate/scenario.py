# SPDX-License-Identifier: MIT
"""What is to be simulated: the machine, its drivers, what is asked for, and what goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luoser.errors import UsageError
from luoser.liveupdate.memory import PAGE_SIZE
from luoser.liveupdate.pci import SERIES, Series
from luoser.state.load import Item
from luoser.text import bdf_text, parse_bdf, safe_text
from luoser.topology import Address, Device, Topology

__all__ = ["CORE", "STEPS", "Change", "Scenario", "load_scenario"]

STEPS = ("prepare", "cancel", "freeze", "kexec", "restore", "finish")
_FAULTS = ("allocate", "freeze", "override", "prepare", "preserve", "probe", "register", "walk")
_CHANGES = ("add", "bind", "remove", "unbind", "unlink")
CORE = {"core-1": 1, "core-2": 2}
"""The series queued for 7.4, by the version that it writes: 1 endpoints only, 2 with the bridges above them."""
_MEMBERS = {"topology", "devices", "series", "next_series", "requested", "drivers", "places", "faults", "changes"}


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a device right before a step. what: one of add, bind, remove, unbind, unlink."""

    before: str
    what: str
    device: str
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """drivers: names by device, over those of the topology. requested: devices that ask to keep bus mastering.
    places: addresses by what asks for a folio, such as `pci folio`. faults: errno by (step, device or folio).
    core: 0 for a series v2, else the version of the series queued for 7.4, and next_core that of the next kernel.
    """

    topology: Topology
    series: Series = SERIES["v2-10"]
    requested: tuple[str, ...] = ()
    drivers: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    core: int = 0
    next_core: int = 0


def load_scenario(values: Mapping[str, Any], topology: Topology | None = None) -> Scenario:
    """A scenario from TOML or JSON. topology: where the scenario does not list devices itself.

    Raises UsageError with the path of what is wrong.
    """
    item = Item(dict(values), "")
    for name in values:
        if name not in _MEMBERS:
            raise UsageError(f"{safe_text(name)}: unknown; expected {', '.join(sorted(_MEMBERS))}")
    if item.get("devices") is not None:
        topology = Topology(devices=_devices(item), form="scenario")
    if topology is None:
        raise UsageError("devices: missing; list devices here, or name a topology")
    series, following = item.text("series", "v2-10"), item.text("next_series", item.text("series", "v2-10"))
    for name, value in (("series", series), ("next_series", following)):
        if value not in SERIES and value not in CORE:
            word = f"expected one of {', '.join((*SERIES, *CORE))}"
            raise item.fail(name, f"no series is named {safe_text(value)}; {word}")
    if following != series and not {series, following} <= {*CORE}:
        raise item.fail("next_series", f"only {' and '.join(CORE)} can follow each other")
    return Scenario(
        topology=topology,
        series=SERIES.get(series, SERIES["v2-10"]),
        core=CORE.get(series, 0),
        next_core=CORE.get(following, 0),
        requested=tuple(_device(item, f"requested[{n}]", text) for n, text in enumerate(item.array("requested"))),
        drivers={_device(item, "drivers", name): _driver(item, name) for name in _table(item, "drivers")},
        places={name: _page(item, name) for name in _table(item, "places")},
        faults=dict(_fault(fault) for fault in item.items("faults")),
        changes=tuple(_change(change) for change in item.items("changes")),
    )


def _table(item: Item, name: str) -> dict[str, Any]:
    found = item.item(name)
    return dict(found.values) if found is not None else {}


def _driver(item: Item, name: str) -> str:
    return Item(_table(item, "drivers"), "drivers").text(name)


def _page(item: Item, name: str) -> int:
    places = Item(_table(item, "places"), "places")
    address = places.number(name)
    if not 0 < address < 1 << 52 or address % PAGE_SIZE:
        raise places.fail(name, f"{address:#x} is no address of a page")
    return address


def _device(item: Item, name: str, text: Any) -> str:
    """A device's name in full."""
    try:
        domain, bdf = parse_bdf(text)
    except (ValueError, TypeError):
        raise item.fail(name, f"{safe_text(str(text)[:40])} is no PCI address such as 0000:05:00.1") from None
    return Device(domain=domain, bdf=bdf).name


def _fault(item: Item) -> tuple[tuple[str, str], int]:
    step = item.text("at")
    if step not in _FAULTS:
        raise item.fail("at", f"{safe_text(step)}: expected one of {', '.join(_FAULTS)}")
    name = item.text("errno", "EIO")
    code = getattr(errno, name, None) if name.startswith("E") else None
    if not isinstance(code, int):
        raise item.fail("errno", f"{safe_text(name)} is no name of an error, such as EIO")
    if step in ("allocate", "preserve"):
        return (step, item.text("folio", "pci folio")), code
    return (step, "pci" if step == "register" else _device(item, "device", item.text("device"))), code


def _change(item: Item) -> Change:
    before = item.text("before")
    if before not in STEPS:
        raise item.fail("before", f"{safe_text(before)}: expected one of {', '.join(STEPS)}")
    what = [name for name in _CHANGES if item.get(name) is not None]
    if len(what) != 1:
        raise item.fail("before", f"expected one of {', '.join(_CHANGES)} beside it")
    device = _device(item, what[0], item.text(what[0]))
    return Change(before, what[0], device, item.text("driver") if what[0] in ("add", "bind") else "")


def _devices(item: Item) -> dict[Address, Device]:
    """Devices as the scenario lists them: bdf, parent, driver, physfn."""
    made: dict[Address, Device] = {}
    rows = list(item.items("devices"))
    parents = {_device(row, "parent", row.text("parent")) for row in rows if row.get("parent") is not None}
    for row in rows:
        domain, bdf = parse_bdf(_device(row, "bdf", row.text("bdf")))
        name = Device(domain=domain, bdf=bdf).name
        parent = parse_bdf(_device(row, "parent", row.text("parent"))) if row.get("parent") is not None else None
        physfn = parse_bdf(_device(row, "physfn", row.text("physfn"))) if row.get("physfn") is not None else None
        if (domain, bdf) in made:
            raise row.fail("bdf", f"{name} is listed twice")
        made[domain, bdf] = Device(
            domain=domain,
            bdf=bdf,
            parent=parent,
            on_root_bus=parent is None,
            is_bridge=name in parents,
            driver=row.text("driver", ""),
            is_vf=physfn is not None,
            physfn=physfn,
        )
    for device in made.values():
        _check_parents(made, device)
    return made


def _check_parents(made: Mapping[Address, Device], device: Device) -> None:
    seen = {device.address}
    for address in (device.physfn, device.parent):
        if address is not None and address not in made:
            raise UsageError(f"devices: {device.name} names {bdf_text(*address)}, which is not listed")
    while device.parent is not None and device.parent in made:
        if device.parent in seen:
            raise UsageError(f"devices: {device.name} is below itself")
        seen.add(device.parent)
        device = made[device.parent]
