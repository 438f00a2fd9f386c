# SPDX-License-Identifier: MIT
"""A whole handover: root, sub-trees, map, LUO, device lists, and for an incoming one what tells the next kernel."""

from __future__ import annotations

import struct

from luoser.abi.kho import SETUP_KEXEC_KHO, kho_data, kho_kexec_metadata, kho_scratch, setup_data
from luoser.abi.luo import is_test_flb
from luoser.abi.values import struct_bytes
from luoser.abi.vmalloc import kho_vmalloc
from luoser.errors import FormatError, UsageError
from luoser.fdt import Fdt, flatten
from luoser.state import Direction, Handover, KhoTest, MapStatus, State, Subtree
from luoser.text import safe_text
from luoser.writer.image import Image
from luoser.writer.luo import STRUCT_FORMS, write_luo
from luoser.writer.memfd import write_area
from luoser.writer.pci import write_list
from luoser.writer.preserved import write_map

__all__ = ["write"]

_LUO, _METADATA, _TEST = "LUO", "kexec-metadata", "kho_test"


def write(state: State) -> Image:
    """The memory that reads as this state, as far as the state says what lies in it.

    What cannot come back is a sentence in `lacks` of the image: a stale map, blobs of unknown kind. Raises
    UsageError when the state contradicts itself: two things at one place, a name too long for its field, a count
    that is not that of what it counts.
    """
    image = Image(state.source.page_size)
    for handover in state.handovers:
        _write_handover(image, handover)
    for handover in state.handovers:
        _write_scratch(image, handover, state)
    return image


def _write_handover(image: Image, handover: Handover) -> None:
    if handover.address is None or handover.fdt is None:
        raise UsageError("a handover needs an address and a root devicetree to be written")
    where = f"KHO root {handover.address:#x}"
    image.put(handover.address, _tree(handover.fdt, where).ljust(image.page_size, b"\0"), "KHO root")
    _write_preserved(image, handover)
    for subtree in handover.subtrees:
        _write_subtree(image, handover, subtree)
    if handover.luo is not None:
        tree = next((subtree.fdt for subtree in handover.subtrees if subtree.name == _LUO), None)
        write_luo(image, handover.luo, tree)
        _note_lost_flbs(image, handover)
    for entry in handover.pci:
        write_list(image, entry)
    if handover.kho_test is not None:
        _write_test(image, handover, handover.kho_test)


def _tree(tree: Fdt, what: str) -> bytes:
    try:
        return flatten(tree)
    except FormatError as error:
        raise UsageError(f"{what}: {error}") from None


def _write_preserved(image: Image, handover: Handover) -> None:
    preserved = handover.preserved
    if preserved.status is MapStatus.INTACT:
        write_map(image, preserved)
    elif preserved.status is not MapStatus.ABSENT:
        image.lacks.append(
            f"preserved map at {preserved.address:#x}: it is {preserved.status.value} in the state, so that nobody "
            "knows what it was; the image has none there"
        )


def _write_subtree(image: Image, handover: Handover, subtree: Subtree) -> None:
    if subtree.address is None:
        return
    what = f"sub-tree {safe_text(subtree.name)}"
    if subtree.fdt is not None:
        image.put(subtree.address, _tree(subtree.fdt, what), what)
    elif subtree.name == _METADATA and handover.kexec_metadata is not None:
        ser = handover.kexec_metadata
        fields = {
            "version": ser.version,
            "previous_release": ser.previous_release,
            "kexec_count": ser.kexec_count,
        }
        image.put(subtree.address, struct_bytes(kho_kexec_metadata, fields, what), what)
    elif subtree.name == _LUO and handover.luo is not None and handover.luo.layout in STRUCT_FORMS:
        return  # with the rest of LUO
    elif not any(entry.address == subtree.address for entry in handover.pci):
        image.lacks.append(f"{what}: the state does not hold the bytes at {subtree.address:#x}; left out")


def _note_lost_flbs(image: Image, handover: Handover) -> None:
    assert handover.luo is not None
    lists = {entry.address for entry in handover.pci}
    for flb in handover.luo.flbs:
        if flb.detail is None and flb.data and flb.data not in lists and not is_test_flb(flb.data):
            word = f"FLB {safe_text(flb.name)}: the state does not hold the bytes at {flb.data:#x}; left out"
            image.lacks.append(word)


def _write_test(image: Image, handover: Handover, test: KhoTest) -> None:
    """The array of the self-test's folios; its vmalloc descriptor is in the devicetree."""
    tree = next((subtree.fdt for subtree in handover.subtrees if subtree.name == _TEST), None)
    node = tree.root.node("data") if tree is not None else None
    info = node.get("folios_info") if node is not None else None
    if info is None or (len(info) == 8 * test.count and not test.pages):
        return  # the folios are in the property itself
    if len(info) != kho_vmalloc.size or not test.pages:
        if test.count:
            image.lacks.append(f"sub-tree kho_test: the state does not hold all of its {test.count} folios; left out")
        return
    descriptor = kho_vmalloc.parse(info)
    words = b"".join(struct.pack("<Q", address | order) for address, order in test.folios)
    write_area(image, (descriptor.first,), test.pages, descriptor.order, words, "sub-tree kho_test")


def _write_scratch(image: Image, handover: Handover, state: State) -> None:
    """The setup_data node and the array of scratch areas that the kernel was handed, behind all else."""
    if handover.scratch is None:
        return
    if handover.direction is Direction.OUTGOING:
        image.lacks.append("scratch areas of an outgoing root: only variables of the kernel name them; left out")
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
    """A page behind everything that the state names."""
    ends = [image.end]
    for handover in state.handovers:
        ends += [area.address + area.size for area in handover.scratch or ()]
        if handover.preserved.map is not None:
            page = image.page_size
            ends += [start + count * (page << order) for start, order, count in handover.preserved.map.extents()]
    return -(-max(ends) // image.page_size) * image.page_size
