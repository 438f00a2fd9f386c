# SPDX-License-Identifier: MIT
"""Real handovers, written anew or with one thing changed: what the rules find in them."""

from __future__ import annotations

import struct
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import luoser
from luoser.checks import Report, check
from luoser.memory.overlay import Overlay
from luoser.state import File, Luo, Memfd, State, to_document
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.mutate import mutations
from tests import real
from tests.posted import users

__all__ = [
    "POSTED",
    "changed",
    "descriptor_changed",
    "document",
    "errors",
    "file_of",
    "judged",
    "luo_of",
    "memfd_of",
    "messages",
    "mutant",
    "reason",
    "report_of",
    "rules_found",
    "u64",
    "written",
]

NAME = "7.3-a/frozen"
"""The dump that is changed where no other is named."""
POSTED = "posted"
"""Stands for a handover with what only postings have."""


@cache
def document(name: str) -> dict[str, Any]:
    """All of a real dump that can be said in a document; of POSTED, all of its image."""
    memory = users().open() if name == POSTED else real.dump(name)
    return to_document(luoser.read(memory, contents=True), full=True)


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


def mutant(rule: str, name: str = NAME, **options: Any) -> Report:
    """What the rules find in a real handover in which the mutation of a rule broke that one."""
    state, image = written(name)
    mutations()[rule].apply(image, state)
    return report_of(image, **options)


def rules_found(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


def errors(report: Report) -> set[str]:
    """Rules with findings of severity error."""
    return {finding.rule for finding in report.findings if finding.severity == "error"}


def reason(report: Report, rule: str) -> str:
    """Why a rule does not apply or could not be judged, of all handovers; "" where it was judged."""
    return " ".join(entry.reason for entry in (*report.skipped, *report.unjudged) if entry.rule == rule)


def messages(report: Report, rule: str) -> list[str]:
    return [finding.message for finding in report.findings if finding.rule == rule]


# -- states with one thing changed --


def changed(state: State | str, **members: Any) -> State:
    """A state, or that of a real dump, with members of its last handover replaced."""
    made = real.read(state) if isinstance(state, str) else state
    *before, last = made.handovers
    return replace(made, handovers=(*before, replace(last, **members)))


def luo_of(state: State | str = NAME) -> Luo:
    """LUO of the first handover."""
    luo = (real.read(state) if isinstance(state, str) else state).handovers[0].luo
    assert luo is not None
    return luo


def file_of(name: str = NAME, token: int = 0x1B) -> File:
    """0x1b of vm-web-01: 64 KiB in 16 folios of one page, with two seals."""
    return next(file for file in luo_of(name).sessions[0].files if file.token == token)


def memfd_of(name: str = NAME, token: int = 0x1B) -> Memfd:
    memfd = file_of(name, token).memfd
    assert memfd is not None
    return memfd


# -- dumps with bytes changed --


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def judged(memory: Overlay, *rules: str, **options: Any) -> Report:
    """What some rules or families find in a memory."""
    return check(luoser.read(memory, contents=True), select=rules, **options)


def descriptor_changed(offset: int, data: bytes) -> Report:
    """What the rules on memfds find with bytes of the descriptor of file_of() changed."""
    memory = real.overlay(NAME)
    memory.write(memfd_of().address + offset, data)
    return judged(memory, "MFD")
