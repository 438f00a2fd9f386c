# SPDX-License-Identifier: MIT
"""Preserved memfds in every form, and folio arrays that are broken."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import luoser
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import to_document
from tests import real
from tests.images import Image, Node, fdt, u64
from tests.reader.helpers import (
    EXAMPLE,
    FROZEN,
    RAM0,
    SEALED,
    as_tuples,
    codes,
    file_of,
    memfd_image,
    memfd_of,
    merged_array,
    problems,
    sound_memfd,
    v2,
)
from tests.work import steps

# -- real dumps --


def test_seals_and_position_are_read() -> None:
    assert (sound_memfd(SEALED).seals, sound_memfd(SEALED).position, sound_memfd(SEALED).size) == (6, 0x1234, 0x10000)


def test_the_form_of_6_19_has_no_seals() -> None:
    memfd = memfd_of(real.read("6.19-a/frozen"), SEALED)
    assert (memfd.layout, memfd.seals, memfd.position) == ("memfd-v1", None, 0x1234)


def test_folios_are_in_the_order_of_the_file() -> None:
    assert [folio.index for folio in sound_memfd(RAM0).folios.list] == list(range(1024))


@pytest.mark.parametrize("name", ["6.19-a/frozen", FROZEN, "7.3-chain/frozen", "7.3-chain/frozen2"])
def test_every_folio_is_preserved(name: str) -> None:
    (handover,) = (entry for entry in real.read(name).handovers if entry.direction == "outgoing")
    assert handover.luo is not None and handover.preserved.map is not None
    for session in handover.luo.sessions:
        for file in session.files:
            assert file.memfd is not None
            assert len(file.memfd.folios.list) == file.memfd.folios.count
            for folio in file.memfd.folios.list:
                assert handover.preserved.map.covers(folio.address, 4096)


@pytest.mark.parametrize(("state", "code"), [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded")])
def test_descriptor_that_is_gone_is_null_with_a_problem(state: PageState, code: str) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(sound_memfd(RAM0).address, state=state)
    found = luoser.read(memory)
    assert file_of(found, RAM0).memfd is None
    assert [problem.address for problem in problems(found, code)] == [sound_memfd(RAM0).address]
    assert memfd_of(found, SEALED) == sound_memfd(SEALED)


def test_text_says_how_many_folios_could_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(sound_memfd(RAM0).folios.pages[2])
    print_state(luoser.read(memory))
    assert "512 of the folios readable" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1 << 32, (1 << 64) - 1, 1025])
def test_more_folios_than_their_array_holds_is_no_descriptor(count: int) -> None:
    """The count is compared with the array before anything is made of it; the sound dump takes 130,000 lines."""
    memory = real.overlay(FROZEN)
    memory.write(sound_memfd(RAM0).address + 24, u64(count))
    with steps(400_000):
        found = luoser.read(memory)
    assert file_of(found, RAM0).memfd is None
    assert str(count) in problems(found, "bad-memfd")[0].message


@pytest.mark.parametrize("junk", [b"#!/bin/busybox sh\n" * 10, b"\xff" * 64])
def test_descriptor_that_was_reused_is_null_with_a_problem(junk: bytes) -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound_memfd(SEALED).address, junk)
    found = luoser.read(memory)
    assert file_of(found, SEALED).memfd is None
    assert problems(found, "bad-memfd")[0].address == sound_memfd(SEALED).address


@pytest.mark.parametrize("data", [0, 0x617001, 1 << 52])
def test_impossible_handle_is_a_problem(data: int) -> None:
    memory = real.overlay(FROZEN)
    where = file_of(real.read(FROZEN), SEALED).address
    assert where is not None
    memory.write(where + 48, u64(data))
    found = luoser.read(memory)
    assert (file_of(found, SEALED).data, file_of(found, SEALED).memfd) == (data, None)
    assert problems(found, "bad-pointer")


def test_contents_of_a_small_file_are_read_when_asked_for() -> None:
    state = luoser.read(real.dump(FROZEN), contents=True)
    pieces = memfd_of(state, SEALED).contents
    assert [piece.address for piece in pieces] == [folio.address for folio in sound_memfd(SEALED).folios.list]
    assert [piece.data for piece in pieces] == [
        f"memfd sealed offset {i:x}000".encode() if i else b"memfd sealed offset 0" for i in range(16)
    ]
    assert memfd_of(state, RAM0).contents == (), "larger than what is shown"
    assert sound_memfd(SEALED).contents == ()


def test_contents_that_are_gone_are_not_shown_as_zeros() -> None:
    memory: Overlay = real.overlay(FROZEN)
    gone = sound_memfd(SEALED).folios.list[3].address
    memory.remove(gone, state=PageState.EXCLUDED)
    state = luoser.read(memory, contents=True)
    assert gone not in [piece.address for piece in memfd_of(state, SEALED).contents]
    assert problems(state, "excluded")[0].address == gone


# -- every form --


def v1(descriptor: bytes, *, folios: int) -> bytes:
    return struct.pack("<QQQ", 0x10, 0x3000, folios) + descriptor


def features(descriptor: bytes, *, folios: int) -> bytes:
    return struct.pack("<QQQ104x", 1, 1, 1) + v2(descriptor, folios=folios)


@pytest.mark.parametrize(
    ("handler", "make", "layout", "seals"),
    [("memfd-v1", v1, "memfd-v1", None), ("memfd-v2", v2, "memfd-v2", 0xF), ("memfd", features, "memfd-features", 0xF)],
)
def test_merged_forms(handler: str, make: Any, layout: str, seals: int | None) -> None:
    image = Image()
    state = memfd_image(image, handler, make(image.vmalloc(merged_array()), folios=4))
    memfd = memfd_of(state, 1)
    assert (memfd.layout, memfd.size, memfd.position, memfd.seals) == (layout, 0x3000, 0x10, seals)
    assert as_tuples(memfd) == EXAMPLE
    assert memfd.folios.count == 4
    assert state.problems == ()


def test_golden_entry_of_the_catalogue() -> None:
    array = bytes.fromhex("f4c61a0000003000" + "0500000000000000")
    image = Image()
    memfd = memfd_of(memfd_image(image, "memfd-v2", v2(image.vmalloc(array), folios=1)), 1)
    assert as_tuples(memfd) == [(0x1AC6F4, 3, 5)]


def test_pre_merge_form_is_a_devicetree_with_the_frame_in_the_high_bits() -> None:
    array = b"".join(struct.pack("<QQ", frame << 12 | flags, index) for frame, flags, index in EXAMPLE)
    assert array[:8] == bytes.fromhex("03406fac01000000")
    tree = fdt(Node("", {"pos": u64(0x10), "size": u64(0x3000), "folios": array}))
    state = memfd_image(Image(), "memfd-v1", tree)
    memfd = memfd_of(state, 1)
    assert (memfd.size, memfd.position, memfd.seals, memfd.folios.count) == (0x3000, 0x10, None, 4)
    assert memfd.layout != "memfd-v1"
    assert as_tuples(memfd) == EXAMPLE
    assert state.problems == ()


@pytest.mark.parametrize("missing", ["pos", "size", "folios"])
def test_pre_merge_devicetree_without_a_property_is_a_problem(missing: str) -> None:
    properties = {"pos": u64(0), "size": u64(0), "folios": b""}
    del properties[missing]
    state = memfd_image(Image(), "memfd-v1", fdt(Node("", properties)))
    assert file_of(state, 1).memfd is None
    assert codes(state) == ["bad-memfd"]


def test_empty_file_has_no_array() -> None:
    state = memfd_image(Image(), "memfd-v2", v2(bytes(16), folios=0, size=0, position=0, seals=1))
    memfd = memfd_of(state, 1)
    assert (memfd.size, memfd.folios.count, memfd.folios.address) == (0, 0, 0)
    assert state.problems == ()


def test_pages_of_64_kib() -> None:
    image = Image(page_size=65536, pages=64)
    state = memfd_image(image, "memfd-v2", v2(image.vmalloc(merged_array()), folios=4))
    assert [folio.address for folio in memfd_of(state, 1).folios.list] == [frame << 16 for frame, _, _ in EXAMPLE]
    assert state.problems == ()


def test_unknown_seals_stay_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    image = Image()
    state = memfd_image(image, "memfd-v2", v2(image.vmalloc(merged_array()), folios=4, seals=0x42))
    print_state(state)
    assert "SHRINK | 0x40" in capsys.readouterr().out
    assert to_document(state)["handovers"][0]["luo"]["sessions"][0]["files"][0]["memfd"]["seals"] == 0x42
