# SPDX-License-Identifier: MIT
"""AVML dumps, version 2: ranges of snappy frames. Version 1 is LiME's form."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
from collections.abc import Callable

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import LuoserError, MissingMemory, PageState, SourceError
from luoser.memory.avml import AvmlMemory
from luoser.memory.source import Memory
from tests.memory.conftest import Bounded, Opened
from tests.memory.writers import PAGE, avml

PRESENT, ABSENT = PageState.PRESENT, PageState.ABSENT
IDENTIFIER = b"\xff\x06\0\0sNaPpY"


def page(number: int) -> bytes:
    return b"MAGI%04d" % number + bytes([number % 250 + 1]) * (PAGE - 8)


NOISE = random.Random(1).randbytes(PAGE * 40)  # snappy stores it as it is
SPANS = [
    (0x1000, b"".join(page(number) for number in range(50))),
    (0x100000, NOISE + page(60)),
    (0x400000, bytes(PAGE * 30)),
    (1 << 40, page(61)),
]
WHOLE = avml(SPANS)


def header(first: int, last: int, *, version: int = 2) -> bytes:
    return struct.pack("<4sIQQQ", b"AVML", version, first, last, 0)


def chunk(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(3, "little") + data


def packed(data: bytes) -> bytes:
    return chunk(0, b"\0\0\0\0" + bytes(cramjam.snappy.compress_raw(data)))


def stored(data: bytes) -> bytes:
    return chunk(1, b"\0\0\0\0" + data)


def one(first: int, size: int, *chunks: bytes) -> bytes:
    stream = IDENTIFIER + b"".join(chunks)
    return header(first, first + size - 1) + stream + struct.pack("<Q", len(stream))


def absent_at(memory: Memory, address: int, size: int = 1) -> int:
    with pytest.raises(MissingMemory) as caught:
        memory.read(address, size)
    assert caught.value.state is ABSENT
    return caught.value.address


def test_contents_states_and_segments(open_files: Opened) -> None:
    memory = open_files(WHOLE)
    assert (memory.format, memory.page_size, memory.vmcoreinfo, memory.remarks) == ("avml", None, {}, [])
    assert [(part.start, part.size) for part in memory.segments] == [(start, len(data)) for start, data in SPANS]
    for start, data in SPANS:
        assert memory.read(start, len(data)) == data
        assert memory.read(start + 5, 3) == data[5:8]
        assert memory.page_state(start + len(data) - 1) is PRESENT
        assert memory.page_state(start + len(data)) is ABSENT
    assert absent_at(memory, 0) == 0
    assert absent_at(memory, 0x1000, 60 * PAGE) == 0x1000 + 50 * PAGE


def test_long_ranges_in_blocks(open_files: Opened) -> None:
    memory = open_files(avml(SPANS, most=5 * PAGE))
    for start, data in SPANS:
        assert memory.read(start, len(data)) == data


def test_ranges_in_any_order(open_files: Opened) -> None:
    memory = open_files(avml(SPANS[::-1]))
    assert [part.start for part in memory.segments] == [start for start, _ in SPANS]
    assert all(memory.read(start, len(data)) == data for start, data in SPANS)


def test_chunks_of_every_kind(open_files: Opened) -> None:
    skipped = chunk(0x80, b"skip") + chunk(0xFE, b"padding") + chunk(0xFE, b"") + IDENTIFIER
    data = page(1) + page(2) + page(3)
    memory = open_files(one(0, len(data), skipped, stored(data[:5000]), skipped, packed(data[5000:]), b""))
    assert memory.read(0, len(data)) == data
    assert memory.remarks == []


def test_scans(open_files: Opened) -> None:
    memory = open_files(WHOLE)
    wanted = [0x1000 + number * PAGE for number in range(50)] + [0x100000 + 40 * PAGE, 1 << 40]
    assert list(memory.find_pages(b"MAGI")) == wanted
    assert list(memory.find_pages(b"0061", at=4)) == [1 << 40]
    assert list(memory.find(b"0061")) == [(1 << 40) + 4]


def test_chunks_off_page_bounds_are_scanned_by_pages(open_files: Opened) -> None:
    data = page(1) + page(2) + page(3)
    memory = open_files(one(0, len(data), stored(data[:6000]), packed(data[6000:])))
    assert list(memory.find_pages(b"MAGI")) == [0, PAGE, 2 * PAGE]


@pytest.mark.xfail(strict=True, reason="a prefix is looked for within one chunk only")
def test_prefix_over_two_chunks_is_found(open_files: Opened) -> None:
    data = page(1) + page(2)
    memory = open_files(one(0, len(data), stored(data[: PAGE + 2]), stored(data[PAGE + 2 :])))
    assert list(memory.find_pages(b"MAGI")) == [0, PAGE]


@pytest.mark.parametrize("outer", [lzma.compress, gzip.compress])
def test_packed_file_is_known_by_content(open_files: Opened, outer: Callable[[bytes], bytes]) -> None:
    memory = open_files(outer(WHOLE))
    assert (memory.format, memory.read(1 << 40, PAGE)) == ("avml", page(61))


def test_version_1_is_lime(open_files: Opened) -> None:
    from tests.memory.writers import lime

    assert open_files(lime(SPANS)).format == "lime"


# -- cut and broken files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [10, 200, 5000, 100_000])
def test_cut_file_is_read_as_far_as_it_goes(open_files: Opened, cut: int) -> None:
    data = random.Random(2).randbytes(80 * PAGE)
    memory = open_files(avml([(0x1000, data)])[:-cut])
    (part,) = memory.segments
    assert memory.read(0x1000, part.stored) == data[: part.stored]
    assert part.stored >= len(data) - cut - 65536
    assert absent_at(memory, 0x1000, len(data)) == 0x1000 + part.stored
    assert memory.page_state(0x1000 + part.stored) is ABSENT
    assert any("truncated" in remark and f"{part.stored:#x}" in remark for remark in memory.remarks)


@pytest.mark.xfail(strict=True, reason="what is left of a header is the end of the file")
def test_file_that_ends_inside_of_a_header_says_so(open_files: Opened) -> None:
    memory = open_files(avml(SPANS[:1]) + avml(SPANS[1:])[:20])
    assert any("truncated" in remark for remark in memory.remarks)


@pytest.mark.parametrize(
    "data",
    [b"\x80\x80\x04" + b"\xff" * 30, b"\x80\x80\x04", bytes(cramjam.snappy.compress_raw(NOISE[:65536]))[:-9]],
    ids=["garbage", "no data", "breaks off"],
)
def test_corrupt_chunk_is_missing_and_the_rest_is_there(open_files: Opened, data: bytes) -> None:
    memory = open_files(
        one(0, 3 * 65536, packed(NOISE[:65536]), chunk(0, b"\0\0\0\0" + bytes(data)), stored(page(9) * 16))
    )
    assert memory.read(0, 65536) == NOISE[:65536]
    assert memory.read(2 * 65536, PAGE) == page(9)
    assert absent_at(memory, 65536) == 65536
    assert list(memory.find_pages(b"MAGI")) == [2 * 65536 + number * PAGE for number in range(16)]


@pytest.mark.xfail(strict=True, reason="checksums are not looked at")
def test_chunk_with_a_wrong_checksum_is_told(open_files: Opened) -> None:
    data = bytearray(avml([(0, NOISE)]))
    data[-100] ^= 0xFF
    memory = open_files(bytes(data))
    try:
        assert memory.read(0, len(NOISE)) == NOISE
    except MissingMemory:
        return
    assert memory.remarks


GARBAGE = {
    "version 3": header(0, 0xFFF, version=3),
    "ends before it starts": header(0x2000, 0xFFF) + bytes(100),
    "unknown chunk": one(0, PAGE, chunk(2, b"xxxx"), stored(page(1))),
    "chunk without checksum": one(0, PAGE, chunk(1, b"xx"), stored(page(1))),
    "chunk of 16 MiB": one(0, 1 << 24, chunk(0, b"\0\0\0\0\xff\xff\xff\x07" + bytes(50))),
    "chunk of 4 GiB": one(0, 1 << 24, chunk(0, b"\0\0\0\0\xff\xff\xff\xff\x0f" + bytes(50))),
    "chunk of no number": one(0, 1 << 24, chunk(0, b"\0\0\0\0\xff\xff\xff\xff\xff\xff\xff")),
    "empty chunk": one(0, PAGE, chunk(0, b"\0\0\0\0\0"), stored(page(1))),
    "garbage behind": WHOLE + b"garbage " * 9,
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(open_files: Opened, bounded: Bounded, case: str) -> None:
    with bounded(mib=8), pytest.raises(SourceError) as caught:
        open_files(GARBAGE[case])
    assert "\n" not in str(caught.value)


def test_file_without_cramjam_says_what_to_install(open_files: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    memory = open_files(WHOLE)
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(SourceError, match=r"luoser\[snappy\]"):
        memory.read(0x1000, 1)


@pytest.mark.parametrize("last", [(1 << 64) - 1, (1 << 40) - 1])
def test_huge_range_is_quick_and_bounded(open_files: Opened, bounded: Bounded, last: int) -> None:
    with bounded(mib=8):
        memory = open_files(header(0, last) + IDENTIFIER + stored(page(1)) * 3)
        assert memory.read(0, PAGE) == page(1)
        assert absent_at(memory, 0, 1 << 40) == 3 * PAGE
        assert list(memory.find_pages(b"MAGI")) == [0, PAGE, 2 * PAGE]
        assert memory.remarks


@pytest.mark.xfail(strict=True, reason="the chunk's own size is taken, not what is left of the range")
def test_chunk_longer_than_its_range_is_cut(open_files: Opened) -> None:
    memory = open_files(one(0, PAGE, stored(page(1) + page(2))))
    assert absent_at(memory, PAGE) == PAGE


@pytest.mark.xfail(strict=True, reason="overlaps are neither cut nor told")
def test_overlapping_ranges_are_told(open_files: Opened) -> None:
    memory = open_files(one(0x1000, PAGE, stored(page(1))) + one(0, 3 * PAGE, stored(page(2) * 3)))
    assert any("overlap" in remark for remark in memory.remarks)
    assert memory.read(0, 3 * PAGE) == page(2) + page(1) + page(2)


@given(st.binary(max_size=300), st.integers(1, 1 << 20))
def test_any_chunks_raise_nothing_else(data: bytes, size: int) -> None:
    try:
        memory = AvmlMemory("x", one(0, size, data))
        list(memory.find_pages(b"MAGI"))
        memory.read(0, 100)
    except LuoserError as error:
        assert "\n" not in str(error)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_changed_bytes_raise_nothing_else(flips: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, mask in flips:
        data[place] ^= mask
    try:
        memory = AvmlMemory("x", bytes(data))
    except SourceError:
        return
    for start, content in SPANS:
        try:
            assert len(memory.read(start, len(content))) == len(content)
        except MissingMemory:
            continue
    list(memory.find_pages(b"MAGI"))
