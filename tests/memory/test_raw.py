# SPDX-License-Identifier: MIT
"""Raw images: byte N is physical address N."""

from __future__ import annotations

from pathlib import Path

import pytest

import luoser
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory.source import Memory

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
