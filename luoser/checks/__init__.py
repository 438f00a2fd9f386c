# SPDX-License-Identifier: MIT
"""State to findings: one function per rule, applied to each handover separately, and the verdict over all."""

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
import luoser.checks.pending
import luoser.checks.preserved
import luoser.checks.scratch
import luoser.checks.topology
import luoser.checks.vmalloc  # noqa: F401 - their rules enter themselves
from luoser.abi.release import release_numbers
from luoser.arguments import need_names
from luoser.checks.judge import Judgement
from luoser.checks.model import Finding, Judged, Report, Severity, Skipped, Unjudged, Verdict
from luoser.checks.rule import Rule, need_known, need_topology, registered
from luoser.checks.view import View
from luoser.errors import UsageError
from luoser.limits import LIMIT_CODES, Limits, limited
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
    "may_hide_root",
    "rules",
]


def rules() -> tuple[Rule, ...]:
    """All rules, by family, then by number."""
    return registered()


def may_hide_root(state: State) -> bool:
    """Whether a state without handovers is of a source that may have had one.

    A messenger points to a root that is not there, or a limit ended the search.
    """
    codes = ("root-lost", "root-unread", "no-root", *LIMIT_CODES)
    return any(problem.code in codes for problem in state.problems)


def check(
    state: State,
    *,
    topology: Topology | None = None,
    next_release: str | None = None,
    ram: tuple[tuple[int, int], ...] = (),
    drivers: Collection[str] = (),
    handlers: Collection[str] = (),
    flbs: Collection[str] = (),
    pending: bool = False,
    pending_moved: bool = False,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    severity: Severity | str = Severity.ERROR,
    limits: Limits | None = None,
) -> Report:
    """The report on all handovers of a state.

    state:        to check.
    topology:     PCI devices of the machine. None: unknown.
    next_release: release of the next kernel. None: unknown.
    ram:          [start, end) ranges of physical memory. Empty: unknown.
    drivers:      names of further drivers that are able to live update.
    handlers:     names of further file handlers of the next kernel.
    flbs:         names of further FLBs and sub-trees that the next kernel claims.
    pending:      what the running kernel will hand over has to be judged: if it is not known, that is inconclusive.
    pending_moved: a second reading found other objects of the kernel.
    select:       ids, slugs or families of the rules to apply. Empty: all.
    ignore:       ids, slugs or families of the rules to skip. What the source lacks, and a direction that is open, make
                  the verdict inconclusive all the same.
    severity:     findings of this severity and above make the verdict `findings`; a name will do, such as `warning`.
    limits:       bounds on the work. None: the defaults.

    Raises UsageError if no rule is left to apply, for an unknown rule, family or severity, for an empty name, for a
    next release that is none, and for drivers without a topology.
    """
    if not all(isinstance(part, tuple) and len(part) == 2 for part in ram):
        raise UsageError(f"ram: expected (start, end) of each range, found {ram!r}")
    need_names(select=select, ignore=ignore, drivers=drivers, handlers=handlers, flbs=flbs)
    need_known((*select, *ignore))
    need_topology(drivers, is_known=topology is not None)
    if next_release is not None and (not isinstance(next_release, str) or release_numbers(next_release) is None):
        raise UsageError(f"--next: expected a release such as 7.3.4, found {next_release!r}")
    chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
    gates = [rule for rule in rules() if rule.is_gate and rule not in chosen]
    if not chosen:
        raise UsageError("no rule to apply; `luoser rules` lists all")
    judgement = Judgement(severity=Severity(severity))
    with limited(limits):
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
                pending_wanted=pending,
                pending_moved=pending_moved,
            )
            judgement.judge(view, chosen, gates)
    if not state.handovers:
        judgement.judge_without_root(state, rules())
    return judgement.report(state, chosen)
