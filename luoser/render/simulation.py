# SPDX-License-Identifier: MIT
"""What a simulated machine went through, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from luoser.abi.pci import flag_names
from luoser.liveupdate import Machine
from luoser.text import bdf_text, safe_text

if TYPE_CHECKING:
    from luoser.liveupdate import CoreMachine

__all__ = ["lines"]


def lines(machine: Machine | CoreMachine) -> Iterator[str]:
    """The trace, then the state at its end, what leaked, and which known bugs showed."""
    for event in machine.trace.events:
        yield safe_text(str(event), again=True)
    yield ""
    if machine.error is not None:
        yield f"stopped: {safe_text(str(machine.error), again=True)}"
    if isinstance(machine, Machine):
        yield from _state(machine)
    else:
        yield from _core_state(machine)
    yield from _left(machine)


def _state(machine: Machine) -> Iterator[str]:
    tree = machine.luo.tree if machine.luo.tree is not None else machine.luo.incoming
    values = ", ".join(f"{name} = {value:#x}" for name, value in tree.items()) if tree else "no tree"
    yield f"state: {machine.luo.state}, /subsystems: {values}"
    folio = machine.pages.folios.get(tree.get("pci", 0)) if tree else None
    if folio is None:
        return
    for index, entry in enumerate(machine.pci.entries(folio.address)):
        name = f"  {safe_text(entry.driver_name)}" if entry.driver_name else ""
        bdf = bdf_text(entry.path >> 16, entry.path & 0xFFFF)
        yield f"  {index}  {bdf}  {'|'.join(flag_names(entry.flags))}{name}  driver_data {entry.driver_data:#x}"


def _core_state(machine: CoreMachine) -> Iterator[str]:
    sessions = machine.sessions
    word = "incoming" if sessions.is_incoming else "serialised" if sessions.is_serialized else "not serialised"
    yield f"sessions: {len(sessions.sessions)}, {word}"
    for session in sessions.sessions:
        for file in session.files:
            yield f"  {session.name}  token {file.token:#x}  {file.name}  data {file.data:#x}"
    if sessions.flb is None:
        return
    yield f"FLB pci: data {sessions.flb.data:#x}, {sessions.flb.count} files"
    for slot, (domain, bdf, refcount) in enumerate(machine.core.records() if machine.core.address else ()):
        yield f"  {slot}  {bdf_text(domain, bdf)}  refcount {refcount}" if refcount else f"  {slot}  hole"


def _left(machine: Machine | CoreMachine) -> Iterator[str]:
    for folio in machine.leaks():
        yield f"leaked: folio {folio.address:#x} order {folio.order}, {folio.place}, of {safe_text(folio.what)}"
    for mistake in machine.pages.mistakes:
        yield f"mistake: {mistake}"
    for flags in machine.flags_left():
        yield f"flags left: {flags}"
    if machine.trace.bugs:
        yield f"known bugs that showed: {', '.join(f'A.9 #{number}' for number in sorted(machine.trace.bugs))}"
