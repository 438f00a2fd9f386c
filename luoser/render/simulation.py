# SPDX-License-Identifier: MIT
"""A simulated live update as text: the trace, then the state at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luoser.abi.pci import FLAG_NAMES
from luoser.abi.schema import set_bits
from luoser.liveupdate import Machine, Panic, SessionMachine, SubsystemMachine
from luoser.liveupdate.trace import Kind
from luoser.text import bdf_text, safe_text

__all__ = ["lines"]


def lines(machine: Machine, *, only_log: bool = False) -> Iterator[str]:
    """Lines of the trace, then of the state at its end, of leaked memory, and of known bugs that occurred.

    only_log: of the trace, only the lines that the kernel logs.
    """
    for event in machine.trace.events:
        if not only_log or event.kind in (Kind.LOG, Kind.PANIC):
            yield safe_text(str(event), again=True)
    yield ""
    if machine.error is not None:
        yield f"stopped: {safe_text(str(machine.error), again=True)}"
    if isinstance(machine, SubsystemMachine):
        yield from _subsystems(machine)
    elif isinstance(machine, SessionMachine):
        yield from _sessions(machine)
    yield from _left(machine)


def _subsystems(machine: SubsystemMachine) -> Iterator[str]:
    values = ", ".join(f"{name} = {value:#x}" for name, value in machine.luo.handed_over.items())
    yield f"state: {machine.luo.state}, /subsystems: {values or 'no tree'}"
    found = machine.handed_list
    for index, entry in enumerate(found.entries() if found is not None else ()):
        bdf = bdf_text(entry["path"] >> 16, entry["path"] & 0xFFFF)
        yield f"  {index}  {bdf}  {_marks(entry)}{_driver(entry)}  driver_data {entry['driver_data']:#x}"
    for bus in found.buses() if found is not None else ():
        yield f"  bus {bus['domain']:04x}:{bus['number']:02x}"


def _marks(entry: dict[str, Any]) -> str:
    if "flags" in entry:
        return "|".join(set_bits(entry["flags"], FLAG_NAMES))
    return "requested" if entry["requested"] else "depended"


def _driver(entry: dict[str, Any]) -> str:
    name = entry.get("driver_name", "")
    return f"  {safe_text(name)}" if name else ""


def _sessions(machine: SessionMachine) -> Iterator[str]:
    word = "incoming" if machine.is_new else "serialised" if machine.luo.is_serialized else "not serialised"
    yield f"sessions: {len(machine.sessions)}, {word}"
    for session in machine.sessions:
        yield f"  {safe_text(session.name)}"
        for file in session.files:
            name = safe_text(file.name) or "not retrieved"
            yield f"    token {file.token:#x}  {file.handler.compatible}  {name}  data {file.data:#x}"
    table = machine.core.handed or machine.core.table
    if table is None:
        return
    flb = next(flb for flb in machine.luo.flbs if flb.owner is machine.core)
    yield f"FLB {flb.owner.name}: data {flb.data:#x}, {flb.count} files, {table.count} devices"
    for slot, (domain, bdf, refcount) in enumerate(table.rows()):
        has_count = table.form.has_refcounts
        count = f"  refcount {refcount}" if has_count else ""
        if refcount:
            yield f"  {slot}  {bdf_text(domain, bdf)}{count}"
        elif table.form.blocks is not None or slot < table.count:
            yield f"  {slot}  hole"


def _left(machine: Machine) -> Iterator[str]:
    for folio in machine.leaks() if not isinstance(machine.error, Panic) else ():
        several = f"{folio.count} folios from {folio.address:#x} on" if folio.count > 1 else f"folio {folio.address:#x}"
        yield f"leaked: {several} order {folio.order}, {folio.place}, of {safe_text(folio.what)}"
    for mistake in machine.pages.mistakes:
        yield f"mistake: {mistake}"
    for what in machine.unused():
        yield f"not reached: {safe_text(what)}"
    for flags in machine.flags_left():
        yield f"flags left: {flags}"
    if machine.trace.bugs:
        yield f"known bugs that occurred: {', '.join(f'A.9 #{number}' for number in sorted(machine.trace.bugs))}"
