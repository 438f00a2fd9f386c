# SPDX-License-Identifier: MIT
"""The real dumps of `fixtures/real`, opened and read once for the whole run."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import luoser
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import State, to_document

__all__ = ["CASES", "DUMPS", "MORE", "REAL", "ROOT", "document", "dump", "expect", "overlay", "path", "read", "truth"]

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT / "fixtures" / "real"
CASES = sorted(case.name for case in REAL.iterdir() if case.is_dir())
DUMPS = sorted(f"{file.parent.name}/{file.name.removesuffix('.elf.xz')}" for file in REAL.glob("*/*.elf.xz"))
_ELSEWHERE = {
    f"{file.parent.name}/{file.name.removesuffix('.elf.xz')}": file
    for file in sorted(Path(os.environ.get("LUOSER_REAL", "/nonexistent")).glob("*/*.elf.xz"))
}
MORE = [name for name in _ELSEWHERE if name not in DUMPS and (_ELSEWHERE[name].parent / "expect.json").exists()]
"""Dumps that are too large to lie here, in the folder that LUOSER_REAL names."""


def path(name: str) -> Path:
    """The file of a dump, named like 7.3-a/frozen."""
    return _ELSEWHERE[name] if name in MORE else REAL / f"{name}.elf.xz"


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
    found: dict[str, Any] = json.loads((path(name).parent / "expect.json").read_text())[name.split("/")[1]]
    return found


@cache
def truth(case: str) -> list[dict[str, Any]]:
    """What the kernels of a case said of themselves, boot by boot."""
    boots: list[dict[str, Any]] = json.loads((REAL / case / "truth.json").read_text())["boots"]
    return boots
