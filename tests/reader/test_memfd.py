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
from luoser.state import File, Memfd, State, to_document
from tests import real
from tests.images import Image, Node, fdt, name, text, u32, u64
from tests.reader.helpers import codes, only, problems
from tests.work import steps

FROZEN = "7.3-a/frozen"
RAM0, SEALED = 0x1A, 0x1B
EXAMPLE = [(0x1AC6F4, 3, 0), (0x1AC6F5, 3, 1), (0x1F1D28, 1, 5), (0, 0, 6)]
"""(frame number, flags, index) of four folios, the last a hole."""


def file_of(state: State, token: int) -> File:
    luo = only(state).luo
    assert luo is not None
    return next(file for session in luo.sessions for file in session.files if file.token == token)


def memfd_of(state: State, token: int) -> Memfd:
    memfd = file_of(state, token).memfd
    assert memfd is not None
    return memfd


def sound(token: int) -> Memfd:
    return memfd_of(real.read(FROZEN), token)


def as_tuples(memfd: Memfd) -> list[tuple[int, int, int]]:
    return [(folio.address // 4096, folio.flags, folio.index) for folio in memfd.folios.list]


# -- real dumps --


def test_seals_and_position_are_read() -> None:
    assert (sound(SEALED).seals, sound(SEALED).position, sound(SEALED).size) == (6, 0x1234, 0x10000)


def test_the_form_of_6_19_has_no_seals() -> None:
    memfd = memfd_of(real.read("6.19-a/frozen"), SEALED)
    assert (memfd.layout, memfd.seals, memfd.position) == ("memfd-v1", None, 0x1234)


def test_folios_are_in_the_order_of_the_file() -> None:
    assert [folio.index for folio in sound(RAM0).folios.list] == list(range(1024))


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
    memory.remove(sound(RAM0).address, state=state)
    found = luoser.read(memory)
    assert file_of(found, RAM0).memfd is None
    assert [problem.address for problem in problems(found, code)] == [sound(RAM0).address]
    assert memfd_of(found, SEALED) == sound(SEALED)


@pytest.mark.parametrize(("state", "code"), [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded")])
def test_vmalloc_chunk_that_is_gone_leaves_count_and_no_folios(state: PageState, code: str) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(sound(RAM0).folios.address, state=state)
    found = luoser.read(memory)
    memfd = memfd_of(found, RAM0)
    assert (memfd.size, memfd.folios.count, len(memfd.folios.list)) == (0x400000, 1024, 0)
    assert [problem.address for problem in problems(found, code)] == [sound(RAM0).folios.address]


def test_missing_page_of_the_array_leaves_the_folios_before_it() -> None:
    memory = real.overlay(FROZEN)
    pages = sound(RAM0).folios.pages
    assert len(pages) == 4
    memory.remove(pages[2], state=PageState.EXCLUDED)
    found = luoser.read(memory)
    assert as_tuples(memfd_of(found, RAM0)) == as_tuples(sound(RAM0))[:512]
    assert problems(found, "excluded")[0].address == pages[2]


def test_text_says_how_many_folios_could_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(sound(RAM0).folios.pages[2])
    print_state(luoser.read(memory))
    assert "512 of the folios readable" in capsys.readouterr().out


def test_chunk_that_ends_early_is_a_problem() -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound(RAM0).folios.address + 16, u64(0))
    found = luoser.read(memory)
    assert len(memfd_of(found, RAM0).folios.list) == 256
    assert problems(found, "short-list")


@pytest.mark.parametrize("entry", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_impossible_block_of_the_array_is_a_problem(entry: int) -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound(RAM0).folios.address + 16, u64(entry))
    found = luoser.read(memory)
    assert len(memfd_of(found, RAM0).folios.list) == 256
    assert f"{entry:#x}" in problems(found, "bad-pointer")[0].message


def chunks_of(count: int, image: Image) -> tuple[bytes, list[int]]:
    """A vmalloc descriptor over more than one chunk, and its chunks."""
    descriptor = image.vmalloc(bytes(4096 * count))
    chunk, chunks = int.from_bytes(descriptor[:8], "little"), []
    while chunk:
        chunks.append(chunk)
        chunk = int.from_bytes(image.data[chunk : chunk + 8], "little")
    return descriptor, chunks


def test_chunk_that_leads_back_is_a_problem_with_both_addresses() -> None:
    """With more pages promised than the chain has, a loop would never end."""
    image = Image(pages=1500)
    descriptor, chunks = chunks_of(700, image)
    assert len(chunks) == 2
    image.put(chunks[1], u64(chunks[0]))
    descriptor = descriptor[:8] + u32(0xFFFFFFFF) + descriptor[12:]
    with steps(200_000):
        state = memfd_image(image, "memfd-v2", v2(descriptor, folios=1 << 20))
    (problem,) = problems(state, "loop")
    assert problem.address == chunks[1]
    assert f"{chunks[0]:#x}" in problem.message and f"{chunks[1]:#x}" in problem.message


@pytest.mark.parametrize("count", [1 << 32, (1 << 64) - 1, 1025])
def test_more_folios_than_their_array_holds_is_no_descriptor(count: int) -> None:
    """The count is compared with the array before anything is made of it; the sound dump takes 130,000 lines."""
    memory = real.overlay(FROZEN)
    memory.write(sound(RAM0).address + 24, u64(count))
    with steps(400_000):
        found = luoser.read(memory)
    assert file_of(found, RAM0).memfd is None
    assert str(count) in problems(found, "bad-memfd")[0].message


@pytest.mark.parametrize("junk", [b"#!/bin/busybox sh\n" * 10, b"\xff" * 64])
def test_descriptor_that_was_reused_is_null_with_a_problem(junk: bytes) -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound(SEALED).address, junk)
    found = luoser.read(memory)
    assert file_of(found, SEALED).memfd is None
    assert problems(found, "bad-memfd")[0].address == sound(SEALED).address


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
    assert [piece.address for piece in pieces] == [folio.address for folio in sound(SEALED).folios.list]
    assert [piece.data for piece in pieces] == [
        f"memfd sealed offset {i:x}000".encode() if i else b"memfd sealed offset 0" for i in range(16)
    ]
    assert memfd_of(state, RAM0).contents == (), "larger than what is shown"
    assert sound(SEALED).contents == ()


def test_contents_that_are_gone_are_not_shown_as_zeros() -> None:
    memory: Overlay = real.overlay(FROZEN)
    gone = sound(SEALED).folios.list[3].address
    memory.remove(gone, state=PageState.EXCLUDED)
    state = luoser.read(memory, contents=True)
    assert gone not in [piece.address for piece in memfd_of(state, SEALED).contents]
    assert problems(state, "excluded")[0].address == gone


# -- every form --


def v2(descriptor: bytes, *, folios: int, size: int = 0x3000, position: int = 0x10, seals: int = 0xF) -> bytes:
    return struct.pack("<QQIIQ", position, size, seals, 0, folios) + descriptor


def v1(descriptor: bytes, *, folios: int) -> bytes:
    return struct.pack("<QQQ", 0x10, 0x3000, folios) + descriptor


def features(descriptor: bytes, *, folios: int) -> bytes:
    return struct.pack("<QQQ104x", 1, 1, 1) + v2(descriptor, folios=folios)


def memfd_image(image: Image, handler: str, blob: bytes) -> State:
    """One session `s` with one file, token 1, whose data is a page with these bytes."""
    entry = name(handler, 48) + struct.pack("<QQ", image.alloc(blob), 1)
    session = name("s", 64) + struct.pack("<QQ", image.blocks([entry]), 1)
    blob = struct.pack("<8sQQQ", b"luo-v5", 1, image.blocks([session]), 0)
    image.handover({"LUO": (image.alloc(blob), 32)})
    return image.read()


def merged_array() -> bytes:
    return b"".join(struct.pack("<QQ", frame | flags << 52, index) for frame, flags, index in EXAMPLE)


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


def test_array_over_several_chunks() -> None:
    """511 pages fill a chunk: 512 pages hold 131072 folios."""
    image = Image(pages=700)
    array = b"".join(struct.pack("<QQ", i + 1 | 3 << 52, i) for i in range(512 * 256))
    state = memfd_image(image, "memfd-v2", v2(image.vmalloc(array), folios=512 * 256, size=512 << 20))
    memfd = memfd_of(state, 1)
    assert len(memfd.folios.chunks) == 2
    assert len(memfd.folios.list) == 512 * 256
    assert memfd.folios.list[-1].index == 512 * 256 - 1
    assert state.problems == ()


def test_extra_empty_chunk_behind_a_full_one_is_legal() -> None:
    image = Image(pages=700)
    array = b"".join(struct.pack("<QQ", i + 1 | 3 << 52, i) for i in range(511 * 256))
    descriptor = image.vmalloc(array)
    image.put(int.from_bytes(descriptor[:8], "little"), u64(image.alloc()))
    state = memfd_image(image, "memfd-v2", v2(descriptor, folios=511 * 256, size=511 << 20))
    assert len(memfd_of(state, 1).folios.list) == 511 * 256
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


# -- the KHO self-test, which shares vmalloc --


def kho_test_image(info: bytes, count: int, image: Image | None = None) -> State:
    image = image or Image()
    data = Node("data", {"nr_folios": u32(count), "folios_info": info, "csum": u32(0xABCD)})
    tree = Node("", {"compatible": text("kho-test-v1"), "magic": u32(0x4B484F21)}, [data])
    image.handover({"kho_test": (image.tree(tree), None)}, compatible="kho-v1")
    return image.read()


FOLIOS = [(0x40000000, 0), (0x40002000, 1), (0x40200000, 9), (0x80000000, 10)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_kho_test_of_6_17_has_the_array_itself(count: int) -> None:
    info = b"".join(u64(address | order) for address, order in FOLIOS[:count])
    state = kho_test_image(info, count)
    test = only(state).kho_test
    assert test is not None
    assert (test.magic, test.count, test.checksum) == (0x4B484F21, count, 0xABCD)
    assert list(test.folios) == FOLIOS[:count]
    assert state.problems == ()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_kho_test_since_6_18_has_a_vmalloc_array(count: int) -> None:
    image = Image()
    info = image.vmalloc(b"".join(u64(address | order) for address, order in FOLIOS[:count]))
    state = kho_test_image(info, count, image)
    test = only(state).kho_test
    assert test is not None
    assert list(test.folios) == FOLIOS[:count]
    assert state.problems == ()


def test_kho_test_with_an_array_of_another_length_is_a_problem() -> None:
    state = kho_test_image(u64(0x40000000), 3)
    assert "bad-kho-test" in codes(state)


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith("/frozen")])
def test_kho_test_of_real_dumps_names_preserved_folios(name: str) -> None:
    handover = only(real.read(name))
    assert handover.kho_test is not None and handover.preserved.map is not None
    assert len(handover.kho_test.folios) == handover.kho_test.count > 0
    for address, order in handover.kho_test.folios:
        block = handover.preserved.map.find(address)
        assert block is not None and (block.address, block.order) == (address, order)
