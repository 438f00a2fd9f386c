# SPDX-License-Identifier: MIT
"""A state, the report on it, and changes, as rows of tables. Texts of a dump are printable, in any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from luoser.survey.tables import Row, Rows
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.changes import Comparison
    from luoser.checks import Report
    from luoser.state import Device, DeviceList, FolioList, Handover, State

__all__ = ["comparison_rows", "report_rows", "state_rows"]


def state_rows(state: State, of: Row) -> Rows:
    """Rows of handovers, sessions, files, folio_runs, devices and problems. of: columns that say of which source."""
    rows = Rows(handovers=[], sessions=[], files=[], folio_runs=[], devices=[])
    for handover in state.handovers:
        root = {**of, "root": handover.address}
        rows["handovers"].append({**root, **_handover(handover, state.source.page_size)})
        for session in handover.luo.sessions if handover.luo is not None else ():
            named = {**root, "session": safe_text(session.name)}
            rows["sessions"].append(
                {**named, "address": session.address, "files": len(session.files), "count": session.count}
            )
            for file in session.files:
                memfd = file.memfd
                rows["files"].append(
                    {
                        **named,
                        "token": file.token,
                        "compatible": safe_text(file.compatible),
                        "data": file.data,
                        "address": file.address,
                        "layout": memfd and safe_text(memfd.layout),
                        "size": memfd and memfd.size,
                        "position": memfd and memfd.position,
                        "seals": memfd and memfd.seals,
                        "folios": memfd and memfd.folios.count,
                    }
                )
                if memfd is not None:
                    rows["folio_runs"] += ({**named, "token": file.token, **run} for run in _runs(memfd.folios.list))
        for devices in handover.pci:
            listed = {**root, "layout": safe_text(devices.layout), "list": devices.address}
            listed["via"] = [safe_text(way) for way in devices.via]
            rows["devices"] += ({**listed, **_device(devices.devices, device)} for device in devices.devices)
    rows["problems"] = [
        {
            **of,
            "root": problem.root,
            "code": problem.code,
            "address": problem.address,
            "about": safe_text(problem.about),
            "message": safe_text(problem.message, again=True),
        }
        for problem in state.problems
    ]
    return rows


def _handover(handover: Handover, page_size: int) -> Row:
    luo, found, kexec = handover.luo, handover.preserved.map, handover.kexec_metadata
    sessions = luo.sessions if luo is not None else ()
    return {
        "compatible": safe_text(handover.compatible),
        "own": handover.own,
        "direction": handover.direction.value,
        "status": handover.preserved.status.value,
        "complete": None if found is None else found.complete,
        "entries": None if found is None else found.entries,
        "preserved": None if found is None else found.pages * page_size,
        "scratch": None if handover.scratch is None else sum(area.size for area in handover.scratch),
        "luo": luo and safe_text(luo.compatible or luo.layout),
        "serialized": luo and luo.serialized,
        "liveupdate_number": luo and luo.number,
        "previous_release": kexec and safe_text(kexec.previous_release),
        "kexec_count": kexec and kexec.kexec_count,
        "sessions": len(sessions),
        "files": sum(len(session.files) for session in sessions),
        "devices": sum(len(devices.devices) for devices in handover.pci),
    }


def _runs(folios: FolioList) -> Iterator[Row]:
    """Runs of folios with one distance in the file and in memory."""
    page, first, last, count, step = folios.page_size, (0, 0, 0), (0, 0, 0), 0, 0
    for index, address, flags in folios.rows():
        if not address:  # a hole
            continue
        forward = address - last[1]
        fits = count and flags == last[2] and forward == (index - last[0]) * page > 0
        if fits and step in (0, forward):
            step, count = forward, count + 1
        else:
            if count:
                yield _run(first, count, step)
            first, count, step = (index, address, flags), 1, 0
        last = index, address, flags
    if count:
        yield _run(first, count, step)


def _run(first: tuple[int, int, int], count: int, step: int) -> Row:
    index, address, flags = first
    return {"index": index, "address": address, "folios": count, "step": step, "flags": flags}


def _device(devices: DeviceList, device: Device) -> Row:
    driver = device.text("driver_name")
    return {
        "index": device.index,
        "bdf": device.name,
        "flags": device.number("flags"),
        "driver": driver and safe_text(driver),
        "driver_data": device.number("driver_data"),
        "refcount": device.number("refcount"),
    }


def report_rows(report: Report, of: Row) -> Rows:
    """Rows of findings and unjudged. of: columns that say of which source."""
    return {
        "findings": [
            {
                **of,
                "root": finding.root,
                "rule": finding.rule,
                "slug": finding.slug,
                "severity": finding.severity.value,
                "address": finding.address,
                "about": safe_text(finding.where),
                "device": finding.device,
                "message": safe_text(finding.message, again=True),
                "hint": safe_text(finding.hint, again=True),
            }
            for finding in report.findings
        ],
        "unjudged": [
            {
                **of,
                "root": entry.root,
                "rule": entry.rule,
                "cause": entry.cause,
                "about": safe_text(entry.about),
                "reason": safe_text(entry.reason, again=True),
            }
            for entry in report.unjudged
        ],
    }


def comparison_rows(found: Comparison, of: Row) -> tuple[Row, list[Row]]:
    """(columns of pairs, rows of changes). of: columns that say of which pair."""
    counts = Counter(change.kind.value for change in found.changes)
    pair = {kind: counts[kind] for kind in ("added", "removed", "changed", "progress")}
    changes = [
        {
            **of,
            "kind": change.kind.value,
            "about": safe_text(change.where),
            "old": None if change.before is None else safe_text(change.before, again=True),
            "new": None if change.after is None else safe_text(change.after, again=True),
            "note": safe_text(change.note, again=True),
        }
        for change in found.changes
    ]
    return {**pair, "not_compared": len(found.not_compared), "verdict": found.verdict.value}, changes
