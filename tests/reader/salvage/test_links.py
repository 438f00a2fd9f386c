# SPDX-License-Identifier: MIT
"""What things say of each other: copies, look-alikes and cycles are never sure."""

from __future__ import annotations

import struct
import time

from luoser.errors import PageState
from luoser.limits import Limits
from luoser.memory.overlay import Overlay
from luoser.state import Confidence
from tests.images import Image, u64
from tests.reader.salvage.made import array, block, by_kind, file, high, luo, memfd, salvaged, session

HIGH, MEDIUM, LOW = Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW


def at(found: object, address: int) -> Confidence:
    return next(one.confidence for one in found if one.address == address)  # type: ignore[attr-defined]


def test_sessions_files_and_memfds_confirm_each_other() -> None:
    image = Image()
    head, blocks, memfds = luo(image)
    found = salvaged(image)
    assert high(found) == {head, *blocks, *memfds} == {one.address for one in found}
    (sessions,) = by_kind(found, "sessions")
    assert [entry["name"] for entry in sessions.entries] == ["vm-0", "vm-1"]
    assert sessions.leads_to == tuple(blocks)
    assert all(one.led_from == (head,) for one in by_kind(found, "files"))


def test_files_of_a_form_without_blocks() -> None:
    image = Image(pages=1024)
    memfds = [memfd(image, version=1) for _ in range(100)]
    files = array(image, [file(data, token, "memfd-v1") for token, data in enumerate(memfds)])
    area = image.alloc(u64(1) + session("vm", files, 100), order=4)
    found = salvaged(image)
    assert high(found) == {area, files, *memfds} == {one.address for one in found}  # the second page is no array
    assert {one.layout for one in found} == {"luo-session-v2", "luo-file", "memfd-v1"}


def test_a_session_whose_files_are_not_as_many_as_it_says_is_not_sure() -> None:
    image = Image()
    _, (files, *_), _ = luo(image)
    wrong = block(image, [session("a", files, 3), session("b")])
    (one,) = [one for one in by_kind(salvaged(image), "sessions") if one.address == wrong]
    assert one.confidence is LOW
    assert any("are not 3, as their session says" in text for text in one.evidence)


def test_a_whole_copy_makes_neither_sure() -> None:
    image = Image()
    head, blocks, memfds = luo(image)
    copy = image.alloc(bytes(image.data[head : head + 4096]))
    found = salvaged(image)
    assert high(found) == {*blocks, *memfds}
    assert {at(found, head), at(found, copy)} <= {MEDIUM, LOW}
    assert next(one for one in found if one.address == head).copies == (copy,)


def test_a_partial_copy_that_points_to_the_same_files_makes_neither_sure() -> None:
    image = Image()
    head, blocks, memfds = luo(image)
    part = block(image, [session("other", blocks[0], 2), session("more")])
    found = salvaged(image)
    assert high(found) == {*blocks, *memfds}
    assert {at(found, head), at(found, part)} == {MEDIUM}
    assert any("another one" in text for one in by_kind(found, "sessions") for text in one.evidence)


def test_two_files_with_one_descriptor_are_not_sure() -> None:
    image = Image()
    one, other = memfd(image), memfd(image)
    files = block(image, [file(one, 1), file(other, 2), file(one, 3)])
    found = salvaged(image)
    assert at(found, files) is MEDIUM
    assert high(found) == {one, other}


def test_a_page_with_the_shape_of_two_things_is_what_a_pointer_says() -> None:
    image = Image()
    descriptor = memfd(image, seals=0)
    devices = image.alloc(struct.pack("<QQ", 2, 2) + struct.pack("<HHHH", 0, 8, 0, 16))
    block(image, [file(descriptor, 1), file(devices, 2)])
    found = salvaged(image)
    assert {one.kind for one in found if one.address == descriptor} == {"memfd"}
    assert {one.kind for one in found if one.address == devices} <= {"devices"}


def test_a_copy_of_a_descriptor_makes_neither_sure() -> None:
    image = Image()
    one = memfd(image)
    other = image.alloc(bytes(image.data[one : one + 4096]))
    found = salvaged(image)
    assert high(found) == set()
    assert {one.address for one in found} == {one, other}


def test_a_cycle_of_blocks_is_not_sure() -> None:
    image = Image()
    memfds = [memfd(image) for _ in range(4)]
    first = block(image, [file(memfds[0], 0), file(memfds[1], 1)])
    second = block(image, [file(memfds[2], 2), file(memfds[3], 3)], following=first)
    image.put(first, u64(second))
    head = block(image, [session("a", first, 4), session("b", 0, 0)])
    found = salvaged(image)
    assert high(found) == set(memfds)
    assert at(found, first) is at(found, second) is LOW
    assert head not in high(found)


def test_a_chain_of_blocks_is_counted_to_its_end() -> None:
    image = Image()
    memfds = [memfd(image) for _ in range(4)]
    second = block(image, [file(data, token) for token, data in enumerate(memfds[2:])])
    first = block(image, [file(data, token + 9) for token, data in enumerate(memfds[:2])], following=second)
    head = block(image, [session("a", first, 4)])
    assert high(salvaged(image)) == {head, first, second, *memfds}


def test_pages_that_were_reused_count_against_it_and_pages_that_are_absent_do_not() -> None:
    image = Image()
    _, (files, _), memfds = luo(image, files=4)
    memory = Overlay(image.open())
    for address in memfds[1:4]:
        memory.remove(address, state=PageState.EXCLUDED)
    assert files in high(salvaged(memory))
    for address in memfds[1:4]:
        memory.write(address, b"something else" * 100)
    (one,) = [one for one in salvaged(memory) if one.address == files]
    assert one.confidence is LOW
    assert "3 of its pointers lead to something else, as if reused" in one.evidence


def test_pages_without_what_confirms_them_are_not_sure() -> None:
    image = Image()
    block(image, [session("a"), session("b"), session("c")])
    block(image, [file(0x100000, 1), file(0x101000, 2)])
    found = salvaged(image)
    assert high(found) == set()
    assert [(one.kind, one.confidence) for one in found] == [("files", MEDIUM)]


def test_many_blocks_that_all_lead_to_one_thing_cost_little() -> None:
    image = Image(pages=1024)
    target, chain = memfd(image), 0
    entries = [file(target, 1), *(file(0x3000, token) for token in range(2, 63))]
    for _ in range(500):
        chain = block(image, entries, following=chain)
    before = time.process_time()
    found = salvaged(image)
    assert time.process_time() - before < 10
    assert high(found) == {target}
    assert len(by_kind(found, "files")) == 500


def test_things_that_are_found_are_bounded() -> None:
    image = Image()
    luo(image, files=8)
    assert len(salvaged(image, limits=Limits(salvage_found=5))) == 5
