# SPDX-License-Identifier: MIT
"""The scratch areas of a root: an array that setup_data, /chosen or a variable of the running kernel points to."""

from __future__ import annotations

import struct

from luoser.abi.kho import kho_scratch
from luoser.errors import MissingMemory
from luoser.reader.locate import Root, setup_nodes
from luoser.reader.walk import PHYSICAL_LIMIT, Walk
from luoser.state import Area

__all__ = ["read_scratch"]

_SCRATCH_AREAS = 4096


def read_scratch(walk: Walk, root: Root, *, search: bool) -> tuple[tuple[Area, ...] | None, list[str]]:
    """(scratch areas, evidence in words). None: no array was found.

    walk:   the source.
    root:   whose areas these are.
    search: whether to use /chosen and setup_data nodes in memory, too, not only variables of the running kernel.
    """
    for place, size, who in root.scratch:
        areas = _areas(walk, place, size)
        if areas is not None:
            return areas, [f"{who} points to the scratch array at {place:#x}"]
    if not search:
        return None, []
    for place, size in (chosen.scratch for chosen in root.chosen if chosen.scratch is not None):
        areas = _areas(walk, place, size)
        if areas is not None:
            return areas, [f"/chosen also points to the scratch array at {place:#x}"]
    for node in setup_nodes(walk, root.address) if not walk.memory.live else ():
        areas = _areas(walk, node.scratch_address, node.scratch_size)
        if areas is not None:
            where = f"{node.scratch_address:#x}"
            return areas, [f"setup_data node at {node.address:#x} points to it and to the scratch array at {where}"]
    return None, []


def _areas(walk: Walk, address: int, size: int) -> tuple[Area, ...] | None:
    """The areas of an array. None: not an array of scratch areas."""
    if not size or size % kho_scratch.size or size // kho_scratch.size > _SCRATCH_AREAS:
        return None
    try:
        data = walk.memory.read(address, size)
    except MissingMemory:
        return None
    areas = tuple(Area(address=start, size=length) for start, length in struct.iter_unpack("<QQ", data))
    sound = all(
        area.address % walk.page_size == 0
        and area.size % walk.page_size == 0
        and area.address + area.size <= PHYSICAL_LIMIT
        for area in areas
    )
    return areas if sound and any(area.size for area in areas) else None
