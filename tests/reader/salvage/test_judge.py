# SPDX-License-Identifier: MIT
"""Whether there is a thing at an address: one member that no kernel writes is enough to say no."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from luoser.limits import Limits, limited
from luoser.reader.salvage.found import Found
from luoser.reader.salvage.judge import Judge
from luoser.reader.salvage.links import confidence
from luoser.reader.walk import Walk
from luoser.state import Confidence
from tests.images import Image, name, u64
from tests.reader.salvage.made import array, block, file, memfd, session

ENDLESS = 1 << 32


def judged(image: Image, kind: str, address: int, hint: str = "") -> Found | None:
    return Judge(Walk(image.open(), image.page_size)).at(kind, address, hint)


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("no count", lambda image: block(image, [], count=0)),
        ("a count of 2^32", lambda image: block(image, [session("a")], count=ENDLESS)),
        ("a count beyond a block", lambda image: block(image, [session("a")], count=52)),
        ("a count beyond its entries", lambda image: block(image, [session("a")], count=2)),
        ("two of one name", lambda image: block(image, [session("a"), session("a")])),
        ("bytes after the end of a name", lambda image: block(image, [session(b"a\0b")])),
        ("an address without files", lambda image: block(image, [session("a", 0x5000, 0)])),
        ("files without an address", lambda image: block(image, [session("a", 0, 3)])),
        ("an address inside of a page", lambda image: block(image, [session("a", 0x5008, 3)])),
        ("a next block inside of a page", lambda image: block(image, [session("a")], following=0x5010)),
        ("a page of zeros", lambda image: image.alloc()),
    ],
)
def test_what_no_kernel_writes_is_not_a_block_of_sessions(what: str, make: Callable[[Image], int]) -> None:
    image = Image()
    sound = block(image, [session("a"), session("b", 0x5000, 3)])
    address = make(image)
    assert judged(image, "sessions", sound, "kho-block-sessions") is not None
    assert judged(image, "sessions", address, "kho-block-sessions") is None, what


@pytest.mark.parametrize(
    ("what", "entries"),
    [
        ("one token twice", [file(0x5000, 1), file(0x6000, 1)]),
        ("a handler that is not a text", [name(b"\x01\x02", 48) + u64(0x5000) + u64(1)]),
        ("the data of a memfd inside of a page", [file(0x5001, 1)]),
    ],
)
def test_what_no_kernel_writes_is_not_a_block_of_files(what: str, entries: list[bytes]) -> None:
    image = Image()
    sound, other = block(image, [file(0x5000, 1), file(0x6000, 2)]), block(image, entries)
    plain, broken = array(image, [file(0x5000, 1), file(0x6000, 2)]), array(image, entries)
    assert judged(image, "files", sound) is not None is not judged(image, "files", plain)
    assert judged(image, "files", other) is None is judged(image, "files", broken), what


@pytest.mark.parametrize(
    ("what", "offset", "data"),
    [
        ("unknown seals", 16, b"\x40"),
        ("flags", 20, b"\x01"),
        ("more folios than pages", 24, b"\x03"),
        ("2^32 folios", 24, u64(ENDLESS)),
        ("a size of 2^63", 8, u64(1 << 63)),
        ("more pages than its chunk has", 40, b"\x02"),
        ("an array larger than the file needs", 40, struct.pack("<I", 1 << 20)),
        ("an order beyond all blocks", 46, b"\x20"),
        ("an unknown flag of its array", 44, b"\x09"),
        ("bytes after the descriptor", 48, b"\x01"),
    ],
)
def test_what_no_kernel_writes_is_not_a_memfd(what: str, offset: int, data: bytes) -> None:
    image = Image()
    address = memfd(image)
    found = judged(image, "memfd", address)
    assert found is not None
    assert (found.layout, found.fits, len(found.inside)) == ("memfd-v2", 1, 2)
    image.put(address + offset, data)
    assert judged(image, "memfd", address) is None, what


@pytest.mark.parametrize(
    ("what", "offset", "data"),
    [
        ("an index twice", 8, u64(1)),
        ("an index beyond the size", 24, u64(2)),
        ("an unknown flag", 7, b"\xff"),
        ("one folio twice", 0, None),
        ("a hole", 0, u64(0)),
    ],
)
def test_folios_that_are_not_those_of_a_file(what: str, offset: int, data: bytes | None) -> None:
    image = Image()
    address = memfd(image)
    found = judged(image, "memfd", address)
    assert found is not None
    page = found.inside[1]
    image.put(page + offset, image.data[page + 16 : page + 24] if data is None else data)
    assert judged(image, "memfd", address) is None, what


@pytest.mark.parametrize("size", [1 << 27, 1 << 40])
def test_folios_that_end_before_the_size_are_doubted(size: int) -> None:
    """A kernel preserves all pages of a file: one bit of its size is wrong."""
    image = Image()
    whole, flipped = (judged(image, "memfd", memfd(image, size=one)) for one in (2 * image.page_size, size))
    assert whole is not None is not flipped
    assert (whole.against, len(flipped.against)) == ([], 1) and "ends before its size" in flipped.against[0]
    assert (whole.is_whole, flipped.is_whole) == (True, False)
    for one in (whole, flipped):
        one.led_from.append(0x1000)
    assert (confidence(whole), confidence(flipped)) == (Confidence.HIGH, Confidence.MEDIUM)


@pytest.mark.parametrize(
    ("told", "place", "data"),
    [
        ("its position is after its end", 0, u64(2 * 4096)),
        ("bytes after its end, in its last page, are not zero", -2 * 4096 - 1, b"x"),
        ("bytes after the last entry of its array are not zero", -2 * 4096 + 40, b"x"),
        ("more chunks follow than its array needs", -4096, u64(0x1000)),
        ("its array has not the flag of a vmalloc area", 44, b"\2"),
    ],
)
def test_what_a_kernel_does_not_leave_in_a_memfd_is_against_it(told: str, place: int, data: bytes) -> None:
    image = Image()
    address = memfd(image, size=2 * 4096 - 8)
    found = judged(image, "memfd", address)
    assert found is not None and found.against == []
    image.put(address + place, data)
    found = judged(image, "memfd", address)
    assert found is not None and found.is_whole
    assert [text for text in found.against if told in text] == found.against != []


@pytest.mark.parametrize(
    ("told", "entries"),
    [
        ("handler memfd-v9 is not known: a bit of it may be wrong", [file(0x5000, 1), file(0x6000, 2, "memfd-v9")]),
        ("handler a is not known and 1 more", [file(0x5000, 1, "a"), file(0x6000, 2, "b"), file(0x7000, 3)]),
    ],
)
def test_unknown_handlers_are_against_a_block_of_files(told: str, entries: list[bytes]) -> None:
    image = Image()
    found = judged(image, "files", block(image, entries))
    assert found is not None
    assert any(told in text for text in found.against)


def test_a_test_flb_without_its_magic_is_against_a_page_of_flbs() -> None:
    image = Image()
    for number, expected in ((0, []), (1, ["data of liveupdate-test-flb-v1 is not the magic of that test FLB"])):
        entry = name(f"liveupdate-test-flb-v{number}", 48) + u64(0xFEEDF00DCAFEBEE0) + u64(1)
        found = judged(image, "flbs", image.alloc(struct.pack("<QQ", 1, 1) + entry))
        assert found is not None and found.against == expected
    none = name("liveupdate-test-flb-v0", 48) + u64(0xFEEDF00DCAFEBEE0) + u64(0)
    assert judged(image, "flbs", image.alloc(struct.pack("<QQ", 1, 1) + none)) is None


def test_first_form_of_memfds_and_an_array_that_is_gone() -> None:
    image = Image()
    first = judged(image, "memfd", memfd(image, version=1))
    assert first is not None
    assert first.layout == "memfd-v1"
    address = memfd(image)
    image.put(address + 32, u64(1 << 40))
    lost = judged(image, "memfd", address)
    assert lost is not None
    assert (lost.fits, lost.against) == (0, ["its array of folios is not whole in this source"])


def test_an_empty_file_is_one_only_where_a_handler_leads() -> None:
    image = Image()
    address = image.alloc(struct.pack("<QQII", 0x1234, 0, 1, 0) + bytes(24))
    assert judged(image, "memfd", address) is None
    found = judged(image, "memfd", address, "memfd-v2")
    assert found is not None
    assert (found.count, found.fits) == (0, 0)
    other = image.alloc(bytes(128) + u64(0) + u64(0x2000) + bytes(32))
    assert judged(image, "memfd", other, "memfd") is None  # feature bits, and none that is supported


def test_of_a_device_list_the_bytes_in_use_end_with_the_last_device() -> None:
    image = Image()
    devices = b"".join(struct.pack("<IIQ", 0x100 + number, 1, 0) for number in range(3))
    sound = image.alloc(struct.pack("<II", 3, 0) + devices)
    longer = image.alloc(struct.pack("<II", 3, 0) + devices + bytes(9) + b"x")
    alone = image.alloc(struct.pack("<II", 1, 0) + devices[:16])
    found = judged(image, "devices", sound)
    assert found is not None
    assert (found.layout, found.count) == ("pci-lu-v2-03", 3)
    assert judged(image, "devices", longer) is None is judged(image, "devices", alone)


def test_a_device_list_with_a_broken_chain_is_none() -> None:
    image = Image()
    records = image.blocks([struct.pack("<IHH", 0, bus << 8, 1) for bus in range(1, 4)])
    address = image.alloc(struct.pack("<II", 2, 3) + u64(records))
    found = judged(image, "devices", address, "pci")
    assert found is not None and found.against == []
    image.put(records, u64(records))
    assert judged(image, "devices", address, "pci") is None


def test_pages_tried_as_a_device_list_are_bounded() -> None:
    image = Image()
    places = [image.alloc(struct.pack("<QQ", 2, 2) + struct.pack("<HHHH", 0, 8, 0, one + 9)) for one in range(5)]
    with limited(Limits(salvage_lists=3)):
        judge = Judge(Walk(image.open(), 4096))
        assert [judge.at("devices", place) is not None for place in places] == [True] * 3 + [False] * 2
        assert judge.has_many_lists


def test_bytes_that_are_judged_are_bounded() -> None:
    image = Image(pages=64)
    address = block(image, [session("a"), session("b")])
    with limited(Limits(salvage_judged=4096)):
        judge = Judge(Walk(image.open(), 4096))
        tried = sum(judge.at("sessions", address, "kho-block-sessions") is not None for _ in range(1000))
        assert tried == 1 + 64
        assert judge.is_spent
