# SPDX-License-Identifier: MIT
"""Rules on the scratch areas."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from luoser.abi.release import writers_of
from luoser.checks.model import Found, Severity
from luoser.checks.rule import register
from luoser.checks.view import View

__all__: list[str] = []


_PAGEBLOCK = {4096: 2 << 20, 16384: 32 << 20, 65536: 512 << 20}
"""Bytes of a pageblock by page size, with huge pages: what kernels up to 7.1 align scratch to."""
_LARGEST = {4096: 4 << 20, 16384: 32 << 20, 65536: 512 << 20}
"""Bytes of the largest block of the buddy allocator: what kernels from 7.2 on align it to."""


def _unit(view: View) -> int:
    """Bytes that address and size of a scratch area are multiples of."""
    release = writers_of(view.handover.compatible)
    is_old = bool(release) and tuple(map(int, release[-1].split("."))) < (7, 2)
    return (_PAGEBLOCK if is_old else _LARGEST)[view.page_size]


@register("KHO015", "scratch-overlap", Severity.WARNING, kernels="6.16 and later", source="scratch.md#invariants")
def scratch_overlap(view: View) -> Iterator[Found]:
    """Two scratch areas share memory.

    The areas are disjoint when a kernel makes them; the array has been written over or passed on wrongly.
    """
    areas = sorted((area.address, area.size) for area in view.scratch() if area.size)
    for (start, size), (following, _) in pairwise(areas):
        if following < start + size:
            yield Found(
                f"scratch areas {start:#x}-{start + size:#x} and the one from {following:#x} on overlap",
                address=following,
                where="scratch",
                hint="look for what wrote over the array of scratch areas",
            )


@register(
    "KHO016",
    "scratch-shape",
    Severity.WARNING,
    kernels="6.16 and later",
    source="finding.md#setup_data; scratch.md#invariants",
)
def scratch_shape(view: View) -> Iterator[Found]:
    """There are fewer than two scratch areas, the low or the global one is empty, or one is not
    aligned: to a pageblock up to 7.1, from 7.2 on to the largest block of the buddy allocator.

    The next kernel allocates all its early memory from scratch; without the first two it has none to boot with.
    """
    areas, unit = view.scratch(), _unit(view)
    hint = "look for what wrote over the array of scratch areas, and at kho_scratch= on the command line"
    if len(areas) < 2:
        yield Found(
            f"{len(areas)} scratch area, expected one for low memory and a global one", where="scratch", hint=hint
        )
    for index, area in enumerate(areas):
        where = f"scratch[{index}]"
        if not area.size and index < 2:
            word = f"the {'low' if index == 0 else 'global'} scratch area is empty"
            yield Found(word, address=area.address, where=where, hint=hint)
        elif (area.address | area.size) % unit:
            word = f"scratch area {area.address:#x} of {area.size:#x} bytes is not aligned to {unit:#x}"
            yield Found(word, address=area.address, where=where, hint=hint)
