# SPDX-License-Identifier: MIT
"""Scratch areas of an incoming root: their array, and what points the kernel to root and array.

On x86-64 that is a setup_data node, on arm64 the /chosen of the devicetree.
"""

from __future__ import annotations

from luoser.abi.kho import CHOSEN_FDT, CHOSEN_SCRATCH, SETUP_KEXEC_KHO, kho_data, kho_scratch, setup_data
from luoser.fdt import Node, flatten, sequential
from luoser.state import Direction, Handover, State
from luoser.writer.image import Image, Passed

__all__ = ["chosen_source", "machine_of", "node_bytes", "write_scratch"]

_TREES = ("arm64",)
"""Machines whose kernels get these addresses in a devicetree."""


def machine_of(page_size: int) -> str:
    """The machine that a state is of, if nothing else says it: x86-64 has pages of 4096 bytes only."""
    return "x86-64" if page_size == 4096 else "arm64"


def write_scratch(image: Image, handover: Handover, state: State, machine: str) -> None:
    """Write the array of scratch areas, and the setup_data node or a devicetree with a /chosen.

    image:    to write to.
    handover: with the scratch areas. An array without an address is at a free page after all others.
    state:    whose memory is not used.
    machine:  `x86-64` or `arm64`.
    """
    if handover.scratch is None or handover.address is None:
        return
    if handover.direction is Direction.OUTGOING:
        image.lacks.append("scratch areas of an outgoing root: only variables of the kernel point to them; left out")
        return
    array = handover.scratch_array or _free_page(image, state)
    areas = b"".join(kho_scratch.build({"addr": area.address, "size": area.size}) for area in handover.scratch)
    image.put(array, areas, "scratch array")
    place = _node_page(image, handover, state)
    told = Passed(root=handover.address, root_size=image.page_size, array=array, size=len(areas), node=place)
    image.put(place, node_bytes(told, machine), "devicetree with /chosen" if machine in _TREES else "setup_data")
    image.passed.append(told)


def node_bytes(told: Passed, machine: str) -> bytes:
    """Bytes of the setup_data node, or of a devicetree that has nothing but the /chosen.

    told:    what it says.
    machine: `x86-64` or `arm64`.

    Source: arch/x86/kernel/kexec-bzimage64.c, setup_kho; drivers/of/kexec.c, kho_add_chosen.
    """
    if machine in _TREES:
        values = [(CHOSEN_FDT, told.root, told.root_size), (CHOSEN_SCRATCH[0], told.array, told.size)]
        properties = [(name.encode(), _pair(address, size)) for name, address, size in values]
        return flatten(sequential(Node(b"", [], [Node(b"chosen", properties)])))
    data = kho_data.build(
        {"fdt_addr": told.root, "fdt_size": told.root_size, "scratch_addr": told.array, "scratch_size": told.size}
    )
    return setup_data.build({"next": 0, "type": SETUP_KEXEC_KHO, "len": len(data), "data": None}) + data


def chosen_source(told: Passed) -> str:
    """The /chosen as devicetree source, to be merged into the tree of a machine. told: what it says."""
    lines = [
        f"\t\t{name} = <{address >> 32:#x} {address & 0xFFFFFFFF:#x} {size >> 32:#x} {size & 0xFFFFFFFF:#x}>;"
        for name, address, size in (
            (CHOSEN_FDT, told.root, told.root_size),
            (CHOSEN_SCRATCH[0], told.array, told.size),
        )
    ]
    return "\n".join(["/dts-v1/;", "/ {", "\tchosen {", *lines, "\t};", "};", ""])


def _pair(address: int, size: int) -> bytes:
    return address.to_bytes(8, "big") + size.to_bytes(8, "big")


def _node_page(image: Image, handover: Handover, state: State) -> int:
    """Page of the node: the last one of a scratch area, as kexec puts its segments there.

    Beside an outgoing root that would say that the map, which is described as intact, was consumed long ago.
    """
    for area in (handover.scratch or ()) if len(state.handovers) == 1 else ():
        place = area.address + area.size - image.page_size
        if area.size >= image.page_size and image.is_free(place):
            return place
    return _free_page(image, state)


def _free_page(image: Image, state: State) -> int:
    """Address of a page after all memory in the state and the image."""
    ends = [image.end]
    for handover in state.handovers:
        ends += [area.address + area.size for area in handover.scratch or ()]
        if handover.preserved.map is not None:
            page = image.page_size
            ends += [start + count * (page << order) for start, order, count in handover.preserved.map.extents()]
    return -(-max(ends) // image.page_size) * image.page_size
