# SPDX-License-Identifier: MIT
"""LiME dumps: ranges behind headers."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory.lime import LimeMemory
from tests.memory.conftest import Bounded, Opened
from tests.memory.writers import PAGE, lime

PRESENT, ABSENT = PageState.PRESENT, PageState.ABSENT


def page(number: int) -> bytes:
    return b"MAGI%04d" % number + bytes([number % 250 + 1]) * (PAGE - 8)


SPANS = [(0x1000, page(1) + page(2)), (0x100000, page(3) * 3), (1 << 40, page(4))]
WHOLE = lime(SPANS)


def header(first: int, last: int, *, magic: bytes = b"EMiL", version: int = 1) -> bytes:
    return struct.pack("<4sIQQQ", magic, version, first, last, 0)


def test_contents_states_and_segments(open_files: Opened) -> None:
    memory = open_files(WHOLE)
    assert (memory.format, memory.page_size, memory.vmcoreinfo, memory.remarks) == ("lime", None, {}, [])
    assert [(part.start, part.size) for part in memory.segments] == [(start, len(data)) for start, data in SPANS]
    for start, data in SPANS:
        assert memory.read(start, len(data)) == data
        assert memory.page_state(start + len(data) - 1) is PRESENT
        assert memory.page_state(start + len(data)) is ABSENT
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x2000, 0x2000)
    assert (caught.value.address, caught.value.state) == (0x3000, ABSENT)


def test_ranges_in_any_order(open_files: Opened) -> None:
    memory = open_files(lime(SPANS[::-1]))
    assert [part.start for part in memory.segments] == [start for start, _ in SPANS]
    assert all(memory.read(start, len(data)) == data for start, data in SPANS)


def test_range_that_ends_inside_of_a_page(open_files: Opened) -> None:
    memory = open_files(lime([(0, page(1) + b"x" * 0xC00), (0x2000, page(2))]))
    assert memory.read(0x1BFF, 1) == b"x"
    with pytest.raises(MissingMemory):
        memory.read(0x1BFF, 2)


def test_neighbouring_ranges_read_as_one(open_files: Opened) -> None:
    assert open_files(lime([(0, page(1)), (0x1000, page(2))])).read(0xFF0, 0x20) == page(1)[-16:] + page(2)[:16]


def test_overlapping_ranges_are_told(open_files: Opened) -> None:
    memory = open_files(lime([(0x1000, page(1)), (0, page(2) * 3)]))
    assert memory.read(0, 3 * PAGE) == page(2) + page(1) + page(2)
    assert any("overlap" in remark for remark in memory.remarks)


def test_scans(open_files: Opened) -> None:
    memory = open_files(WHOLE)
    assert list(memory.find_pages(b"MAGI")) == [0x1000, 0x2000, 0x100000, 0x101000, 0x102000, 1 << 40]
    assert list(memory.find_pages(b"I0003", at=3)) == [0x100000, 0x101000, 0x102000]
    assert list(memory.find(b"I0004")) == [(1 << 40) + 3]


@pytest.mark.parametrize("packed", [lzma.compress, gzip.compress])
def test_packed_file_is_known_by_content(open_files: Opened, packed: Callable[[bytes], bytes]) -> None:
    memory = open_files(packed(WHOLE))
    assert (memory.format, memory.read(0x2000, PAGE)) == ("lime", page(2))


@pytest.mark.parametrize("cut", [1, 100, PAGE - 1, PAGE])
def test_cut_range_is_read_as_far_as_it_goes(open_files: Opened, cut: int) -> None:
    memory = open_files(lime([(0x1000, page(1) + page(2))])[:-cut])
    held = 2 * PAGE - cut
    assert memory.read(0x1000, held) == (page(1) + page(2))[:held]
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x1000, held + 1)
    assert (caught.value.address, caught.value.state) == (0x1000 + held, ABSENT)
    assert any("truncated" in remark and f"{held:#x}" in remark for remark in memory.remarks)


@pytest.mark.parametrize("left", [1, 16, 31])
def test_file_that_ends_inside_of_a_header_says_so(open_files: Opened, left: int) -> None:
    memory = open_files(lime(SPANS[:1]) + lime(SPANS[1:])[:left])
    assert memory.read(0x1000, PAGE) == page(1)
    (remark,) = memory.remarks
    assert "truncated" in remark and f"{len(lime(SPANS[:1])):#x}" in remark


GARBAGE = {
    "version 2": header(0, 0xFFF, version=2) + page(1),
    "ends before it starts": header(0x2000, 0xFFF) + page(1),
    "another magic behind": lime(SPANS) + header(0x5000000, 0x5000FFF, magic=b"AVML", version=2) + page(1),
    "zeros behind": lime(SPANS) + bytes(64),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused_with_its_place(open_files: Opened, case: str) -> None:
    with pytest.raises(SourceError, match="offset 0x"):
        open_files(GARBAGE[case])


@pytest.mark.parametrize("size", [4, 31])
def test_less_than_a_header_is_refused(open_files: Opened, size: int) -> None:
    with pytest.raises(SourceError, match=rf"expected 32 bytes, found {size}$"):
        open_files(WHOLE[:size])


def test_header_without_memory(open_files: Opened) -> None:
    memory = open_files(WHOLE[:32])
    assert memory.page_state(0x1000) is ABSENT
    assert any("truncated" in remark for remark in memory.remarks)


def test_range_that_starts_inside_of_a_page(open_files: Opened) -> None:
    memory = open_files(lime([(0x1800, b"x" * 0x800 + page(1))]))
    assert memory.read(0x1800, 1) == b"x"
    assert list(memory.find_pages(b"MAGI")) == [0x2000]


def test_more_ranges_than_are_read_are_told() -> None:
    with limited(Limits(elf_headers=2)):
        memory = LimeMemory("x", WHOLE)
    assert [part.start for part in memory.segments] == [0x1000, 0x100000]
    assert any("more than 2 ranges" in remark and "--limit elf_headers=N" in remark for remark in memory.remarks)


@pytest.mark.parametrize("last", [(1 << 64) - 1, (1 << 63) - 1, (1 << 40) - 1])
def test_huge_range_is_quick_and_bounded(open_files: Opened, bounded: Bounded, last: int) -> None:
    with bounded():
        memory = open_files(header(0, last) + page(1))
        assert memory.read(0, PAGE) == page(1)
        assert memory.page_state(PAGE) is ABSENT
        assert list(memory.find_pages(b"MAGI")) == [0]
        with pytest.raises(MissingMemory):
            memory.read(0, 1 << 40)


def test_range_at_the_top_of_the_address_space(open_files: Opened) -> None:
    memory = open_files(lime([((1 << 64) - PAGE, page(1))]))
    assert memory.read((1 << 64) - 8, 8) == page(1)[-8:]


def test_many_ranges_are_not_quadratic(open_files: Opened, bounded: Bounded) -> None:
    with bounded(lines=500_000):  # 28 each
        assert len(open_files(lime((0x2000 * number, b"x") for number in range(5000, 0, -1))).segments) == 5000


def test_range_over_many_others_is_not_quadratic(open_files: Opened, bounded: Bounded) -> None:
    spans = lime((0x2000 * number, b"x") for number in range(800))
    with bounded(lines=300_000):  # 125 for each of the 800
        open_files(spans + header(0, (1 << 40) - 1))


@given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    for content in (b"EMiL\1\0\0\0" + data, lime([(0, b"x")]) + data):
        try:
            memory = LimeMemory("x", content)
        except SourceError as error:
            assert "\n" not in str(error)
        else:
            list(memory.find_pages(b"x"))
