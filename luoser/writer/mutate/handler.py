# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/handler.py."""

from __future__ import annotations

from luoser.abi import memfd
from luoser.abi.other import TREES, TreeForm, kho_hwpoison_metadata
from luoser.state import State
from luoser.state.trees import tree_addresses
from luoser.writer.image import Image
from luoser.writer.mutate.kho import subtree_at, tree_at
from luoser.writer.mutate.luo import EIO, place_of, sessions_of
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__: list[str] = []


@mutation("LUO017", EIO)
def handler(image: Image, state: State) -> None:
    """The handler of a file gets version 9."""
    file = sessions_of(state, 1)[0].files[-1]
    image.patch(place_of(file), (file.compatible.split("-v")[0].encode() + b"-v9").ljust(48, b"\0"))


@mutation("LUO018", EIO)
def handler_generation(image: Image, state: State) -> None:
    """A file becomes memfd-v1, with its descriptor, below a root of kernels with memfd-v2."""
    files = (file for session in sessions_of(state, 1, count=1) for file in session.files)
    file = next((one for one in files if one.compatible == "memfd-v2" and one.memfd is not None), None)
    if file is None:
        raise Cannot("expected a memfd-v2 in the first session")
    old, new = memfd.memfd_luo_ser_v2, memfd.memfd_luo_ser_v1
    data = image.read(file.data, old.size)
    data = data[: old.offset("seals")] + data[old.offset("nr_folios") :]
    assert len(data) == new.size
    image.patch(file.data, data.ljust(old.size, b"\0"))
    image.patch(place_of(file), b"memfd-v1")


@mutation("KHO025", "mshv panics: it cannot know the pages of the hypervisor; others ignore what they find")
def subtree_incomplete(image: Image, state: State) -> None:
    """The name of the property that a posted user needs changes in its devicetree."""
    place, form = _tree(state)
    offset = tree_at(image, place).find(form.pages[0].encode() + b"\0")
    if offset < 0:
        raise Cannot(f"expected {form.pages[0]} in the sub-tree {form.subtree}")
    image.patch(place + offset, b"X")


@mutation("MAP021", "mshv panics; others read memory that is in use again")
def tree_page(image: Image, state: State) -> None:
    """An address in the devicetree of a posted user becomes that of a page beyond all preserved memory."""
    place, form = _tree(state)
    tree = first_handover(state).subtrees
    root = next(one.fdt.root for one in tree if one.address == place and one.fdt is not None)
    (_, address), *_ = tree_addresses(form, root)
    offset = tree_at(image, place).index(address.to_bytes(8, "little"))
    image.patch(place + offset, _beyond(state, image.page_size).to_bytes(8, "little"))


@mutation("MAP022", "the owner restores the page with its error; taking it out of use again may fail")
def poisoned(image: Image, state: State) -> None:
    """The first page with a memory error becomes the page of the list itself."""
    place = subtree_at(state, "hwpoison")
    ser = kho_hwpoison_metadata.parse(image.read(place, kho_hwpoison_metadata.size))
    if not ser.count or not ser.pfns.first:
        raise Cannot("expected a list with a page in the sub-tree hwpoison")
    page = int.from_bytes(image.read(ser.pfns.first + 8, 8), "little")
    image.patch(page, (page // image.page_size).to_bytes(8, "little"))


def _tree(state: State) -> tuple[int, TreeForm]:
    """(address, form) of the first devicetree of a posted user. Raises Cannot if there is none."""
    for subtree in first_handover(state).subtrees:
        for form in TREES:
            if subtree.name == form.subtree and subtree.address is not None and subtree.fdt is not None:
                return subtree.address, form
    raise Cannot(f"expected a sub-tree {' or '.join(form.subtree for form in TREES)} with a devicetree")


def _beyond(state: State, page_size: int) -> int:
    found = first_handover(state).preserved.map
    last = max((row[0] + (row[2] * page_size << row[1]) for row in found.extents()), default=0) if found else 0
    return last + (3 << 30)  # two bits: one bit off a page is another fault
