# SPDX-License-Identifier: MIT
"""The real dumps of `fixtures/real`, opened and read once for the whole run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import luoser
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import State, to_document

__all__ = ["CASES", "DUMPS", "REAL", "ROOT", "document", "dump", "expect", "overlay", "path", "read", "truth"]

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "fixtures" / "real"
CASES = sorted(case.name for case in REAL.iterdir() if case.is_dir())
DUMPS = sorted(f"{file.parent.name}/{file.name.removesuffix('.elf.xz')}" for file in REAL.glob("*/*.elf.xz"))


def path(name: str) -> Path:
    """The file of a dump, named like 7.3-a/frozen."""
    return REAL / f"{name}.elf.xz"


@cache
def dump(name: str) -> Memory:
    """The memory of a dump; shared, so nobody closes it."""
    return luoser.open(path(name))


def overlay(name: str) -> Overlay:
    """A dump to change as one likes."""
    return Overlay(dump(name))


@cache
def read(name: str) -> State:
    return luoser.read(dump(name))


@cache
def document(name: str) -> dict[str, Any]:
    return to_document(read(name))


@cache
def expect(name: str) -> dict[str, Any]:
    """What an independent reader found in a dump."""
    case, moment = name.split("/")
    found: dict[str, Any] = json.loads((REAL / case / "expect.json").read_text())[moment]
    return found


@cache
def truth(case: str) -> list[dict[str, Any]]:
    """What the kernels of a case said of themselves, boot by boot."""
    boots: list[dict[str, Any]] = json.loads((REAL / case / "truth.json").read_text())["boots"]
    return boots
