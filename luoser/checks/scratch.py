# SPDX-License-Identifier: MIT
"""Rules on the scratch areas."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from luoser.abi.kho import EARLY_MEMORY, PAGE_STRUCT, SCRATCH_UNIT
from luoser.abi.release import writers_of
from luoser.checks.model import Found, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.text import human_size

__all__: list[str] = []


_PAGEBLOCK = {4096: 2 << 20, 16384: 32 << 20, 65536: 512 << 20}
"""Bytes of a pageblock by page size, with huge pages: alignment of scratch areas in kernels up to 7.1."""


def _unit(view: View) -> int:
    """Alignment of a scratch area in bytes."""
    release = writers_of(view.handover.compatible)
    is_old = bool(release) and tuple(map(int, release[-1].split("."))) < (7, 2)
    return (_PAGEBLOCK if is_old else SCRATCH_UNIT)[view.page_size]


@register("KHO015", "scratch-overlap", Severity.WARNING, kernels="6.16 and later", source="scratch.md#invariants")
def scratch_overlap(view: View) -> Iterator[Found]:
    """Two scratch areas share memory.

    Kernels make disjoint areas. So the array was overwritten, or not copied correctly.
    """
    areas = sorted((area.address, area.size) for area in view.scratch() if area.size)
    for (start, size), (following, _) in pairwise(areas):
        if following < start + size:
            yield Found(
                f"scratch area {start:#x}-{start + size:#x} overlaps the one from {following:#x} on",
                address=following,
                where="scratch",
                hint="find what overwrote the array of scratch areas",
            )


@register(
    "KHO016",
    "scratch-shape",
    Severity.WARNING,
    kernels="6.16 and later",
    source="finding.md#setup_data; scratch.md#invariants; scratch.md#areas",
)
def scratch_shape(view: View) -> Iterator[Found]:
    """There are fewer than two scratch areas, the low or the global one is empty, or one is at address 0 or not
    aligned: to a pageblock up to 7.1, from 7.2 on to the largest block of the buddy allocator. Or all of them together
    do not hold the memmap of the machine's RAM.

    Kernels make at least two areas, so the array was cut or overwritten. The next kernel allocates all its early memory
    from scratch. If that is too small, it panics with "Failed to allocate memmap": an error.
    """
    areas, unit = view.scratch(), _unit(view)
    hint = "find what overwrote the array of scratch areas; check kho_scratch= or kho_bootmem= on the command line"
    if len(areas) < 2:
        yield Found(
            f"scratch areas: expected at least 2, low memory and global, found {len(areas)}", where="scratch", hint=hint
        )
    for index, area in enumerate(areas):
        where = f"scratch[{index}]"
        if not area.address:
            yield Found(f"scratch area {index} is at address 0", where=where, hint=hint)
        elif not area.size and index < 2:
            word = f"the {'low' if index == 0 else 'global'} scratch area is empty"
            yield Found(word, address=area.address, where=where, hint=hint)
        elif (area.address | area.size) % unit:
            word = f"scratch area {area.address:#x} of {area.size:#x} bytes is not aligned to {unit:#x}"
            yield Found(word, address=area.address, where=where, hint=hint)
    size, needed = sum(area.size for area in areas), _needed(view)
    if areas and size < needed:
        word = f"scratch areas: {human_size(size)} in all, expected {human_size(needed)} or more for the memmap"
        hint = "do not boot the next kernel, it panics; give kho_scratch= or kho_bootmem= larger sizes"
        yield Found(word, where="scratch", hint=hint, severity=Severity.ERROR)


_FEWEST_PAGES = 1 << 14
"""Of RAM: 64 MiB in pages of 4 KiB."""


def _needed(view: View) -> int:
    """Bytes of scratch that a kernel needs at least early in boot; if RAM is unknown, on the smallest machine."""
    pages = sum(end - start for start, end in view.ram) // view.page_size
    return max(_FEWEST_PAGES, pages) * PAGE_STRUCT + EARLY_MEMORY
