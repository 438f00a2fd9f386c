# SPDX-License-Identifier: MIT
"""Scratch areas of an incoming root: their array, and the setup_data node that points to root and array."""

from __future__ import annotations

from luoser.abi.kho import SETUP_KEXEC_KHO, kho_data, kho_scratch, setup_data
from luoser.state import Direction, Handover, State
from luoser.writer.image import Image

__all__ = ["write_scratch"]


def write_scratch(image: Image, handover: Handover, state: State) -> None:
    """Write the array of scratch areas and the setup_data node, at free pages after all others.

    image:    to write to.
    handover: with the scratch areas.
    state:    whose memory is not used.
    """
    if handover.scratch is None:
        return
    if handover.direction is Direction.OUTGOING:
        image.lacks.append("scratch areas of an outgoing root: only variables of the kernel point to them; left out")
        return
    page = image.page_size
    array = _free_page(image, state)
    areas = b"".join(kho_scratch.build({"addr": area.address, "size": area.size}) for area in handover.scratch)
    image.put(array, areas, "scratch array")
    data = kho_data.build(
        {
            "fdt_addr": handover.address,
            "fdt_size": page,
            "scratch_addr": array,
            "scratch_size": len(areas),
        }
    )
    node = setup_data.build({"next": 0, "type": SETUP_KEXEC_KHO, "len": len(data), "data": None}) + data
    image.put(_free_page(image, state), node, "setup_data")


def _free_page(image: Image, state: State) -> int:
    """Address of a page after all memory in the state and the image."""
    ends = [image.end]
    for handover in state.handovers:
        ends += [area.address + area.size for area in handover.scratch or ()]
        if handover.preserved.map is not None:
            page = image.page_size
            ends += [start + count * (page << order) for start, order, count in handover.preserved.map.extents()]
    return -(-max(ends) // image.page_size) * image.page_size
