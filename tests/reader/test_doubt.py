# SPDX-License-Identifier: MIT
"""Places where a plausible reading is a wrong one: each of these was one once."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import luoser
import luoser.errors
from luoser.hextext import parse_hex
from luoser.memory.overlay import Overlay
from luoser.state import Direction, File, MapStatus, State
from tests import real
from tests.images import Image, Node, fdt, name, text, u64
from tests.work import Counted, steps


def codes(state: State) -> set[str]:
    return {problem.code for problem in state.problems}


# -- page size --


def test_page_size_is_not_guessed_from_a_map_that_cannot_be_read() -> None:
    image = Image(pages=64)
    place = -(-(image._next) // 0x4000) * 0x4000
    while image._next <= place:
        image.alloc(keep=False)
    image.put(place, b"#!/bin/sh\n" * 400)
    image.handover(map_address=place)
    state = luoser.read(image.open())
    assert state.source.page_size == 4096
    assert state.handovers[0].preserved.status is MapStatus.DAMAGED
    assert codes(state) == {"map-garbage"}


# -- the width of kho-v1 bitmaps --


def small_bitmap(pages: int) -> Image:
    """A map of 512-byte bitmaps whose only one starts a page, with something else behind it."""
    image = Image(pages=pages)
    blob = image.alloc(fdt(Node("", {"compatible": text("memblock-v1")})))
    image.handover({"memblock": (blob, None)}, compatible="kho-v1", bitmap_size=512)
    chunk = image.read().handovers[0].preserved.address
    bitmap = int.from_bytes(image.data[chunk + 24 : chunk + 32], "little")
    image.put(bitmap + 512, random.Random(1).randbytes(3584))
    return image


def test_slab_neighbours_of_a_small_bitmap_are_not_preserved_memory() -> None:
    preserved = small_bitmap(17000).read().handovers[0].preserved
    assert (preserved.bitmap_size, preserved.map and preserved.map.entries) == (512, 2)


def test_width_that_nothing_decides_is_said_to_be_open() -> None:
    assert "map-width" in codes(small_bitmap(512).read())


# -- device lists --


def pci_state(image: Image, blob: bytes, label: str = "pci-v2") -> State:
    page = image.alloc(struct.pack("<QQ", 1, 1) + name(label, 48) + struct.pack("<QQ", image.alloc(blob), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, page)), 32)})
    return image.read()


def entry(bdf: int, refcount: int = 1) -> bytes:
    return struct.pack("<IHH", 0, bdf, refcount)


def test_hole_in_a_block_is_no_device_and_keeps_its_slot() -> None:
    image = Image()
    blocks = image.blocks([entry(0x100), bytes(8), entry(0x200)])
    (found,) = pci_state(image, struct.pack("<IIQ", 2, 2, blocks), "pci").handovers[0].pci
    assert found.layout == "pci-version-2"
    assert [(device.index, device.name) for device in found.devices] == [(0, "0000:01:00.0"), (2, "0000:02:00.0")]


def test_hole_in_an_inline_list_is_no_device() -> None:
    blob = struct.pack("<II", 4, 2) + entry(0x100) + bytes(8) + entry(0x200) + bytes(8)
    (found,) = pci_state(Image(), blob).handovers[0].pci
    assert found.layout == "pci-v2-u32"
    assert [device.name for device in found.devices] == ["0000:01:00.0", "0000:02:00.0"]


def test_list_with_one_fault_is_shown_with_it() -> None:
    blob = struct.pack("<Q", 3) + b"".join(struct.pack("<HH", 0, bdf) for bdf in (0x100, 0x4100, 0x300))
    state = pci_state(Image(), blob, "pci-v1")
    (found,) = state.handovers[0].pci
    assert (found.layout, len(found.devices)) == ("pci-v1-nr", 3)
    assert "pci-fault" in codes(state)


# -- handlers --


def vfio_state(blob: bytes, devices: bytes) -> State:
    image = Image()
    data = image.alloc(blob)
    files = image.blocks([name("vfio-pci-v1", 48) + struct.pack("<QQ", data, 7)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    page = image.alloc(struct.pack("<QQ", 1, 1) + name("pci-v2", 48) + struct.pack("<QQ", image.alloc(devices), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, page)), 32)})
    return image.read()


def file_of(state: State) -> File:
    luo = state.handovers[0].luo
    assert luo is not None
    return luo.sessions[0].files[0]


def test_vfio_device_is_read_by_the_layout_that_names_a_preserved_one() -> None:
    devices = struct.pack("<II", 1, 1) + entry(0x501)
    detail = file_of(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None
    assert [layout for layout, _ in detail.readings] == ["vfio-pci-v1-domain32-reset"]
    assert detail.readings[0][1]["bdf"] == 0x501


def test_undecided_vfio_device_has_no_headline() -> None:
    devices = struct.pack("<II", 1, 1) + entry(0x900)
    detail = file_of(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None and len(detail.readings) > 1
    assert "layouts fit these bytes" in detail.confidence


# -- roots --


def test_root_option_does_not_hide_the_other_root_from_the_judgement() -> None:
    (found,) = luoser.read(real.dump("7.3-chain/frozen2"), root=0xE55000).handovers
    assert found.evidence[0] == "liveupdate numbers 1 and 2: the higher one is that of the running kernel"
    assert found == real.read("7.3-chain/frozen2").handovers[1]


def test_unknown_version_decides_nothing() -> None:
    image = Image()
    image.handover(compatible="kho-v9")
    state = image.read()
    assert state.handovers[0].direction is Direction.UNKNOWN
    assert "kho-version" in codes(state)


@pytest.mark.parametrize("compatible", ["kho-vX", "kho-v", "kho-v4 ", "kho-v4garbage"])
def test_what_only_starts_like_a_root_is_none(compatible: str) -> None:
    image = Image()
    image.handover(compatible=compatible)
    assert image.read().handovers == ()


def test_root_written_by_another_release_than_the_running_one_is_incoming() -> None:
    memory = Overlay(real.dump("7.3-a/frozen"))
    memory.vmcoreinfo = {**memory.vmcoreinfo, "OSRELEASE": "7.4.0"}
    (found,) = luoser.read(memory).handovers
    assert found.direction is Direction.INCOMING
    assert "7.3.4" in found.evidence[0] and "7.4.0" in found.evidence[0]


def test_lone_root_whose_subtrees_are_all_something_else_is_not_foreign() -> None:
    """A guest's root lies beside its host's own; alone, what it names was damaged."""
    image = Image()
    blob = image.alloc(b"nothing of the kind")
    image.handover({"LUO": (blob, 32), "memblock": (image.alloc(b"nor this"), 64)})
    (found,) = image.read().handovers
    assert (found.own, found.direction) == (True, Direction.OUTGOING)
    assert found.evidence == ("inferred: the only root, and its map is intact",)


def test_copy_of_a_root_is_left_out() -> None:
    image = Image()
    root = image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32)})
    copy = image.alloc(bytes(image.data[root : root + 4096]), keep=False)
    state = image.read()
    assert [handover.address for handover in state.handovers] == [root]
    assert [problem.address for problem in state.problems if problem.code == "root-copy"] == [copy]


def test_chosen_names_the_scratch_array() -> None:
    image = Image()
    root = image.handover()
    scratch = image.alloc(struct.pack("<4Q", 0x40000000, 0x200000, 0x50000000, 0x400000), keep=False)
    spans = {"linux,kho-fdt": (root, 4096), "linux,kho-scratch": (scratch, 32)}
    chosen = Node("chosen", {label: struct.pack(">QQ", *span) for label, span in spans.items()})
    image.alloc(fdt(Node("", {"#address-cells": b"\0\0\0\2", "#size-cells": b"\0\0\0\2"}, [chosen])), keep=False)
    areas = image.read().handovers[0].scratch
    assert areas is not None
    assert [(area.address, area.size) for area in areas] == [(0x40000000, 0x200000), (0x50000000, 0x400000)]


def test_placeholder_of_a_file_descriptor_is_no_file() -> None:
    image = Image()
    file = Node("0x1a", {"compatible": text("memfd-v1"), "data": u64(0)})
    nodes = [
        Node("file-descriptors", {"compatible": text("file-descriptors-v1")}, [file]),
        Node("subsystems", {"compatible": text("subsystems-v1"), "pci": u64(0)}),
    ]
    tree = image.tree(Node("", {"compatible": text("luo-v1")}, nodes))
    image.handover({"LUO": (tree, None)}, compatible="kho-v1")
    state = image.read()
    luo = state.handovers[0].luo
    assert luo is not None and not luo.serialized and luo.sessions == ()
    assert "bad-pointer" not in codes(state)


def test_map_that_leads_to_itself_only_decides_nothing() -> None:
    image = Image()
    node = image.alloc(keep=False)
    image.put(node, u64(node) * 512)
    image.handover(map_address=node)
    (found,) = image.read().handovers
    assert (found.preserved.status, found.preserved.nodes) == (MapStatus.DAMAGED, (node,))
    assert found.preserved.map is not None
    assert (found.preserved.map.entries, found.preserved.map.complete) == (0, False)


# -- what it may cost --


def shared_tree(image: Image) -> None:
    blob = fdt(Node("", {}, [Node(f"n{number}") for number in range(20000)]))
    place = image.alloc(blob, order=9)
    image.handover({f"s{number}": (place, len(blob)) for number in range(25)})


def folios_of_one_page(image: Image) -> None:
    page = image.alloc(bytes(8) * 512)
    chunks = [image.alloc() for _ in range(300)]
    for chunk, following in zip(chunks, [*chunks[1:], 0], strict=True):
        image.put(chunk, struct.pack("<512Q", following, *[page] * 511))
    info = struct.pack("<QIHH", chunks[0], 1 << 31, 1, 0)
    data = Node("data", {"nr_folios": b"\xff" * 4, "folios_info": info, "csum": bytes(4)})
    tree = image.tree(Node("", {"compatible": text("kho-test-v1"), "magic": b"!OHK"}, [data]))
    image.handover({"kho_test": (tree, 4096)})


def broken_boot_trees(image: Image) -> None:
    """Pages that each claim to be the head of 2 MiB of devicetree with the name of the property in it."""
    image.handover()
    size, words = 2 << 20, b"linux,kho-fdt\0"
    head = struct.pack(">10I", 0xD00DFEED, size, 4096, 200, 40, 17, 16, 0, len(words), size - 4096)
    for _ in range(1000):
        image.alloc(head.ljust(200, b"\0") + words, keep=False)


@pytest.mark.parametrize("build", [shared_tree, folios_of_one_page, broken_boot_trees])
def test_hostile_image_costs_no_more_than_its_bytes(build: Callable[[Image], None]) -> None:
    """A tree is parsed once, a page of a list read once, and the bytes of trees that say nothing are bounded."""
    image = Image(pages=2048)
    build(image)
    memory = Counted(image.open(), most=6 * len(image.data))
    with steps(2_000_000):
        luoser.read(memory)


def test_star_in_hex_text_cannot_ask_for_more_than_a_list_has() -> None:
    with pytest.raises(luoser.errors.FormatError):
        parse_hex(b"00000000  " + b"00 " * 16 + b"\n*\n0080000000:\n")


def test_holes_of_a_sparse_image_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(64 << 30)
    if path.stat().st_blocks * 512 >= 64 << 30:
        pytest.skip("this file system has no sparse files")
    with luoser.open(os.fspath(path)) as memory:
        assert sum(segment.stored for segment in memory.segments) == 0
        assert memory.read(1 << 30, 4) == bytes(4)
