# SPDX-License-Identifier: MIT
"""Findings, the outcomes of rules, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NoReturn

from luoser.errors import UsageError

__all__ = [
    "Cause",
    "Finding",
    "Found",
    "Judged",
    "NotApplicable",
    "NotJudged",
    "NotLookedAt",
    "Report",
    "Severity",
    "Skipped",
    "Unjudged",
    "Verdict",
]

Cause = Literal["missing", "excluded", "damaged", "unread", "unknown-form", "limit", "open"]
"""Why a rule could not be judged.

missing:      a page of the handover is not in the source.
excluded:     the dump tool left it out.
damaged:      it cannot be unpacked, or its contents are damaged.
unread:       luoser does not decode it.
unknown-form: its form, or what a kernel does with it, is unknown.
limit:        a limit of luoser was reached.
open:         the evidence is not conclusive.
"""
_DECIDES: dict[Cause, str] = {
    "missing": "a dump that has it decides",
    "excluded": "a dump of all pages, such as makedumpfile -d 1 writes, decides",
    "damaged": "an undamaged copy of it decides",
    "unread": "a release of luoser that knows this form decides",
    "unknown-form": "--layout, or a release of luoser that knows this form, decides",
    "limit": "--root ADDRESS, which reads less, decides",
    "open": "--symbols or --direction decides",
}
"""What would decide, by the reason why a rule could not be judged."""


class Severity(StrEnum):
    """Severity of a finding, by what a next kernel does.

    error:   it refuses the handover, panics, or loses or corrupts memory.
    warning: no kernel writes this, but the effect is small or unknown.
    info:    a hint.

    `Severity(NAME)` raises UsageError for any other name.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise UsageError(f"--severity: expected {', '.join(cls)}, found {value!r}")

    def is_at_least(self, least: Severity) -> bool:
        """Whether this severity is `least` or above."""
        order = list(Severity)
        return order.index(self) <= order.index(least)


class Verdict(StrEnum):
    """Verdict on a handover or a source. inconclusive: no findings, but something could not be judged."""

    FINDINGS = "findings"
    INCONCLUSIVE = "inconclusive"
    SOUND = "sound"


class NotApplicable(Exception):
    """Raised by a rule that does not apply to a handover: nothing of the kind, not serialised yet, or consumed."""


class NotLookedAt(Exception):
    """Raised by a rule that needs context which a source may not have: ranges of RAM, the next release."""


class NotJudged(Exception):
    """Raised by a rule if something of the handover is not in the source or not understood. Earlier findings count.

    reason: in words. What would decide is added if they do not say it.
    cause:  kind of the reason.
    about:  path of the thing, relative to the root.
    """

    def __init__(self, reason: str, *, cause: Cause, about: str = "") -> None:
        super().__init__(reason if "decides" in reason else f"{reason}; {_DECIDES[cause]}")
        self.cause, self.about = cause, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding.

    rule:     id of the rule.
    slug:     of the rule.
    severity: of the finding.
    message:  what is wrong.
    root:     address of the KHO root. None: it has none.
    address:  physical, of the thing. None: it has none.
    where:    path of the thing, relative to the root, such as `luo.sessions[0].files[2]`.
    device:   DDDD:BB:SS.F. None: not about one device.
    missing:  DDDD:BB:SS.F of devices that should be in the list.
    hint:     what to do, or the effect.
    """

    rule: str
    slug: str
    severity: Severity
    message: str
    root: int | None = None
    address: int | None = None
    where: str = ""
    device: str | None = None
    missing: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A rule that does not apply to a handover.

    rule:   id of the rule.
    reason: in words.
    root:   address of the KHO root. None: it has none.
    """

    rule: str
    reason: str
    root: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """A rule that could not be judged for a handover.

    rule:   id of the rule.
    reason: in words.
    cause:  kind of the reason.
    root:   address of the KHO root. None: it has none.
    about:  path of the thing, relative to the root.
    """

    rule: str
    reason: str
    cause: Cause
    root: int | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on one handover.

    root:      address of the KHO root. None: it has none.
    own:       whether it is of this machine, so that it counts.
    direction: incoming, outgoing or unknown.
    status:    of the preserved map.
    verdict:   on this handover.
    """

    root: int | None
    own: bool
    direction: str
    status: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report on a state.

    findings:      by severity, then by rule.
    skipped:       rules that do not apply.
    passed:        ids of rules that passed on some handover, and neither found something nor failed to judge on others.
    unjudged:      rules that could not be judged.
    not_looked_at: context that the source does not have, in words.
    handovers:     verdict on each, in the order of the state.
    remarks:       of the source, and what a cut left out.
    counts:        pairs of rule and own handover, by outcome: passed, found, not_applicable, not_judged.
    verdict:       over all handovers of this machine.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    passed: tuple[str, ...]
    unjudged: tuple[Unjudged, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    handovers: tuple[Judged, ...] = ()
    remarks: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    verdict: Verdict = Verdict.SOUND


@dataclass(frozen=True, slots=True)
class Found:
    """A finding without its rule id; members as in Finding. severity: None: that of the rule."""

    message: str
    address: int | None = None
    where: str = ""
    device: str | None = None
    missing: tuple[str, ...] = ()
    hint: str = ""
    severity: Severity | None = None
