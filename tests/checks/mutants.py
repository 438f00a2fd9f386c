# SPDX-License-Identifier: MIT
"""Real handovers, written anew and with one thing broken: what the rules find in them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import luoser
from luoser.checks import Report, check
from luoser.state import State, to_document
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.mutate import mutations
from tests import real

__all__ = ["document", "errors", "mutant", "report_of", "rules_found", "written"]


@cache
def document(name: str) -> dict[str, Any]:
    """All of a real dump that can be said in a document."""
    return to_document(luoser.read(real.dump(name), contents=True), full=True)


@cache
def _written(name: str) -> tuple[State, Image]:
    state = from_document(document(name))
    return state, write(state)


def written(name: str) -> tuple[State, Image]:
    """The handovers of a real dump, and the image that they make, to change as one likes."""
    state, image = _written(name)
    return state, deepcopy(image)


def report_of(image: Image, **options: Any) -> Report:
    """What the rules find in an image."""
    return check(luoser.read(image.memory(), contents=True), **options)


def mutant(rule: str, name: str = "7.3-a/frozen", **options: Any) -> Report:
    """What the rules find in a real handover in which the mutation of a rule broke that one."""
    state, image = written(name)
    mutations()[rule].apply(image, state)
    return report_of(image, **options)


def rules_found(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


def errors(report: Report) -> set[str]:
    """Rules with findings of severity error."""
    return {finding.rule for finding in report.findings if finding.severity == "error"}
