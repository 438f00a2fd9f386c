# SPDX-License-Identifier: MIT
"""A whole handover: root, sub-trees, map, LUO, device lists, and for an incoming one what tells the next kernel."""

from __future__ import annotations

from luoser.abi.kho import FORMS, SUBTREE_SIZE, root_form
from luoser.abi.luo import form as luo_form
from luoser.abi.luo import is_test_flb
from luoser.errors import FormatError, UsageError
from luoser.fdt import Fdt, Node, flatten
from luoser.state import Handover, MapStatus, State, Subtree
from luoser.state.from_json import Item
from luoser.text import encode_name, safe_text
from luoser.writer.image import Image
from luoser.writer.kexec_metadata import metadata_bytes
from luoser.writer.kho_test import write_test
from luoser.writer.luo import write_luo
from luoser.writer.pci import write_list
from luoser.writer.preserved import write_map
from luoser.writer.scratch import write_scratch
from luoser.writer.tree_values import text, u64

__all__ = ["root_tree", "write"]

_LUO, _METADATA = "LUO", "kexec-metadata"


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
        write_scratch(image, handover, state)
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
        write_test(image, handover, handover.kho_test)


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
        image.put(subtree.address, metadata_bytes(handover.kexec_metadata, what), what)
    elif subtree.name == _LUO and handover.luo is not None and not _is_tree(handover.luo.layout):
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


def _is_tree(layout: str) -> bool:
    form = luo_form(layout)
    return form is None or form.is_tree


def root_tree(handover: Item) -> Node:
    """The KHO root: the map's address, and a node for each sub-tree as its version writes it, from a description."""
    compatible = handover.text("compatible")
    form = root_form(compatible) or FORMS[-1]
    address = (handover.item("preserved") or Item({}, "")).number("address", 0)
    root = Node(b"", [(b"compatible", text(compatible)), (b"preserved-memory-map", u64(address))])
    for subtree in handover.items("subtrees"):
        place, size = u64(subtree.number("address")), u64(subtree.number("size", 0))
        properties = [(form.subtree_property.encode(), place)]
        if form.has_blob_size:
            properties.insert(0, (SUBTREE_SIZE.encode(), size))
        root.nodes.append(Node(encode_name(subtree.text("name")), properties))
    return root
