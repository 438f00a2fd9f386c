# SPDX-License-Identifier: MIT
"""Raw images: byte N is physical address N."""

from __future__ import annotations

from pathlib import Path

import pytest

import luoser
from luoser.errors import MissingMemory, PageState, SourceError, UsageError
from luoser.memory.raw import Range, pc_ranges
from luoser.memory.source import Memory
from tests import real

DATA = b"".join(bytes([number]) * 4096 for number in range(1, 9))


@pytest.fixture
def raw(tmp_path: Path) -> Memory:
    file = tmp_path / "image"
    file.write_bytes(DATA)
    return luoser.open(file)


def test_address_is_the_place_in_the_file(raw: Memory) -> None:
    assert raw.read(0, len(DATA)) == DATA
    assert raw.read(0x1FFF, 2) == b"\2\3"
    assert raw.format == "raw"


def test_one_segment_covers_the_file(raw: Memory) -> None:
    assert [(segment.start, segment.end) for segment in raw.segments] == [(0, len(DATA))]
    assert raw.page_state(0) is PageState.PRESENT
    assert raw.page_state(len(DATA)) is PageState.ABSENT


def test_read_beyond_the_end_names_the_first_missing_byte(raw: Memory) -> None:
    with pytest.raises(MissingMemory) as caught:
        raw.read(len(DATA) - 1, 2)
    assert (caught.value.address, caught.value.state) == (len(DATA), PageState.ABSENT)


@pytest.mark.parametrize("address", [-1, -4096])
def test_negative_address_is_missing(raw: Memory, address: int) -> None:
    with pytest.raises(MissingMemory):
        raw.read(address, 1)


def test_nothing_says_the_page_size(raw: Memory) -> None:
    assert (raw.page_size, raw.vmcoreinfo, raw.remarks) == (None, {}, [])


def test_read_of_no_bytes_is_empty(raw: Memory) -> None:
    assert raw.read(0x1000, 0) == b""


def test_find_pages_and_find(raw: Memory) -> None:
    assert list(raw.find_pages(b"\3\3")) == [0x2000]
    assert list(raw.find_pages(b"\3", at=8)) == [0x2000]
    assert list(raw.find(b"\3\4")) == [0x2FFF]


def test_find_pages_by_a_zero_is_refused(raw: Memory) -> None:
    with pytest.raises(SourceError):
        list(raw.find_pages(b"\0abc"))


def test_source_is_closed_with_its_context(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(DATA)
    with luoser.open(file) as memory:
        assert memory.read(0, 1) == b"\1"
    assert memory.path == str(file)


# -- parts that lie elsewhere -----------------------------------------------------------------------------


def placed(tmp_path: Path, *ranges: Range) -> Memory:
    file = tmp_path / "image"
    file.write_bytes(DATA)
    return luoser.open(file, ranges=ranges)


def spans(memory: Memory) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in memory.segments]


def test_base_is_the_address_of_the_first_byte(tmp_path: Path) -> None:
    memory = placed(tmp_path, Range(0x4000_0000, None, 0))
    assert spans(memory) == [(0x4000_0000, 0x4000_8000)]
    assert memory.read(0x4000_1FFF, 2) == b"\2\3"
    assert list(memory.find_pages(b"\3")) == [0x4000_2000]
    assert list(memory.find(b"\3\4")) == [0x4000_2FFF]
    assert memory.page_state(0) is PageState.ABSENT


def test_header_before_the_memory_is_left_out(tmp_path: Path) -> None:
    memory = placed(tmp_path, Range(0, None, 0x1800))
    assert memory.read(0, 0x801) == b"\2" * 0x800 + b"\3"
    assert list(memory.find_pages(b"\3")) == [0x1000]


def test_parts_in_any_order(tmp_path: Path) -> None:
    memory = placed(tmp_path, Range(1 << 32, 0x2000, 0x4000), Range(0x1000, 0x1000, 0))
    assert spans(memory) == [(0x1000, 0x2000), (1 << 32, (1 << 32) + 0x2000)]
    assert memory.read(0x1000, 0x1000) == b"\1" * 4096
    assert memory.read((1 << 32) + 0xFFF, 2) == b"\5\6"
    assert memory.ram == ((0x1000, 0x2000), (1 << 32, (1 << 32) + 0x2000))
    assert memory.remarks == []


def test_bytes_may_lie_at_two_addresses(tmp_path: Path) -> None:
    memory = placed(tmp_path, Range(0, 0x1000, 0), Range(0x8000, 0x1000, 0))
    assert memory.read(0, 1) == memory.read(0x8000, 1) == b"\1"


@pytest.mark.parametrize(
    "ranges",
    [
        (Range(0, 0x2000, 0), Range(0x1FFF, 0x1000, 0x3000)),
        (Range(0x1000, 0x1000, 0), Range(0x1000, 0x1000, 0)),
        (Range(0, None, 0), Range(0x4000, 0x1000, 0)),
        (Range(0x4000, 0x1000, 0), Range(0, None, 0)),
        (Range(0, 0x100000, 0x7000), Range(0x3000, 0x1000, 0)),
    ],
)
def test_parts_that_claim_one_address_are_refused(tmp_path: Path, ranges: tuple[Range, ...]) -> None:
    with pytest.raises(UsageError, match="two parts of the image overlap at address 0x"):
        placed(tmp_path, *ranges)


@pytest.mark.parametrize(
    ("part", "word"),
    [
        (Range(0x5000, 0, 0), "part for address 0x5000 is empty"),
        (Range(0x5000, 0x1000, 0x8000), "begins at byte 0x8000, the image has 0x8000"),
        (Range(0x5000, None, 1 << 63), "begins at byte 0x8000000000000000, the image has 0x8000"),
        (Range(0x5000, None, 0x8000), "begins at byte 0x8000, the image has 0x8000"),
    ],
)
def test_part_without_a_byte_is_refused(tmp_path: Path, part: Range, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        placed(tmp_path, part)


def test_part_longer_than_the_image_is_cut_short_and_says_so(tmp_path: Path) -> None:
    memory = placed(tmp_path, Range(0x10000, 0x9000, 0))
    assert memory.remarks == ["truncated: the last 0x1000 bytes of the part at 0x10000 are missing"]
    assert memory.page_state(0x18000) is PageState.ABSENT
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x17FFF, 2)
    assert (caught.value.address, caught.value.state) == (0x18000, PageState.ABSENT)


def test_place_that_is_refused_changes_nothing(raw: Memory) -> None:
    before = spans(raw)
    with pytest.raises(UsageError):
        raw.place([Range(0, None, 0), Range(0, None, 0)])
    assert spans(raw) == before and raw.remarks == []


def test_sparse_image_keeps_its_holes(tmp_path: Path) -> None:
    file = tmp_path / "image"
    with file.open("wb") as out:
        out.seek(1 << 30)
        out.write(DATA)
        out.truncate(5 << 30)
    memory = luoser.open(file, ranges=pc_ranges(3 << 30))
    assert memory.read(1 << 30, 1) == b"\1"
    assert memory.read((4 << 30) + 5, 3) == bytes(3)
    assert memory.page_state(5 << 30) is PageState.ZERO
    assert memory.page_state(3 << 30) is memory.page_state(6 << 30) is PageState.ABSENT
    assert memory.ram == ((0, 3 << 30), (4 << 30, 6 << 30))
    assert list(memory.find_pages(b"\3")) == [(1 << 30) + 0x2000]


@pytest.mark.parametrize("hole", [0, 1 << 32, 1 << 40])
def test_hole_of_a_pc_is_below_4_gib(hole: int) -> None:
    with pytest.raises(UsageError, match="below 4 GiB"):
        pc_ranges(hole)


def test_hole_beyond_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="part for address 0x100000000 begins at byte 0xc0000000"):
        placed(tmp_path, *pc_ranges(3 << 30))


def test_other_formats_say_themselves_where_their_bytes_are() -> None:
    with pytest.raises(SourceError, match="format elf has physical addresses"):
        luoser.open(real.path("7.3-a/frozen"), ranges=[Range(0, None, 0)])
