# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/scratch.py."""

from __future__ import annotations

import struct

from luoser.abi.kho import SCRATCH_UNIT
from luoser.state import Area, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, mutation

__all__: list[str] = []


def _scratch(image: Image, state: State) -> tuple[int, tuple[Area, ...]]:
    """(address of the array of scratch areas, the areas). Raises Cannot."""
    for handover in state.handovers:
        areas = handover.scratch or ()
        array = b"".join(struct.pack("<QQ", area.address, area.size) for area in areas)
        place = next(iter(image.memory().find(array)), None) if len(areas) >= 2 else None
        if place is not None:
            return place, areas
    raise Cannot("expected an array of two scratch areas in the image")


@mutation("KHO015", "nothing if both areas are RAM. No kernel writes this")
def scratch_overlap(image: Image, state: State) -> None:
    """The smallest scratch area gets the start of the largest one."""
    place, areas = _scratch(image, state)
    by_size = sorted((index for index, area in enumerate(areas) if area.size), key=lambda index: areas[index].size)
    if len(by_size) < 2:
        raise Cannot("expected two scratch areas that are not empty")
    image.patch(place + 16 * by_size[0], struct.pack("<Q", areas[by_size[-1]].address))


@mutation("KHO016", "the kernel runs out of early memory, and panics")
def scratch_shape(image: Image, state: State) -> None:
    """The low scratch area keeps its last unit only, the global one becomes empty."""
    place, (low, *_) = _scratch(image, state)
    unit = SCRATCH_UNIT[image.page_size]
    image.patch(place, struct.pack("<QQQQ", low.address + low.size - unit, unit, 0, 0))
