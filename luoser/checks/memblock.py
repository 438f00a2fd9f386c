# SPDX-License-Identifier: MIT
"""Rules on the sub-tree memblock: the reserve_mem regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from luoser.abi.memblock import ALIGNMENT, LONGEST_LABEL, MOST_RESERVATIONS
from luoser.checks.model import Found, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.text import safe_text

__all__: list[str] = []


@register("KHO010", "memblock-bad", Severity.ERROR, kernels="6.16 and later", source="memblock.md#invariants")
def memblock(view: View) -> Iterator[Found]:
    """The sub-tree memblock is not memblock-v1, or has more than 8 regions, or a region has no start, no size, a size
    of 0, a start that is not aligned to 64 bytes, or a name that is too long or not unique.

    The next kernel takes over a reserve_mem region only if name and size match, and the start has the alignment of the
    command line, at least a cache line. Otherwise it allocates a new one, and the contents of the old one are lost.
    """
    place = view.subtree("memblock")
    hint = "find what overwrote the devicetree; boot with the same reserve_mem= as this kernel"
    for problem in (*view.problems("bad-memblock"), *view.subtree_problems("memblock", "no-fdt", "bad-fdt")):
        yield Found(problem.message, address=problem.address, where="memblock", hint=hint)
    view.need_subtree("memblock", "memblock")
    found = view.handover.memblock
    if found is None:
        return
    names = Counter(region.name for region in found.reservations)
    for index, region in enumerate(found.reservations):
        faults = {
            "has a size of 0": region.size == 0,
            f"starts at {region.start:#x}, expected a multiple of {ALIGNMENT}": region.start % ALIGNMENT != 0,
            f"has a name of more than {LONGEST_LABEL} characters": len(region.name) > LONGEST_LABEL,
            "has the name of another region": names[region.name] > 1,
        }
        for fault in (fault for fault, broken in faults.items() if broken):
            word = f"reserve_mem region {safe_text(region.name)} {fault}"
            yield Found(word, address=place, where=f"memblock.reservations[{index}]", hint=hint)
    if len(found.reservations) > MOST_RESERVATIONS:
        word = f"{len(found.reservations)} reserve_mem regions, expected at most {MOST_RESERVATIONS}"
        yield Found(word, address=place, where="memblock", hint=hint)
