# SPDX-License-Identifier: MIT
"""What breaks the rules of luoser/checks/scratch.py."""

from __future__ import annotations

import struct

from luoser.state import Area, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, mutation

__all__: list[str] = []


def _scratch(image: Image, state: State) -> tuple[int, tuple[Area, ...]]:
    """The array of scratch areas in the image."""
    for handover in state.handovers:
        areas = handover.scratch or ()
        array = b"".join(struct.pack("<QQ", area.address, area.size) for area in areas)
        place = next(iter(image.memory().find(array)), None) if len(areas) >= 2 else None
        if place is not None:
            return place, areas
    raise Cannot("the image has no array of two scratch areas")


@mutation("KHO015", "nothing that is known; no kernel writes this")
def scratch_overlap(image: Image, state: State) -> None:
    """The smallest scratch area starts where the largest one does."""
    place, areas = _scratch(image, state)
    by_size = sorted(range(len(areas)), key=lambda index: areas[index].size or 1 << 64)
    image.patch(place + 16 * by_size[0], struct.pack("<Q", max(areas, key=lambda area: area.size).address))


@mutation("KHO016", "nothing that is known; no kernel writes this")
def scratch_shape(image: Image, state: State) -> None:
    """The global scratch area becomes empty."""
    place, _ = _scratch(image, state)
    image.patch(place + 24, bytes(8))
