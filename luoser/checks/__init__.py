# SPDX-License-Identifier: MIT
"""State to findings: one function a rule, judged for each handover by itself, and the verdict over all."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import luoser.checks.block
import luoser.checks.handler
import luoser.checks.kexec_metadata
import luoser.checks.kho
import luoser.checks.kho_test
import luoser.checks.luo
import luoser.checks.memblock
import luoser.checks.memfd
import luoser.checks.pci
import luoser.checks.preserved
import luoser.checks.scratch
import luoser.checks.topology
import luoser.checks.vmalloc  # noqa: F401 - their rules enter themselves
from luoser.checks.judge import Judgement
from luoser.checks.model import Finding, Judged, Report, Severity, Skipped, Unjudged, Verdict
from luoser.checks.rule import Rule, registered
from luoser.checks.view import View
from luoser.state import State

if TYPE_CHECKING:
    from luoser.topology import Topology

__all__ = [
    "Finding",
    "Judged",
    "Report",
    "Rule",
    "Severity",
    "Skipped",
    "Unjudged",
    "Verdict",
    "check",
    "rules",
]


def rules() -> tuple[Rule, ...]:
    """All rules."""
    return registered()


def check(
    state: State,
    *,
    topology: Topology | None = None,
    next_release: str | None = None,
    ram: tuple[tuple[int, int], ...] = (),
    drivers: Collection[str] = (),
    handlers: Collection[str] = (),
    flbs: Collection[str] = (),
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    severity: Severity = Severity.ERROR,
) -> Report:
    """Judge each handover by each rule.

    topology: the PCI devices of the machine.
    next_release: of the kernel that is to take over.
    ram: physical ranges of memory, where known.
    drivers: further ones that take part in live update.
    handlers, flbs: further file handlers, FLBs and sub-trees that the next kernel has.
    select, ignore: ids, slugs or families of rules; without `select` all are taken.
    severity: findings of this severity and above make the verdict `findings`.
    """
    chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
    judgement = Judgement(is_whole=not select and not ignore, severity=severity)
    for handover in state.handovers:
        view = View(
            state=state,
            handover=handover,
            topology=topology,
            next_release=next_release,
            ram=ram,
            drivers=frozenset(drivers),
            handlers=frozenset(handlers),
            flbs=frozenset(flbs),
        )
        judgement.judge(view, chosen)
    return judgement.report(state, chosen)
