# SPDX-License-Identifier: MIT
"""What things say of each other: copies, look-alikes and cycles are never sure."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Mapping

import pytest

import luoser
from luoser.errors import PageState
from luoser.limits import Limits
from luoser.memory.overlay import Overlay
from luoser.state import Confidence, Salvaged
from tests.images import Image, name, u64
from tests.reader.salvage.made import array, block, by_kind, file, high, luo, memfd, salvaged, session

HIGH, MEDIUM, LOW = Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW


def at(found: object, address: int) -> Confidence:
    return next(one.confidence for one in found if one.address == address)  # type: ignore[attr-defined]


def test_sessions_files_and_memfds_confirm_each_other() -> None:
    image = Image()
    head, blocks, memfds = luo(image)
    found = salvaged(image)
    assert high(found) == {*blocks, *memfds} == {one.address for one in found} - {head}
    (sessions,) = by_kind(found, "sessions")
    assert [entry["name"] for entry in sessions.entries] == ["vm-0", "vm-1"]
    assert sessions.leads_to == tuple(blocks)
    assert all(one.led_from == (head,) for one in by_kind(found, "files"))


def test_what_nothing_points_to_is_sure_only_where_an_intact_map_has_it() -> None:
    """It can be a copy whose original is gone, as in the page cache of who looks at dumps."""
    image = Image()
    head, blocks, memfds = luo(image)
    assert at(salvaged(image), head) is MEDIUM
    copy = image.alloc(bytes(image.data[head : head + 4096]), keep=False)
    image.handover({}, compatible="kho-v4")
    image.put(head, bytes(4096))
    assert at(salvaged(image), copy) is MEDIUM
    image.put(head, bytes(image.data[copy : copy + 4096]))
    image.put(copy, bytes(4096))
    assert high(salvaged(image)) == {head, *blocks, *memfds}


def test_a_pointer_to_what_the_map_does_not_have_is_doubted() -> None:
    image = Image()
    head, _, _ = luo(image)
    image.handover({}, compatible="kho-v4")
    assert at(salvaged(image), head) is HIGH
    image.data[head + 16 + 64 + 2] ^= 0x40  # the files of the first session: far outside of this source
    (one,) = by_kind(salvaged(image), "sessions")
    assert one.confidence is MEDIUM
    assert "against it: 1 of its pointers lead to no block of the map that has it" in one.evidence


def test_a_folio_with_a_wrong_bit_is_seen_where_a_map_is() -> None:
    image = Image()
    one, other = memfd(image), memfd(image)
    block(image, [file(one, 1), file(other, 2)])
    entry = one - 2 * 4096  # the page of its array, before its chunk
    frame = int.from_bytes(image.data[entry : entry + 6], "little")
    image.handover({}, compatible="kho-v4")
    for changed, told in ((frame ^ 0x100, "are not the blocks"), (other // 4096, "is another thing")):
        image.put(entry, changed.to_bytes(6, "little"))
        found = next(thing for thing in salvaged(image) if thing.address == one)
        assert found.confidence is not HIGH
        assert any(told in text for text in found.evidence), told
    image.put(entry, frame.to_bytes(6, "little"))
    assert "folio.pfn" not in next(thing for thing in salvaged(image) if thing.address == one).unconfirmed


def test_two_files_with_one_folio_are_doubted() -> None:
    image = Image()
    one, other = memfd(image), memfd(image)
    block(image, [file(one, 1), file(other, 2)])
    frame = image.data[one - 2 * 4096 : one - 2 * 4096 + 6]
    image.put(other - 2 * 4096, bytes(frame))
    assert [at(salvaged(image), place) for place in (one, other)] == [MEDIUM, MEDIUM]


def test_of_two_files_with_one_folio_the_one_that_the_map_has_is_sure() -> None:
    """The other one is of an earlier live update: its pages were given away."""
    image = Image()
    one, other = memfd(image), memfd(image)
    block(image, [file(one, 1), file(other, 2)])
    image.put(other - 2 * 4096, bytes(image.data[one - 2 * 4096 : one - 2 * 4096 + 6]))
    kept = {one, other, *(page for page, _ in image.kept if page < one)}
    image.kept = [(page, order) for page, order in image.kept if page in kept - {other}]
    image.handover({}, compatible="kho-v4")
    assert [at(salvaged(image), place) for place in (one, other)] == [HIGH, MEDIUM]


def test_a_folio_at_a_block_of_sessions_that_the_map_has_is_doubted() -> None:
    image = Image()
    head, (files, *_), (one, *_) = luo(image)
    image.handover({}, compatible="kho-v4")
    image.put(one - 2 * 4096, (head // 4096).to_bytes(6, "little"))
    found = salvaged(image)
    assert at(found, one) is MEDIUM and at(found, head) is not HIGH and at(found, files) is HIGH


def test_a_chain_that_leaves_the_source_is_doubted() -> None:
    image = Image()
    target = memfd(image)
    first = block(image, [file(target, number) for number in range(63)], following=1 << 40)
    (one,) = (thing for thing in salvaged(image) if thing.address == first)
    assert f"against it: its next block at {1 << 40:#x} is not in this source" in one.evidence


def test_contents_of_a_file_are_not_state_and_a_file_whose_pages_are_state_was_reused() -> None:
    image = Image()
    head, _, _ = luo(image)
    folio = memfd(image) - 4 * 4096
    image.put(folio, bytes(image.data[head : head + 4096]))
    image.put(head, bytes(4096))
    copy = next(one for one in salvaged(image) if one.address == folio)
    assert copy.confidence is LOW
    assert any("it lies in the contents of the memfd" in text for text in copy.evidence)
    image = Image()
    descriptor = memfd(image)
    entry = descriptor - 2 * 4096
    files = block(image, [file(memfd(image), 1), file(memfd(image), 2)])
    block(image, [session("a", files, 2), session("b")])
    image.put(entry, (files // 4096).to_bytes(6, "little"))
    found = salvaged(image)
    assert (at(found, files), at(found, descriptor)) == (HIGH, LOW)


def test_members_that_nothing_repeats_are_named() -> None:
    image = Image()
    head, (files, *_), (one, *_) = luo(image)
    said = {thing.address: thing.unconfirmed for thing in salvaged(image)}
    assert said[head] == ("entries.name",)
    assert said[files] == ("entries.token",)
    assert set(said[one]) > {"fields.pos", "fields.seals", "folio.pfn"}
    image.put(files + 16 + 48, u64(0x7F000000))
    assert "entries.data" in next(thing for thing in salvaged(image) if thing.address == files).unconfirmed


@pytest.mark.parametrize(("token", "is_doubted"), [(62, True), (70, False)])
def test_one_token_in_two_blocks_of_a_chain_is_doubted(token: int, is_doubted: bool) -> None:
    image = Image()
    target = memfd(image)
    second = block(image, [file(target, token)])
    block(image, [file(target, number) for number in range(63)], following=second)
    (place,) = (one for one in salvaged(image) if one.address == second)
    assert any("has one of its names or tokens, too" in text for text in place.evidence) is is_doubted


def test_files_of_a_form_without_blocks() -> None:
    image = Image(pages=1024)
    memfds = [memfd(image, version=1) for _ in range(100)]
    files = array(image, [file(data, token, "memfd-v1") for token, data in enumerate(memfds)])
    area = image.alloc(u64(1) + session("vm", files, 100), order=4)
    found = salvaged(image)
    assert high(found) == {files, *memfds}
    assert {area, *high(found)} == {one.address for one in found}  # the second page is no array
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
    assert {at(found, head), at(found, part)} == {LOW}
    assert any("another one" in text for one in by_kind(found, "sessions") for text in one.evidence)


def test_two_files_with_one_descriptor_are_not_sure() -> None:
    image = Image()
    one, other = memfd(image), memfd(image)
    files = block(image, [file(one, 1), file(other, 2), file(one, 3)])
    found = salvaged(image)
    assert at(found, files) is LOW
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
    image = Image(pages=1024)
    files = [file(memfd(image, 1), token) for token in range(65)]
    second = block(image, files[63:])
    first = block(image, files[:63], following=second)
    head = block(image, [session("a", first, 65)])
    found = salvaged(image)
    assert {first, second} <= high(found)
    assert at(found, head) is MEDIUM
    image.put(first + 8, u64(62))
    image.put(first + 16 + 62 * 64, bytes(64))
    (one,) = [one for one in salvaged(image) if one.address == first]
    assert "against it: another block follows, and it is not full: the kernel fills one after the other" in one.evidence


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


def members(thing: Salvaged) -> dict[str, object]:
    """The members by path, as in `unconfirmed`, with the number of the entry."""
    rows = [("fields", thing.fields), *((f"entries {number}", entry) for number, entry in enumerate(thing.entries))]
    made = dict[str, object]()
    while rows:
        path, values = rows.pop()
        for key, value in values.items():
            if isinstance(value, Mapping):
                rows.append((f"{path}.{key}", value))
            else:
                made[f"{path}.{key}"] = value
    return made


@pytest.mark.parametrize("has_map", [False, True])
def test_one_wrong_bit_is_seen_or_its_member_is_named(has_map: bool) -> None:
    """A bit of each byte of each thing, and of the arrays of files, another one for each byte."""
    image = Image(pages=96)
    built = luoser.build({"layout": "pci-v2-u64", "devices": [{"bdf": f"0000:0{bus}:00.0"} for bus in range(1, 4)]})
    files = block(image, [file(memfd(image, 3, size=3 * 4096 - 100), 1), file(memfd(image, seals=3), 2)])
    block(image, [session("vm", files, 2), session("other")])
    test = name("liveupdate-test-flb-v0", 48) + u64(0xFEEDF00DCAFEBEE0) + u64(1)
    image.alloc(struct.pack("<QQ", 1, 2) + test + name("pci-v2", 48) + u64(image.alloc(built.data)) + u64(1))
    if has_map:
        image.handover({}, compatible="kho-v4")
    before, memory = {one.address: one for one in salvaged(image)}, image.open()
    places = [place for one in before.values() for place in range(one.address, one.address + one.size)]
    places += [page + byte for one in by_kind(before.values(), "memfd") for page in one.leads_to for byte in range(48)]
    for place in places:
        damaged = Overlay(memory)
        damaged.write(place, bytes([memory.read(place, 1)[0] ^ 1 << place % 8]))
        after = [one for one in salvaged(damaged) if one.confidence is HIGH]
        for one in after:
            old, new = members(before[one.address]), members(one)
            wrong = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
            paths = {re.sub(r"^entries \d+", "entries", path) for path in wrong}
            assert all(any(path.startswith(known) for known in one.unconfirmed) for path in paths), (hex(place), paths)
            if place & -4096 in one.leads_to and one.kind == "memfd" and place % 4096 % 16 < 6:
                assert "folio.pfn" in one.unconfirmed, hex(place)
