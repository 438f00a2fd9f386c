# SPDX-License-Identifier: MIT
"""What a check finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

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

missing, excluded, damaged: a page that the handover names is not in the source, was left out, cannot be read or
understood. unread, unknown-form: luoser does not decode it. limit: a bound was met. open: the evidence leaves open
what it is.
"""


class Severity(StrEnum):
    """error: a next kernel refuses, panics, loses or corrupts. warning: no kernel writes this. info: a hint."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    def is_at_least(self, least: Severity) -> bool:
        """Whether it is that severe or more."""
        order = list(Severity)
        return order.index(self) <= order.index(least)


class Verdict(StrEnum):
    """Of one handover or of a source. A green verdict is an answer: inconclusive is what was not seen."""

    FINDINGS = "findings"
    INCONCLUSIVE = "inconclusive"
    SOUND = "sound"


class NotApplicable(Exception):
    """Raised by a rule that concerns nothing of this handover: nothing of the kind, not serialised yet, consumed."""


class NotLookedAt(Exception):
    """Raised by a rule for want of context that a source need not have: where RAM is, the next release."""


class NotJudged(Exception):
    """Raised by a rule that could not see, or not understand, what the handover names.

    cause: of what kind. about: path of the thing. What the rule yields before stays found.
    """

    def __init__(self, reason: str, *, cause: Cause, about: str = "") -> None:
        super().__init__(reason)
        self.cause, self.about = cause, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    root: address of the KHO root, None where it has none. address: physical, where the thing lies. where: its path
    relative to the root, such as `luo.sessions[0].files[2]`. device: DDDD:BB:SS.F, for rules about one device;
    missing: devices that ought to be there. hint: what to do.
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
    """A rule that does not apply to a handover, and why. root: address of its KHO root."""

    rule: str
    reason: str
    root: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """A rule that could not be judged for a handover, and why. root: address of its KHO root. about: a path."""

    rule: str
    reason: str
    cause: Cause
    root: int | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What came of one handover. root: its address. own: whether it counts. direction, status: in words."""

    root: int | None
    own: bool
    direction: str
    status: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all rules.

    findings: by severity, then by rule. passed: rules that were judged somewhere and found nothing anywhere. skipped:
    rules that do not apply. unjudged: rules that could not be judged. not_looked_at: context that the source does not
    have, in words. handovers: in the order of the state. remarks: what is odd about the source. counts: pairs of rule
    and own handover by outcome: passed, found, not_applicable, not_judged.
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
    """A finding without its rule. severity: where it is not that of the rule."""

    message: str
    address: int | None = None
    where: str = ""
    device: str | None = None
    missing: tuple[str, ...] = ()
    hint: str = ""
    severity: Severity | None = None
