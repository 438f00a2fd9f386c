# SPDX-License-Identifier: MIT
"""The preserved PCI devices of a handover below their bridges, with what the rules found about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from luoser.checks import Finding
from luoser.limits import LIMITS
from luoser.render.values import device_columns
from luoser.state import Handover, PciList
from luoser.text import safe_text
from luoser.topology import Device, Topology

__all__ = ["DeviceRow", "DeviceTree", "Mark", "device_tree", "list_name"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A finding about a device. number: of the finding in the report, from 1. text: of the mark."""

    number: int
    severity: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A device.

    guide:  lines that lead from its bridge to it.
    level:  number of bridges above it.
    facts:  about it in the topology, in words.
    listed: (list, members) for each list that it is in.
    state:  preserved, missing (a rule wants it in a list) or other.
    """

    guide: str
    level: int
    name: str
    facts: str
    listed: tuple[tuple[str, str], ...]
    marks: tuple[Mark, ...]
    state: str


@dataclass(slots=True)
class DeviceTree:
    """Rows, a device after its bridge; names of devices that are not shown; what is not known, in words."""

    rows: list[DeviceRow] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_name(devices: PciList) -> str:
    """A short name of a list: what leads to it."""
    return safe_text(", ".join(devices.via) or devices.layout)


def device_tree(handover: Handover, topology: Topology | None, findings: Sequence[Finding]) -> DeviceTree:
    """The devices of all lists of a handover. Without a topology they are flat, in the order of the lists.

    findings: of the whole report, in its order.
    """
    listed, marks, missing = _listed(handover), dict[str, list[Mark]](), set[str]()
    for number, finding in enumerate(findings, 1):
        if finding.root != handover.address:
            continue
        if finding.device is not None:
            _mark(marks, finding.device, Mark(number, finding.severity.value, f"{finding.rule} {finding.slug}"))
        for name in finding.missing:
            missing.add(name)
            _mark(marks, name, Mark(number, finding.severity.value, f"{finding.rule} not in the list"))
    made = DeviceTree()
    wanted = {*listed, *missing}
    if topology is None:
        made.notes.append("the bridges above the devices are not known: give the machine with --topology")
    else:
        made.notes += [f"not known: {why}" for why in topology.unknown.values()]
        shown = _with_bridges(topology, {*wanted, *marks})
        made.others = [device.name for device in topology.devices.values() if device.name not in shown]
        for guide, level, device in _walk(topology, shown):
            made.rows.append(_row(device.name, guide, level, _facts(device), listed, marks, missing))
        wanted -= shown
    for name in listed | dict.fromkeys(sorted(missing - listed.keys())):
        if name in wanted:
            facts = "not in the topology" if topology is not None else ""
            made.rows.append(_row(name, "", 0, facts, listed, marks, missing))
    if len(made.rows) > LIMITS.report_rows:
        made.notes.append(f"the first {LIMITS.report_rows} of {len(made.rows)} devices are shown")
        del made.rows[LIMITS.report_rows :]
    return made


def _listed(handover: Handover) -> dict[str, list[tuple[str, str]]]:
    """(list, members) by device, in the order of the lists."""
    found: dict[str, list[tuple[str, str]]] = {}
    for devices in handover.pci:
        for device in islice(devices.devices, LIMITS.report_rows + 1):
            columns = device_columns(devices.devices, device, handover.preserved.map)
            members = "  ".join(value if name == "flags" else f"{name} {value}" for name, value in columns)
            found.setdefault(device.name, []).append((list_name(devices), members))
    return found


def _mark(marks: dict[str, list[Mark]], name: str, mark: Mark) -> None:
    known = marks.setdefault(name, [])
    if mark not in known:
        known.append(mark)


def _with_bridges(topology: Topology, names: Iterable[str]) -> set[str]:
    """The names that the topology has, and those of all bridges above them."""
    wanted, found = set(names), set[str]()
    for device in topology.devices.values():
        if device.name in wanted:
            found.add(device.name)
            found.update(bridge.name for bridge in topology.ancestors(device))
    return found


def _walk(topology: Topology, shown: set[str]) -> Iterator[tuple[str, int, Device]]:
    """(guide, level, device) of the shown ones, a device after its bridge."""

    def below(devices: Sequence[Device], prefix: str, level: int) -> list[tuple[str, str, int, Device]]:
        kept = [device for device in devices if device.name in shown]
        return [
            (
                prefix + ("" if not level else "└─ " if device is kept[-1] else "├─ "),
                prefix + ("" if not level else "   " if device is kept[-1] else "│  "),
                level,
                device,
            )
            for device in kept
        ]

    left = below(topology.roots, "", 0)[::-1]
    while left:
        guide, prefix, level, device = left.pop()
        yield guide, level, device
        left += below(topology.children(device), prefix, level + 1)[::-1]


def _facts(device: Device) -> str:
    words = [f"class {device.class_code:06x}" if device.class_code is not None else ""]
    if device.vendor is not None and device.device is not None:
        words.append(f"{device.vendor:04x}:{device.device:04x}")
    words.append("bridge" if device.is_bridge else "virtual function" if device.is_vf else "")
    words.append(f"driver {safe_text(device.driver)}" if device.driver else "")
    return ", ".join(word for word in words if word)


def _row(
    name: str,
    guide: str,
    level: int,
    facts: str,
    listed: dict[str, list[tuple[str, str]]],
    marks: dict[str, list[Mark]],
    missing: set[str],
) -> DeviceRow:
    state = "missing" if name in missing else "preserved" if name in listed else "other"
    return DeviceRow(
        guide=guide,
        level=level,
        name=name,
        facts=facts,
        listed=tuple(listed.get(name, ())),
        marks=tuple(marks.get(name, ())),
        state=state,
    )
