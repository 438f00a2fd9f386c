# SPDX-License-Identifier: MIT
"""A whole handover: root, sub-trees, map, LUO, device lists, and for an incoming one setup_data and scratch areas."""

from __future__ import annotations

from luoser.abi.kho import FORMS, SUBTREE_SIZE, root_form
from luoser.abi.luo import form as luo_form
from luoser.abi.luo import is_test_flb
from luoser.errors import FormatError, UsageError
from luoser.fdt import Fdt, Node, flatten
from luoser.state import Contents, Handover, MapStatus, Preserved, State, Subtree
from luoser.state.from_json import Item
from luoser.text import encode_name, safe_text
from luoser.writer.handler import write_contents, write_record
from luoser.writer.image import Image
from luoser.writer.kexec_metadata import metadata_bytes
from luoser.writer.kho_test import write_test
from luoser.writer.luo import write_luo
from luoser.writer.pci import write_list
from luoser.writer.preserved import write_map
from luoser.writer.scratch import machine_of, write_scratch
from luoser.writer.tree_values import text, u64

__all__ = ["root_tree", "write"]

_LUO, _METADATA = "LUO", "kexec-metadata"


def write(state: State, *, machine: str | None = None) -> Image:
    """The memory image of a state. Reading it gives the same state.

    state:   with all handovers.
    machine: `x86-64` or `arm64`, for what points an incoming kernel to its root. None: as the page size says.

    What cannot be restored is a note in `lacks` of the image: a stale map, blobs of unknown kind. Raises UsageError if
    the state is inconsistent: two things at one address, a name that is too long for its field, a wrong count.
    """
    image = Image(state.source.page_size)
    for handover in state.handovers:
        _write_handover(image, handover)
    for handover in state.handovers:
        write_scratch(image, handover, state, machine or machine_of(image.page_size))
    return image


def _write_handover(image: Image, handover: Handover) -> None:
    if handover.address is None or handover.fdt is None:
        raise UsageError("handover: expected an address and a root devicetree")
    where = f"KHO root {handover.address:#x}"
    image.put(handover.address, _tree(handover.fdt, where).ljust(image.page_size, b"\0"), "KHO root")
    if handover.at_jump:
        image.at_jump.add(handover.address)
    _write_map(image, handover.preserved, "preserved map")
    for subtree in handover.subtrees:
        _write_subtree(image, handover, subtree)
    if handover.luo is not None:
        tree = next((subtree.fdt for subtree in handover.subtrees if subtree.name == _LUO), None)
        write_luo(image, handover.luo, tree)
        _note_lost_flbs(image, handover)
    _note_cut(image, handover)
    for entry in handover.pci:
        write_list(image, entry)
    if handover.kho_test is not None:
        write_test(image, handover, handover.kho_test)


def _tree(tree: Fdt, what: str) -> bytes:
    try:
        return flatten(tree)
    except FormatError as error:
        raise UsageError(f"{what}: {error}") from None


def _write_map(image: Image, preserved: Preserved, what: str) -> None:
    if preserved.status is MapStatus.INTACT:
        write_map(image, preserved, what)
    elif preserved.status is not MapStatus.ABSENT:
        image.lacks.append(
            f"{what} at {preserved.address:#x}: it is {preserved.status.value} in the state, its contents are "
            "unknown; left out"
        )


def _write_subtree(image: Image, handover: Handover, subtree: Subtree) -> None:
    if subtree.address is None:
        return
    what = f"sub-tree {safe_text(subtree.name)}"
    if subtree.page_tree is not None:
        _write_map(image, subtree.page_tree, f"page tree of {what}")
    if subtree.fdt is not None:
        image.put(subtree.address, _tree(subtree.fdt, what), what)
        if subtree.detail is not None:
            write_record(image, subtree.detail, what)
    elif subtree.name == _METADATA and handover.kexec_metadata is not None:
        image.put(subtree.address, metadata_bytes(handover.kexec_metadata, what), what)
    elif subtree.name == _LUO and handover.luo is not None and not _is_tree(handover.luo.layout):
        return  # with the rest of LUO
    elif subtree.detail is not None:
        write_record(image, subtree.detail, what)
        write_contents(image, subtree.contents, what)
    elif subtree.contents:
        write_contents(image, subtree.contents, what)
    elif not any(entry.address == subtree.address for entry in handover.pci):
        image.lacks.append(f"{what}: no data for {subtree.address:#x} in the state; left out")


def _note_lost_flbs(image: Image, handover: Handover) -> None:
    assert handover.luo is not None
    lists = {entry.address for entry in handover.pci}
    for flb in handover.luo.flbs:
        if flb.detail is None and not flb.contents and flb.data and flb.data not in lists and not is_test_flb(flb.data):
            word = f"FLB {safe_text(flb.name)}: no data for {flb.data:#x} in the state; left out"
            image.lacks.append(word)


def _note_cut(image: Image, handover: Handover) -> None:
    """Notes on bytes of unknown kind of which the state has only the first."""
    luo, found = handover.luo, handover.preserved.map
    things = [
        (f"sub-tree {safe_text(one.name)}", one.address or 0, one.size or 0, one.contents) for one in handover.subtrees
    ]
    handles: list[tuple[str, int, tuple[Contents, ...]]] = []
    if luo is not None:
        handles += [(f"FLB {safe_text(flb.name)}", flb.data, flb.contents) for flb in luo.flbs]
        files = [file for session in luo.sessions for file in session.files]
        handles += [(f"file {file.token:#x}", file.data, file.contents) for file in files]
    for what, address, contents in handles:
        block = found.find(address) if found is not None and contents else None
        if block is not None:
            things.append((what, address, image.page_size << block.order, contents))
    for what, address, size, contents in things:
        known = max((piece.address + piece.size - address for piece in contents), default=0)
        if 0 < known < size:
            image.lacks.append(
                f"{what}: the first {known:#x} of {size:#x} bytes are in the state; the rest is left out"
            )


def _is_tree(layout: str) -> bool:
    form = luo_form(layout)
    return form is None or form.is_tree


def root_tree(handover: Item) -> Node:
    """The devicetree of a KHO root.

    handover: a description with all sub-trees and the address of the map.

    Source: kernel/liveupdate/kexec_handover.c; docs/abi/kho.md.
    """
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
