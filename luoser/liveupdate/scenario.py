# SPDX-License-Identifier: MIT
"""Scenarios: the machine to simulate, its drivers, what is requested, faults and changes. See docs/liveupdate.md."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from luoser.abi.memfd import SEALS
from luoser.abi.pci import pci_dev_ser_v1_12, pci_resource_ser
from luoser.errors import UsageError
from luoser.liveupdate.memory import PAGE_SIZE
from luoser.liveupdate.sessions.series import SERIES as SESSION_SERIES
from luoser.liveupdate.subsystems.series import SERIES as SUBSYSTEM_SERIES
from luoser.liveupdate.tree import PciDevice
from luoser.state.from_json import Item
from luoser.text import bdf_text, parse_bdf, safe_text
from luoser.topology import Address, Device, Topology

__all__ = ["STEPS", "Change", "FileRequest", "Scenario", "SessionRequest", "Traits", "load_scenario"]

STEPS = ("prepare", "cancel", "freeze", "kexec", "restore", "finish")
_DEVICE_FAULTS = ("freeze", "override", "prepare", "preserve", "probe", "retrieve", "walk")
_FAULTS = (*_DEVICE_FAULTS, "allocate", "register")
_DEVICE_CHANGES = ("add", "bind", "preserve", "remove", "unbind", "unlink")
_CHANGES = (*_DEVICE_CHANGES, "close", "create")
_SESSION = "vm"
_MEMFD_SIZE = 256 << 20
"""Maximum size in bytes of all memfds together."""
_SAVED = frozenset(
    field.name for field in pci_dev_ser_v1_12.fields if field.bit_width or field.name in ("current_state", "pm_cap")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that happens right before a step.

    before:  the step.
    what:    add, bind, remove, unbind or unlink a device; create or close a session; preserve a device's file.
    name:    of the device or session.
    driver:  of the device, for add and bind.
    session: where to preserve the file.
    token:   of the file.
    """

    before: str
    what: str
    name: str
    driver: str = ""
    session: str = ""
    token: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Facts about a device that a topology does not have; see PciDevice."""

    members: Mapping[str, int] = field(default_factory=dict)
    resources: tuple[Mapping[str, Any], ...] = ()
    acs_quirk: bool = False
    iommu_group: str = ""
    can_reset: bool = True

    def apply(self, device: PciDevice) -> None:
        """Set these facts in a device."""
        device.members, device.resources = dict(self.members), self.resources
        device.acs_quirk, device.iommu_group, device.can_reset = self.acs_quirk, self.iommu_group, self.can_reset


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """A file that user space preserves: of a vfio-pci device, or a memfd.

    token:    of the file in its session.
    device:   name of the device. "" for a memfd.
    memfd:    name of the memfd. "" for a device.
    size:     of the memfd in bytes.
    data:     its first bytes; the others are zero.
    position: its file position.
    seals:    its F_SEAL_* bits.
    """

    token: int
    device: str = ""
    memfd: str = ""
    size: int = 0
    data: bytes = b""
    position: int = 0
    seals: int = 1

    @property
    def name(self) -> str:
        """Name of the device or memfd."""
        return self.device or self.memfd


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """A session that user space creates, with the files to preserve in it, in this order."""

    name: str
    files: tuple[FileRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What to simulate. docs/liveupdate.md describes the members of the file.

    topology:    PCI devices of the machine.
    series:      name of a series: a 2025 one with the LUO of its RFC, or a PCI core one with the LUO of 7.0 and later.
    next_series: of the next kernel. "": the same.
    kernel:      release of the LUO of 7.0 and later. "": the one on which the series was posted.
    has_iov:     the kernel is configured with SR-IOV.
    requested:   devices that request to be preserved.
    drivers:     name of the driver by device, instead of the one in the topology.
    traits:      further facts by device.
    windows:     resources of root buses, by name of the bus, such as 0000:00.
    subsystems:  of the LUO of 2025, in the order of registration.
    sessions:    what user space preserves.
    places:      physical address of a folio by its owner, such as `pci folio`.
    faults:      errno by (step, name of a device, memfd, subsystem or folio).
    changes:     what happens between the steps, in this order.
    """

    topology: Topology
    series: str = "pci-lu-v2"
    next_series: str = ""
    kernel: str = ""
    has_iov: bool = True
    requested: tuple[str, ...] = ()
    drivers: Mapping[str, str] = field(default_factory=dict)
    traits: Mapping[str, Traits] = field(default_factory=dict)
    windows: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    subsystems: tuple[str, ...] = ("pci",)
    sessions: tuple[SessionRequest, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()

    @property
    def is_session_series(self) -> bool:
        """Whether the series is one of the PCI core, with the LUO of 7.0 and later (sessions)."""
        return self.series in SESSION_SERIES


_MEMBERS = frozenset(
    (
        *("topology", "devices", "buses", "drivers", "traits", "has_iov"),
        *("series", "next_series", "kernel", "subsystems"),
        *("requested", "sessions", "places", "faults", "changes"),
    )
)


def load_scenario(values: Mapping[str, Any], topology: Topology | None = None) -> Scenario:
    """The scenario in a document.

    values:   the document, from TOML or JSON.
    topology: of the machine. None if the document lists the devices.

    Raises UsageError with the path of the first error.
    """
    item = _only(Item(dict(values), ""), _MEMBERS)
    if item.get("devices") is not None:
        if item.get("topology") is not None:
            raise item.fail("topology", "expected either a topology or devices, found both")
        topology = Topology(devices=_devices(item), form="scenario")
    if topology is None:
        raise UsageError("devices: missing: expected a list of devices, or a topology")
    series = _series(item, "series", "pci-lu-v2")
    requested = tuple(_device(item, f"requested[{n}]", text) for n, text in enumerate(item.array("requested")))
    _need_own_members(item, series)
    scenario = Scenario(
        topology=topology,
        series=series,
        next_series=_next_series(item, series),
        kernel=item.text("kernel", ""),
        has_iov=item.truth("has_iov", True),
        requested=requested,
        drivers={_device(item, "drivers", name): _table(item, "drivers").text(name)
                 for name in _names(item, "drivers")},
        traits={_device(item, "traits", name): _traits(_required(_table(item, "traits"), name))
                for name in _names(item, "traits")},
        windows={_bus(bus): tuple(_resource(one) for one in bus.items("resource")) for bus in item.items("buses")},
        subsystems=_subsystems(item),
        sessions=_sessions(item, requested),
        places={name: _page(item, name) for name in _names(item, "places")},
        faults=dict(_fault(fault) for fault in item.items("faults")),
        changes=tuple(_change(change) for change in item.items("changes")),
    )  # fmt: skip
    _check_devices(scenario)
    return scenario


def _need_own_members(item: Item, series: str) -> None:
    """Raises UsageError for members that have no effect in this series."""
    foreign = ("subsystems", "buses") if series in SESSION_SERIES else ("sessions", "kernel")
    for name in foreign:
        if item.get(name) is not None:
            raise item.fail(name, f"not a member for {series}")
    if item.get("requested") is not None and item.get("sessions") is not None:
        raise item.fail("requested", "not allowed with sessions; put these devices into the files of a session")


def _check_devices(scenario: Scenario) -> None:
    """Raises UsageError for a device that is referred to, but is neither in the machine nor added, and for the size of
    memfds."""
    known = {device.name for device in scenario.topology.devices.values()}
    known |= {change.name for change in scenario.changes if change.what == "add"}
    files = (file for session in scenario.sessions for file in session.files)
    memfds = {file.memfd for file in files if file.memfd}
    targets = memfds | set(scenario.subsystems)
    faults = {name for step, name in scenario.faults if step not in ("allocate", "preserve") and name not in targets}
    for what, names in (("drivers", scenario.drivers), ("traits", scenario.traits), ("faults", faults)):
        for name in names:
            if name not in known:
                raise UsageError(f"{what}: {safe_text(name)} is not in this machine")
    total = sum(file.size for session in scenario.sessions for file in session.files)
    if total > _MEMFD_SIZE:
        raise UsageError(f"sessions: expected memfds of at most {_MEMFD_SIZE:#x} bytes in total, found {total:#x}")


def _series(item: Item, name: str, default: str) -> str:
    value = item.text(name, default)
    if value not in SUBSYSTEM_SERIES and value not in SESSION_SERIES:
        whole = [known for known in (*SUBSYSTEM_SERIES, *SESSION_SERIES) if known.count("-") < 3]
        word = f"expected one of {', '.join(whole)}, or one of these up to a patch, such as pci-lu-v1-09"
        raise item.fail(name, f"unknown series {safe_text(value)}: {word}")
    return value


def _next_series(item: Item, series: str) -> str:
    value = _series(item, "next_series", series)
    if (value in SESSION_SERIES) is not (series in SESSION_SERIES):
        raise item.fail("next_series", f"{value} needs another LUO than {series}")
    if value != series and series in SUBSYSTEM_SERIES:
        raise item.fail("next_series", f"expected {series}; only series of the PCI core can have another next one")
    return value


# -- tables --


def _only(item: Item, known: Iterable[str]) -> Item:
    """The item, unchanged. Raises UsageError for an unknown member, which is probably misspelt."""
    for name in item.values:
        if name not in known:
            raise item.fail(name, f"unknown: expected {', '.join(sorted(known))}")
    return item


def _table(item: Item, name: str) -> Item:
    return item.item(name) or Item({}, name)


def _names(item: Item, name: str) -> Iterator[str]:
    return iter(_table(item, name).values)


def _required(item: Item, name: str) -> Item:
    found = item.item(name)
    if found is None:
        raise item.fail(name, "expected a table")
    return found


def _page(item: Item, name: str) -> int:
    places = _table(item, "places")
    address = places.number(name)
    if not 0 < address < 1 << 52 or address % PAGE_SIZE:
        raise places.fail(name, f"expected a page address below 2^52, found {address:#x}")
    return address


def _device(item: Item, name: str, text: Any) -> str:
    """The full name of a device. Raises UsageError."""
    try:
        domain, bdf = parse_bdf(text)
    except (ValueError, TypeError):
        raise item.fail(
            name, f"expected a PCI address such as 0000:05:00.1, found {safe_text(str(text)[:40])}"
        ) from None
    return Device(domain=domain, bdf=bdf).name


def _bus(item: Item) -> str:
    _only(item, ("bus", "resource"))
    try:
        domain, bdf = parse_bdf(f"{item.text('bus')}:00.0")
    except ValueError:
        raise item.fail(
            "bus", f"expected a PCI bus such as 0000:41, found {safe_text(item.text('bus')[:40])}"
        ) from None
    return bdf_text(domain, bdf)[:-5]


def _traits(item: Item) -> Traits:
    _only(item, {*_SAVED, "resource", "acs_quirk", "iommu_group", "can_reset"})
    return Traits(
        members={name: item.number(name) for name in item.values if name in _SAVED},
        resources=tuple(_resource(one) for one in item.items("resource")),
        acs_quirk=item.truth("acs_quirk", False),
        iommu_group=item.text("iommu_group", ""),
        can_reset=item.truth("can_reset", True),
    )


def _resource(item: Item) -> dict[str, Any]:
    """Members of a BAR or window. An empty table is an unused slot."""
    _only(item, pci_resource_ser.record_fields)
    return {name: item.text(name) if name == "name" else item.number(name) for name in item.values}


def _subsystems(item: Item) -> tuple[str, ...]:
    names = item.array("subsystems") or ["pci"]
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
            raise item.fail(f"subsystems[{index}]", f"expected an ASCII identifier, found {safe_text(str(name)[:40])}")
    if len(set(names)) < len(names) or "pci" not in names:
        raise item.fail("subsystems", "expected distinct names, one of them pci")
    return tuple(names)


# -- sessions --


def _sessions(item: Item, requested: tuple[str, ...]) -> tuple[SessionRequest, ...]:
    """The sessions in the document. Without a list, one session with the requested devices and tokens from 1."""
    if item.get("sessions") is None:
        files = tuple(FileRequest(token=token, device=name) for token, name in enumerate(requested, 1))
        return (SessionRequest(name=_SESSION, files=files),)
    return tuple(_session(session) for session in item.items("sessions"))


def _session(item: Item) -> SessionRequest:
    _only(item, ("name", "files"))
    files = tuple(_file(file, number) for number, file in enumerate(item.items("files"), 1))
    return SessionRequest(name=item.text("name"), files=files)


def _file(item: Item, number: int) -> FileRequest:
    token = item.number("token", number)
    if token >> 64:
        raise item.fail("token", f"expected 64 bits, found {token:#x}")
    if item.get("device") is not None:
        _only(item, ("token", "device"))
        return FileRequest(token=token, device=_device(item, "device", item.text("device")))
    _only(item, ("token", "memfd", "size", "bytes", "position", "seals"))
    size, data = item.number("size", 0), item.data("bytes") if item.get("bytes") is not None else b""
    if len(data) > size:
        raise item.fail("bytes", f"expected at most the size of the file, {size} bytes, found {len(data)}")
    seals = item.bits("seals", SEALS)
    return FileRequest(
        token=token,
        memfd=item.text("memfd"),
        size=size,
        data=data,
        position=item.number("position", 0),
        seals=1 if seals is None else seals,
    )


# -- faults and changes --


def _fault(item: Item) -> tuple[tuple[str, str], int]:
    step = _only(item, ("at", "errno", "device", "memfd", "subsystem", "folio")).text("at")
    if step not in _FAULTS:
        raise item.fail("at", f"expected one of {', '.join(sorted(_FAULTS))}, found {safe_text(step)}")
    name = item.text("errno", "ENOMEM" if step == "allocate" else "EIO")
    code = getattr(errno, name, None) if name.startswith("E") else None
    if not isinstance(code, int):
        raise item.fail("errno", f"expected the name of an error such as EIO, found {safe_text(name)}")
    if step == "register":
        return (step, "pci"), code
    if step in _DEVICE_FAULTS and item.get("device") is not None:
        return (step, _device(item, "device", item.text("device"))), code
    for kind in ("memfd", "subsystem"):
        if step in ("prepare", "preserve", "freeze", "retrieve") and item.get(kind) is not None:
            return (step, item.text(kind)), code
    if step in ("allocate", "preserve"):
        return (step, item.text("folio", "pci folio")), code
    raise item.fail("device", "missing: expected a PCI address such as 0000:05:00.1")


def _change(item: Item) -> Change:
    before = _only(item, ("before", *_CHANGES, "driver", "session", "token")).text("before")
    if before not in STEPS:
        raise item.fail("before", f"expected one of {', '.join(STEPS)}, found {safe_text(before)}")
    what = [name for name in _CHANGES if item.get(name) is not None]
    if len(what) != 1:
        raise item.fail("before", f"expected exactly one of {', '.join(sorted(_CHANGES))} with it, found {len(what)}")
    text = item.text(what[0])
    return Change(
        before=before,
        what=what[0],
        name=_device(item, what[0], text) if what[0] in _DEVICE_CHANGES else text,
        driver=item.text("driver") if what[0] in ("add", "bind") else "",
        session=item.text("session", _SESSION),
        token=item.number("token") if what[0] == "preserve" else 0,
    )


# -- devices --


def _devices(item: Item) -> dict[Address, Device]:
    """The devices in the document: bdf, parent, driver, physfn. Raises UsageError."""
    made: dict[Address, Device] = {}
    rows = list(item.items("devices"))
    parents = {_device(row, "parent", row.text("parent")) for row in rows if row.get("parent") is not None}
    for row in rows:
        _only(row, ("bdf", "parent", "physfn", "driver"))
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
    """Raises UsageError for a parent or PF that is not listed or is a VF, and for a loop."""
    seen = {device.address}
    for address in (device.physfn, device.parent):
        if address is not None and address not in made:
            raise UsageError(f"devices: {device.name} refers to {bdf_text(*address)}, which is not listed")
        if address is not None and made[address].is_vf:
            raise UsageError(f"devices: {device.name} refers to {bdf_text(*address)}, which is a virtual function")
    while device.parent is not None and device.parent in made:
        if device.parent in seen:
            raise UsageError(f"devices: {device.name} is below itself")
        seen.add(device.parent)
        device = made[device.parent]
