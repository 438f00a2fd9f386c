# SPDX-License-Identifier: MIT
"""State to findings: one function a rule, judged for each handover by itself."""

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
from luoser.checks.model import Finding, Report, Severity, Skip, Skipped
from luoser.checks.rule import Rule, registered
from luoser.checks.view import View
from luoser.state import State

if TYPE_CHECKING:
    from luoser.topology import Topology

__all__ = ["Finding", "Report", "Rule", "Severity", "Skipped", "check", "rules"]

_ORDER = list(Severity)


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
    select: Collection[str] = (),
    ignore: Collection[str] = (),
) -> Report:
    """Judge each handover by each rule.

    topology: the PCI devices of the machine. next_release: of the kernel that is to take over. ram: physical
    ranges of memory, where known. drivers: further ones that take part in live update. select, ignore: ids,
    slugs or families of rules; without `select` all are taken.
    """
    findings: dict[Finding, None] = {}  # in order, each once
    skipped: list[Skipped] = []
    passed: list[str] = []
    chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
    for rule in chosen:
        judged, before = False, len(findings)
        for handover in state.handovers:
            view = View(
                state=state,
                handover=handover,
                topology=topology,
                next_release=next_release,
                ram=ram,
                drivers=frozenset(drivers),
            )
            try:
                found = list(rule.judge(view))
            except Skip as reason:
                root = "" if handover.address is None else f"KHO root {handover.address:#x}: "
                skipped.append(Skipped(rule=rule.id, reason=f"{root}{reason}", root=handover.address))
                continue
            judged = True
            for item in found:
                made = Finding(
                    rule=rule.id,
                    slug=rule.slug,
                    severity=rule.severity,
                    message=item.message,
                    root=handover.address,
                    address=item.address,
                    where=item.where,
                    device=item.device,
                    missing=item.missing,
                    hint=item.hint,
                )
                findings.setdefault(made)
        if judged and len(findings) == before:
            passed.append(rule.id)
    ordered = sorted(findings, key=lambda finding: _ORDER.index(finding.severity))
    return Report(findings=tuple(ordered), skipped=tuple(skipped), passed=tuple(passed))
