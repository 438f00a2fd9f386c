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

import luoser
from luoser.errors import LuoserError, MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, Limits, limited
from luoser.memory.avml import AvmlMemory
from luoser.memory.snappy import decompress_chunk
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


def checksum(data: bytes) -> bytes:
    """Masked CRC-32C, as a snappy stream of these bytes has it."""
    assert 0 < len(data) <= 65536
    return bytes(cramjam.snappy.compress(data))[14:18]


def packed(data: bytes) -> bytes:
    return chunk(0, checksum(data) + bytes(cramjam.snappy.compress_raw(data)))


def stored(data: bytes) -> bytes:
    return chunk(1, checksum(data) + data)


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


def test_prefix_over_two_chunks_is_found(open_files: Opened) -> None:
    data = page(1) + page(2)
    memory = open_files(one(0, len(data), stored(data[: PAGE + 2]), stored(data[PAGE + 2 :])))
    assert list(memory.find_pages(b"MAGI")) == [0, PAGE]
    assert list(memory.find(b"MAGI0002")) == [PAGE]


@pytest.mark.parametrize("size", [1, 3, 100, 1000, PAGE - 1])
def test_ranges_smaller_than_a_page_are_scanned_as_one(open_files: Opened, size: int) -> None:
    data = page(1) + page(2)
    spans = [(0x5000 + place, data[place : place + size]) for place in range(0, len(data), size)]
    memory = open_files(avml(spans[::-1]))
    assert memory.read(0x5000, len(data)) == data
    assert list(memory.find_pages(b"MAGI")) == [0x5000, 0x6000]
    assert list(memory.find_pages(b"0002", at=4)) == [0x6000]
    assert list(memory.find(b"MAGI")) == [0x5000, 0x6000]
    assert memory.remarks == []


def test_page_whose_start_is_not_there_is_not_found(open_files: Opened) -> None:
    memory = open_files(avml([(0x1100, page(1)[0x100:] + page(2))]))
    assert list(memory.find_pages(page(1)[0x200:0x210], at=0x200)) == []
    assert list(memory.find_pages(b"MAGI")) == [0x2000]


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


def test_file_that_ends_inside_of_a_header_says_so(open_files: Opened) -> None:
    memory = open_files(avml(SPANS[:1]) + avml(SPANS[1:])[:20])
    (remark,) = memory.remarks
    assert "truncated" in remark and f"{len(avml(SPANS[:1])):#x}" in remark


@pytest.mark.parametrize("size", [4, 31])
def test_less_than_a_header_is_refused(open_files: Opened, size: int) -> None:
    with pytest.raises(SourceError, match=rf"expected 32 bytes, found {size}$"):
        open_files(WHOLE[:size])


@pytest.mark.parametrize("left", [0, 7])
def test_file_that_ends_before_the_length_of_a_stream_says_so(open_files: Opened, left: int) -> None:
    memory = open_files(avml([(0, page(1))])[: left - 8])
    assert memory.read(0, PAGE) == page(1)
    assert any("truncated" in remark for remark in memory.remarks)


def test_wrong_length_behind_a_stream_is_told(open_files: Opened) -> None:
    memory = open_files(avml([(0, page(1))])[:-8] + struct.pack("<Q", 77) + avml([(0x5000, page(2))]))
    assert (memory.read(0, PAGE), memory.read(0x5000, PAGE)) == (page(1), page(2))
    assert any("0x4d" in remark for remark in memory.remarks)


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


def test_chunk_with_a_wrong_checksum_is_told(open_files: Opened) -> None:
    data = bytearray(avml([(0, NOISE)]))
    data[-100] ^= 0xFF
    memory = open_files(bytes(data))
    with pytest.raises(MissingMemory, match="damaged") as caught:
        memory.read(0, len(NOISE))
    lost = caught.value.address
    assert memory.read(0, lost) == NOISE[:lost]
    assert memory.page_state(lost - 1) is PRESENT
    assert memory.page_state(lost) is caught.value.state is ABSENT
    assert any("checksum" in remark and "offset 0x" in remark for remark in memory.remarks)


@pytest.mark.parametrize("make", [packed, stored])
def test_checksum_of_each_kind_is_looked_at(open_files: Opened, make: Callable[[bytes], bytes]) -> None:
    good = make(page(1))
    memory = open_files(one(0, PAGE, good[:4] + b"\0\0\0\0" + good[8:]) + one(PAGE, PAGE, make(page(2))))
    assert absent_at(memory, 0) == 0
    assert memory.read(PAGE, PAGE) == page(2)
    assert len(memory.remarks) == 1
    absent_at(memory, 5)
    assert len(memory.remarks) == 1, "a damaged chunk is told once"


def test_damage_met_while_reading_is_a_problem_of_the_state(open_files: Opened) -> None:
    """A chunk without a root in it would else be passed over in silence by the search."""
    good = stored(page(1))
    memory = open_files(one(0, PAGE, good[:4] + b"\0\0\0\0" + good[8:]))
    assert memory.remarks == []
    (problem,) = luoser.read(memory).problems
    assert problem.code == "source" and "damaged" in problem.message


def test_damaged_chunk_cut_into_pieces_is_unpacked_once(open_files: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    small = b"".join(one(2 * place, 1, stored(b"x")) for place in range(500))
    bad = packed(NOISE[:65536])
    memory = open_files(small + one(0, 65536, bad[:4] + bytes(4) + bad[8:]))
    assert len(memory.segments) > 900
    calls = list[int]()
    monkeypatch.setattr(
        "luoser.memory.avml.decompress_chunk", lambda data: (calls.append(0), decompress_chunk(data))[1]
    )
    assert list(memory.find_pages(b"MAGI")) == []
    assert len(calls) == 501
    assert sum("damaged" in remark for remark in memory.remarks) == 1


def test_remarks_on_damage_are_bounded(open_files: Opened) -> None:
    bad = b"".join(stored(page(number))[:4] + bytes(4) + page(number) for number in range(100))
    memory = open_files(one(0, 100 * PAGE, bad))
    assert list(memory.find_pages(b"MAGI")) == []
    assert len(memory.remarks) == LIMITS.overlap_remarks + 1


def test_more_ranges_than_are_read_are_told(open_files: Opened) -> None:
    with limited(Limits(elf_headers=2)):
        memory = open_files(b"".join(one(2 * place, 1, stored(b"x")) for place in range(4)))
    assert [segment.start for segment in memory.segments] == [0, 2]
    assert any("more than 2 ranges" in remark and "--limit elf_headers=N" in remark for remark in memory.remarks)


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


def test_chunk_longer_than_its_range_is_cut(open_files: Opened) -> None:
    memory = open_files(one(0, PAGE, stored(page(1) + page(2))) + one(5 * PAGE, PAGE, stored(page(3))))
    assert absent_at(memory, PAGE) == PAGE
    assert (memory.read(0, PAGE), memory.read(5 * PAGE, PAGE)) == (page(1), page(3))
    assert list(memory.find_pages(b"MAGI")) == [0, 5 * PAGE]
    assert any("beyond its range" in remark for remark in memory.remarks)


def test_overlapping_ranges_are_told(open_files: Opened) -> None:
    memory = open_files(one(0x1000, PAGE, stored(page(1))) + one(0, 3 * PAGE, stored(page(2) * 3)))
    assert any("overlap" in remark for remark in memory.remarks)
    assert memory.read(0, 3 * PAGE) == page(2) + page(1) + page(2)
    assert list(memory.find_pages(b"MAGI0001")) == [PAGE]
    assert list(memory.find_pages(b"MAGI0002")) == [0, 2 * PAGE]


spans_of_bytes = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=3000)), min_size=1, max_size=6)


@given(spans=spans_of_bytes, cut=st.integers(1, 2500), pattern=st.binary(min_size=1, max_size=3))
def test_any_ranges_against_a_dictionary_of_bytes(spans: list[tuple[int, bytes]], cut: int, pattern: bytes) -> None:
    """Ranges of any size at any place, in chunks of any size: the first that names a byte gives it."""
    file, model = b"", dict[int, int]()
    for start, data in spans:
        parts = [data[place : place + cut] for place in range(0, len(data), cut)]
        file += one(start, len(data), *((stored, packed)[number % 2](part) for number, part in enumerate(parts)))
        for place, byte in enumerate(data, start):
            model.setdefault(place, byte)
    memory = AvmlMemory("x", file)
    end = max(model) + 1
    flat = bytes(model.get(place, 0) for place in range(end))
    for part in memory.segments:
        assert memory.read(part.start, part.size) == flat[part.start : part.end]
    assert sum(part.size for part in memory.segments) == len(model)
    whole = [place for place in range(end) if all(byte in model for byte in range(place, place + len(pattern)))]
    hits = [place for place in whole if flat.startswith(pattern, place)]
    assert set(memory.find(pattern)) <= set(hits)
    assert bool(hits) == bool(list(memory.find(pattern)))
    pages = [place for place in range(0, end, PAGE) if place in model]
    assert list(memory.find_pages(pattern)) == [place for place in pages if place in hits]


@pytest.mark.parametrize("kind", [stored, packed])
def test_smallest_chunks_cost_little_memory(bounded: Bounded, kind: Callable[[bytes], bytes]) -> None:
    data = kind(b"x") * 12_500
    with bounded(lines=750_000, mib=1):
        memory = AvmlMemory("x", one(0, 12_500, data))
    assert memory.read(12_490, 10) == b"x" * 10


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
