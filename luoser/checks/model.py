# SPDX-License-Identifier: MIT
"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Found", "Report", "Severity", "Skip", "Skipped"]


class Severity(StrEnum):
    """error: a next kernel refuses, panics, loses or corrupts. warning: no kernel writes this. info: a hint."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Skip(Exception):
    """Raised by a rule whose evidence is excluded, stale, or not there yet; the argument says which."""


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
    """A rule that could not be judged for a handover, and why. root: address of its KHO root."""

    rule: str
    reason: str
    root: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """findings: by severity, then by rule. passed: rules that were judged somewhere and found nothing anywhere."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    passed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding without its rule."""

    message: str
    address: int | None = None
    where: str = ""
    device: str | None = None
    missing: tuple[str, ...] = ()
    hint: str = ""
