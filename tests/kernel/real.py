# SPDX-License-Identifier: MIT
"""The kernel of fixtures/kernel, and full kernels of the cache."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.kernel.space import AddressSpace, hex_number
from luoser.memory.source import Memory
from luoser.reader.kernel import Kernel, find_kernels
from luoser.reader.walk import Walk
from luoser.state import State
from tests.e2e.kernels import NoKernel, kernel
from tests.real import ROOT

__all__ = ["FIXTURES", "memory", "read", "running", "space", "symbols", "vmlinux", "walked"]

FIXTURES = ROOT / "fixtures" / "kernel"


@cache
def memory(moment: str) -> Memory:
    return luoser.open(FIXTURES / f"{moment}.elf.xz")


@cache
def read(moment: str) -> State:
    return luoser.read(memory(moment))


def space(moment: str) -> AddressSpace:
    """A new address space, which has read nothing yet."""
    return AddressSpace(memory(moment), memory(moment).vmcoreinfo)


@cache
def running(moment: str) -> Kernel:
    """The one kernel of a moment, by its own symbols."""
    (found,) = find_kernels(Walk(memory(moment), 4096), None)
    return found


@cache
def symbols() -> list[tuple[int, str, str]]:
    """(address at run time, kind, name) of each line of System.map."""
    slide = hex_number(memory("pre").vmcoreinfo, "KERNELOFFSET") or 0
    lines = lzma.decompress((FIXTURES / "System.map.xz").read_bytes()).decode().splitlines()
    return [(int(address, 16) + slide, kind, name) for address, kind, name in map(str.split, lines)]


@cache
def walked(moment: str) -> Any:
    """What another reader found in the running kernel's lists."""
    return json.loads((FIXTURES / f"walk-{moment}.json").read_text())


def vmlinux(machine: str) -> Path:
    """The vmlinux of a kernel in the cache, with BTF and, unstripped, with DWARF. Skips the test without one."""
    try:
        image = kernel("7.3", machine, build=False).symbols.with_name("vmlinux")
    except NoKernel as error:
        pytest.skip(str(error))
    if not image.exists():
        pytest.skip(f"{image.name} of {machine} is not in the cache")
    return image
