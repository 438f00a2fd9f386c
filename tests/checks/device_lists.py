# SPDX-License-Identifier: MIT
"""Real handovers with a device list of any form put in, and the machines that they were made on, changed at will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import luoser
from luoser.abi.pci import layout
from luoser.checks import Finding, Report, check
from luoser.reader.pci_layout import read_pci
from luoser.state import PciList, State
from tests import real
from tests.golden import FORMS, Bus, Dev

__all__ = ["PAGE", "a_list", "bdf", "found", "fresh", "with_lists"]

PAGE = 0x1F1D29000
"""Where a list's one block lies."""


def bdf(text: str) -> tuple[int, int]:
    """(domain, bdf) of DDDD:BB:SS.F."""
    from luoser.text import parse_bdf

    return parse_bdf(text)


def a_list(
    form: str, devices: Sequence[Dev], *, via: str = "flb:pci", address: int = 0x1358000, **header: int
) -> PciList:
    """The devices as a kernel lists them in that form. header: members that say something else."""
    made, entry = FORMS[form], layout(form)
    assert entry is not None
    buses = tuple(Bus(domain=dev.domain, number=dev.bdf >> 8) for dev in devices) if made.bus is not None else ()
    data = made.blob(devices, buses, first=PAGE)
    rows = made.block_page(devices)[16 : 16 + len(devices) * entry.record.size] if made.block else b""
    blob = read_pci(entry, data, lambda first, schema: (rows, (first,), None))
    assert blob is not None
    return PciList(
        layout=form,
        address=address,
        via=(via,),
        confidence="made for a test",
        devices=blob.devices,
        header={**blob.header, **header},
        buses=blob.buses,
        blocks=blob.blocks,
    )


@cache
def fresh(name: str) -> State:
    return luoser.read(real.dump(name), contents=True)


def with_lists(*lists: PciList, name: str = "7.3-a/frozen") -> State:
    """A real state with these lists only."""
    state = fresh(name)
    assert len(state.handovers) == 1
    return replace(state, handovers=(replace(state.handovers[0], pci=lists),))


def found(state: State, rule: str, **options: Any) -> list[Finding]:
    """What one rule finds; it has to be judged."""
    report: Report = check(state, select=[rule], **options)
    assert not report.skipped, report.skipped
    return list(report.findings)
