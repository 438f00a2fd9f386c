# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/preserved.py."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from luoser.abi.kho import root_form
from luoser.abi.preserved import RadixGeometry, khoser_mem_bitmap_ptr, khoser_mem_chunk_hdr
from luoser.state import Handover, PreservedMap, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__ = ["forget", "fresh_page", "preserve"]


def _map(state: State) -> tuple[Handover, PreservedMap]:
    handover = first_handover(state)
    if handover.preserved.map is None:
        raise Cannot("expected a preserved map")
    return handover, handover.preserved.map


def _u64(image: Image, place: int) -> int:
    return int.from_bytes(image.read(place, 8), "little")


def fresh_page(image: Image, state: State) -> int:
    """Address of a new page of zeros, after all memory of the image and the maps.

    image: to which the page is added.
    state: whose memory is not used.
    """
    end = image.end
    for handover in state.handovers:
        extents = handover.preserved.map.extents() if handover.preserved.map is not None else ()
        end = max([end, *(start + count * (image.page_size << order) for start, order, count in extents)])
        end = max([end, *(area.address + area.size for area in handover.scratch or ())])
    page = -(-end // image.page_size) * image.page_size
    image.patch(page, bytes(image.page_size))
    return page


def _bit(image: Image, state: State, address: int, order: int) -> tuple[int, int]:
    """(address of the byte, mask) of the bit of a block in the map. Missing leaves and bitmaps are added."""
    preserved = _map(state)[0].preserved
    find = _chunk_bit if preserved.form == "chunks" else _radix_bit
    place, bit = find(image, state, address, order)
    return place + (bit >> 3), 1 << (bit & 7)


def _radix_bit(image: Image, state: State, address: int, order: int) -> tuple[int, int]:
    geometry = RadixGeometry.of(image.page_size)
    key, node = geometry.key(address, order), first_handover(state).preserved.address
    for level in range(geometry.levels - 1, -1, -1):
        index = key >> geometry.leaf_bits + geometry.table_bits * level & (1 << geometry.table_bits) - 1
        entry = node + 8 * index
        node = _u64(image, entry)
        if not node:
            node = fresh_page(image, state)
            image.patch(entry, struct.pack("<Q", node))
    return node, key & (1 << geometry.leaf_bits) - 1


def _chunk_bit(image: Image, state: State, address: int, order: int) -> tuple[int, int]:
    size = first_handover(state).preserved.bitmap_size or image.page_size
    span, last = (8 * size * image.page_size) << order, 0
    for chunk, header in _chunks(image, state):
        last = chunk
        body = image.read(chunk + khoser_mem_chunk_hdr.size, header.num_elms * khoser_mem_bitmap_ptr.size)
        for start, bitmap in khoser_mem_bitmap_ptr.record.iter_unpack(body):
            if header.order == order and start <= address < start + span:
                return bitmap, (address - start) // (image.page_size << order)
    chunk, bitmap = fresh_page(image, state), fresh_page(image, state)
    image.patch(last, struct.pack("<Q", chunk))
    image.patch(chunk, struct.pack("<QIIQQ", 0, order, 1, address - address % span, bitmap))
    return bitmap, address % span // (image.page_size << order)


def _chunks(image: Image, state: State) -> Iterator[tuple[int, Any]]:
    chunk = first_handover(state).preserved.address
    while chunk:
        header = khoser_mem_chunk_hdr.parse(image.read(chunk, khoser_mem_chunk_hdr.size))
        yield chunk, header
        chunk = header.next


def preserve(image: Image, state: State, address: int, order: int) -> None:
    """Set the bit of a block in the map of the first handover.

    image:   to write to.
    state:   of the image.
    address: of the block.
    order:   of the block.
    """
    place, mask = _bit(image, state, address, order)
    image.patch(place, bytes([image.read(place, 1)[0] | mask]))


def forget(image: Image, state: State, address: int) -> int:
    """Clear the bit of the block that holds an address in the map of the first handover. Returns its order.

    image:   to write to.
    state:   of the image.
    address: in the block.

    Raises Cannot if the address is not preserved.
    """
    block = _map(state)[1].find(address)
    if block is None:
        raise Cannot(f"expected {address:#x} to be preserved")
    place, mask = _bit(image, state, block.address, block.order)
    image.patch(place, bytes([image.read(place, 1)[0] & ~mask]))
    return block.order


# -- the map itself ---------------------------------------------------------------------------------------


@mutation("MAP001", "an Oops and a panic while the map is walked, early in boot, or wrong memory is reserved")
def chain(image: Image, state: State) -> None:
    """The last chunk points to the first one; a free entry of the tree's root points to its first child."""
    preserved = _map(state)[0].preserved
    if preserved.form == "chunks":
        *_, (last, _) = _chunks(image, state)
        image.patch(last, struct.pack("<Q", preserved.address))
        return
    root = struct.unpack(f"<{image.page_size // 8}Q", image.read(preserved.address, image.page_size))
    used = next(place for place, child in enumerate(root) if child)
    free = next(place for place, child in enumerate(root) if not child and place > used)
    image.patch(preserved.address + 8 * free, struct.pack("<Q", root[used]))


@mutation("MAP002", "an Oops and a panic while the map is walked, early in boot, or wrong memory is reserved")
def garbage(image: Image, state: State) -> None:
    """The map's first page becomes a text."""
    image.patch(_map(state)[0].preserved.address, (b"#!/bin/sh\n" * image.page_size)[: image.page_size])


@mutation("MAP005", "nothing, until two owners use the memory")
def overlap(image: Image, state: State) -> None:
    """A preserved page is preserved again, as part of a block of order 1."""
    handover, found = _map(state)
    folios = (folio for _, folio in _folios(handover))
    for address in folios:
        if address % (2 * image.page_size) == 0 and found.head(address) == 0:
            preserve(image, state, address, 1)
            return
    raise Cannot("expected a memfd with a folio of order 0 at an even page")


@mutation("MAP006", "what is preserved there is lost if the kernel allocates it early in boot")
def in_scratch(image: Image, state: State) -> None:
    """A page of the first scratch area is preserved."""
    areas = next((handover.scratch for handover in state.handovers if handover.scratch), ())
    if not areas:
        raise Cannot("expected scratch areas")
    preserve(image, state, areas[0].address, 0)


@mutation("MAP007", "an Oops and a panic while the map is walked, early in boot")
def outside_ram(image: Image, state: State) -> None:
    """A page at 256 TiB is preserved."""
    preserve(image, state, 1 << 48, 0)


@mutation("MAP008", "nothing; the page is never freed")
def own_nodes(image: Image, state: State) -> None:
    """The first page of the map is preserved."""
    preserve(image, state, first_handover(state).preserved.address, 0)


@mutation("MAP019", "nothing until the next kernel uses that page of scratch: a part of the map is lost")
def nodes_in_scratch(image: Image, state: State) -> None:
    """A node of the map moves to the last unused page of the first scratch area."""
    areas = next((handover.scratch for handover in state.handovers if handover.scratch), ())
    if not areas:
        raise Cannot("expected scratch areas")
    preserved = _map(state)[0].preserved
    pages = range(areas[0].address, areas[0].address + areas[0].size, image.page_size)
    place = next((page for page in reversed(pages) if image.is_free(page)), None)  # the last one can have setup_data
    if place is None:
        raise Cannot("expected a page of scratch that is not in use")
    if preserved.form == "chunks":
        raise Cannot("expected a map in the form of a radix tree")
    root = struct.unpack(f"<{image.page_size // 8}Q", image.read(preserved.address, image.page_size))
    index, node = next((index, child) for index, child in enumerate(root) if child)
    image.patch(place, image.read(node, image.page_size))
    image.patch(preserved.address + 8 * index, struct.pack("<Q", place))


@mutation("MAP020", "nothing; the page is never freed")
def unnamed(image: Image, state: State) -> None:
    """A new page of zeros is preserved."""
    preserve(image, state, fresh_page(image, state), 0)


@mutation("MAP017", "the next kernel reserves memory of another size")
def order_overflow(image: Image, state: State) -> None:
    """A block of order 19 at 16 TiB is preserved."""
    form = root_form(first_handover(state).compatible)
    if form is None or form.orders is None:
        raise Cannot("expected kho-v1 or kho-v3: later kernels can restore such a block")
    preserve(image, state, 1 << 44, 19)


# -- what must be in it -----------------------------------------------------------------------------------


def _folios(handover: Handover) -> Iterator[tuple[int, int]]:
    """(descriptor, address) of the folios of all memfds."""
    for session in handover.luo.sessions if handover.luo is not None else ():
        for file in session.files:
            for folio in file.memfd.folios.list if file.memfd is not None else ():
                if folio.address:
                    yield file.data, folio.address


def _first(places: Iterator[int], what: str) -> int:
    place = next(places, None)
    if place is None:
        raise Cannot(f"expected a {what}")
    return place


@mutation("MAP003", "everything is lost if the page is used again before the root is read")
def root(image: Image, state: State) -> None:
    """The root's page is unpreserved."""
    address = first_handover(state).address
    if address is None:
        raise Cannot("expected a root with an address")
    forget(image, state, address)


@mutation("MAP004", "the kernel panics if the page is used again before LUO reads it, else it warns")
def subtrees(image: Image, state: State) -> None:
    """LUO's page is unpreserved."""
    luo = first_handover(state).luo
    if luo is None:
        raise Cannot("expected a state with LUO")
    forget(image, state, luo.address)


@mutation("MAP009", "the file cannot be retrieved")
def vmalloc(image: Image, state: State) -> None:
    """The page with the list of a memfd's folios is unpreserved."""
    luo = first_handover(state).luo
    files = (file for session in (luo.sessions if luo is not None else ()) for file in session.files)
    pages = (page for file in files if file.memfd is not None for page in file.memfd.folios.pages)
    forget(image, state, _first(pages, "memfd with a list of folios"))


@mutation("MAP010", "the file cannot be retrieved")
def folios(image: Image, state: State) -> None:
    """The first folio of a memfd is unpreserved."""
    forget(image, state, _first((folio for _, folio in _folios(first_handover(state))), "memfd with a folio"))


@mutation("MAP011", "nothing, until the owner of the FLB retrieves the list; the PCI core then panics")
def lists(image: Image, state: State) -> None:
    """The folio of a device list of an FLB or subsystem is unpreserved."""
    handover = first_handover(state)
    ours = (entry.address for entry in handover.pci if not any(via.startswith("subtree:") for via in entry.via))
    forget(image, state, _first(ours, "device list of an FLB or a subsystem"))


@mutation("MAP012", "the file cannot be retrieved")
def handler_data(image: Image, state: State) -> None:
    """The descriptor of a memfd is unpreserved."""
    forget(image, state, _first((data for data, _ in _folios(first_handover(state))), "memfd with a folio"))


@mutation("MAP013", "LUO refuses and the next kernel panics, or an Oops when a session is opened")
def luo_pages(image: Image, state: State) -> None:
    """The first page with sessions is unpreserved."""
    luo = first_handover(state).luo
    forget(image, state, _first(iter(luo.session_blocks if luo is not None else ()), "page with sessions"))


@mutation("MAP015", "the region is lost if its memory is used before memblock claims it")
def reservations(image: Image, state: State) -> None:
    """The block at the start of a reserve_mem region is unpreserved."""
    memblock = first_handover(state).memblock
    regions = memblock.reservations if memblock is not None else ()
    forget(image, state, _first((region.start for region in regions), "reserve_mem region"))


@mutation("MAP016", "the self-test finds a folio of another size")
def test_orders(image: Image, state: State) -> None:
    """A folio of the self-test of order 1 or more is preserved as pages of order 0."""
    test = first_handover(state).kho_test
    large = sorted((order, address) for address, order in (test.folios if test is not None else ()) if order)
    if not large:
        raise Cannot("expected a KHO self-test with a folio of order 1 or more")
    order, address = large[0]
    forget(image, state, address)
    for page in range(1 << order):
        preserve(image, state, address + page * image.page_size, 0)


@mutation("MAP014", "the second owner fails")
def claims(image: Image, state: State) -> None:
    """The handle of one memfd becomes that of another."""
    luo = first_handover(state).luo
    files = [file for session in (luo.sessions if luo is not None else ()) for file in session.files]
    ours = [file for file in files if file.memfd is not None and file.address is not None]
    if len(ours) < 2:
        raise Cannot("expected two memfds")
    assert ours[1].address is not None
    image.patch(ours[1].address + 48, struct.pack("<Q", ours[0].data))
