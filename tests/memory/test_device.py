# SPDX-License-Identifier: MIT
"""Memory behind a descriptor, block by block: pages that cannot be read, searches across blocks and segments."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory.device import DeviceMemory
from luoser.memory.source import Segment

PAGE = 4096
BLOCK = 1 << 16


class Device(DeviceMemory):
    """A file as a device: pages in `lost` cannot be read, `most` bytes come at once, each read is counted."""

    format = "test"

    def __init__(
        self, file: Path, *segments: tuple[int, int, int], lost: tuple[int, ...] = (), most: int = 1 << 30
    ) -> None:
        super().__init__(str(file), os.open(file, os.O_RDONLY))
        self._segments = tuple(Segment(start, size, offset, size) for start, size, offset in segments)
        self.lost, self.most, self.reads = lost, most, 0

    def _pread(self, offset: int, size: int) -> bytes:
        self.reads += 1
        first = next((page for page in sorted(self.lost) if page + PAGE > offset), offset + size)
        return super()._pread(offset, min(size, self.most, max(0, first - offset)))


SIZE = 3 * BLOCK


@pytest.fixture(scope="module")
def noise() -> bytes:
    return random.Random(3).randbytes(SIZE)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luoser.memory.device._BLOCK", BLOCK)


@pytest.fixture
def data(noise: bytes) -> bytearray:
    return bytearray(noise)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "device"


def device(file: Path, data: bytes, *segments: tuple[int, int, int], **options: object) -> Device:
    file.write_bytes(data)
    return Device(file, *(segments or ((0, len(data), 0),)), **options)  # type: ignore[arg-type]


def offsets(data: bytes, pattern: bytes) -> Iterator[int]:
    place = data.find(pattern)
    while place >= 0:
        yield place
        place = data.find(pattern, place + 1)


# -- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1 << 30, 1 << 15, 5000, 7])
def test_read_gives_all_bytes_however_many_come_at_once(file: Path, data: bytearray, most: int) -> None:
    with device(file, data[: 1 << 16], most=most) as memory:
        assert memory.read(0, 1 << 16) == data[: 1 << 16]
        assert memory.read(0x1FFF, 0x2002) == data[0x1FFF:0x4001]
        assert memory.read(0x100, 0) == b""


def test_segment_lies_where_it_says(file: Path, data: bytearray) -> None:
    memory = device(file, data, (0x1000, 0x2000, 0x5000), (1 << 40, 0x1000, 0))
    assert memory.read(0x1000, 0x2000) == data[0x5000:0x7000]
    assert memory.read(1 << 40, 8) == data[:8]
    for address in (0, 0xFFF, 0x3000, (1 << 40) - 1, (1 << 40) + 0x1000, -1, 1 << 64):
        assert memory.page_state(address) is PageState.ABSENT
        with pytest.raises(MissingMemory) as caught:
            memory.read(address, 1)
        assert (caught.value.address, caught.value.state) == (address, PageState.ABSENT)


def test_neighbouring_segments_are_read_as_one(file: Path, data: bytearray) -> None:
    memory = device(file, data, (0x1000, 0x1000, 0x5000), (0x2000, 0x1000, 0))
    assert memory.read(0x1800, 0x1000) == data[0x5800:0x6000] + data[:0x800]


@pytest.mark.parametrize("most", [1 << 30, 100])
def test_page_that_cannot_be_read_is_excluded(file: Path, data: bytearray, most: int) -> None:
    memory = device(file, data[: 1 << 16], lost=(0x3000,), most=most)
    assert memory.page_state(0x3FFF) is PageState.EXCLUDED
    assert memory.page_state(0x2FFF) is memory.page_state(0x4000) is PageState.PRESENT
    assert memory.read(0x1000, 0x2000) == data[0x1000:0x3000]
    assert memory.read(0x4000, 0x1000) == data[0x4000:0x5000]
    for start, size in ((0x2FF0, 0x20), (0x3000, 1), (0, 1 << 16)):
        with pytest.raises(MissingMemory) as caught:
            memory.read(start, size)
        assert (caught.value.address, caught.value.state) == (0x3000, PageState.EXCLUDED)


def test_device_that_ends_early(file: Path, data: bytearray) -> None:
    """As when memory is taken away while it is read."""
    memory = device(file, data[:0x2800], (0, 0x4000, 0))
    assert memory.read(0, 0x2800) == data[:0x2800]
    with pytest.raises(MissingMemory) as caught:
        memory.read(0, 0x4000)
    assert (caught.value.address, caught.value.state) == (0x2800, PageState.EXCLUDED)
    assert [address for address, _ in memory._blocks()] == [0]


def test_closed_device_has_no_memory(file: Path, data: bytearray) -> None:
    memory = device(file, data[:PAGE])
    memory.close()
    memory.close()
    with pytest.raises(MissingMemory):
        memory.read(0, 1)


# -- searching ------------------------------------------------------------------------------------------------

MARK = b"\xd0\x0d\xfe\xed-mark"


def marked(data: bytearray, *places: int) -> bytearray:
    for place in places:
        data[place : place + len(MARK)] = MARK
    return data


@pytest.mark.parametrize("shift", range(len(MARK) + 1))
def test_pattern_across_two_blocks_is_found(file: Path, data: bytearray, shift: int) -> None:
    place = BLOCK - shift
    assert list(device(file, marked(data, place)).find(MARK)) == [place]


def test_every_match_is_found_once(file: Path, data: bytearray) -> None:
    places = [0, 1000, BLOCK - len(MARK), BLOCK, BLOCK + 4, 2 * BLOCK - 3, len(data) - len(MARK)]
    memory = device(file, marked(data, *places))
    assert list(memory.find(MARK)) == list(offsets(bytes(data), MARK))
    for pattern in (b"\0", b"\xab\xcd", data[BLOCK - 20 : BLOCK + 20]):
        assert list(memory.find(bytes(pattern))) == list(offsets(bytes(data), bytes(pattern)))


def test_pattern_across_neighbouring_segments_is_found(file: Path, data: bytearray) -> None:
    memory = device(file, marked(data, 0x5FFC), (0x1000, 0x1000, 0x5000), (0x2000, 0x1000, 0x6000))
    assert list(memory.find(MARK)) == [0x1FFC]


def test_pattern_is_not_put_together_across_a_gap(file: Path, data: bytearray) -> None:
    memory = device(file, marked(data, 0x5FFC), (0x1000, 0x1000, 0x5000), (0x3000, 0x1000, 0x6000))
    assert list(memory.find(MARK)) == []


def test_pattern_is_not_put_together_across_a_lost_page(file: Path, data: bytearray) -> None:
    marked(data, 0x2FFC)
    data[0x4000:0x4004] = MARK[4:8]
    assert list(device(file, data, lost=(0x3000,)).find(MARK)) == []


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_pattern_across_several_short_segments(file: Path, data: bytearray, size: int) -> None:
    """Segments that are shorter than the pattern, one behind the other."""
    marked(data, 3)
    segments = [(start, size, start) for start in range(0, 40, size)]
    assert list(device(file, data, *segments).find(MARK)) == [3]


@pytest.mark.parametrize("start", [0, 0x1000, 0x234, 0xFFFF])
def test_find_pages_counts_in_addresses(file: Path, data: bytearray, start: int) -> None:
    first = -start % PAGE
    places = [first, first + PAGE, first + BLOCK - PAGE, first + BLOCK, first + BLOCK + 9, first + 2 * BLOCK + 7 * PAGE]
    memory = device(file, marked(data, *places), (start, len(data), 0))
    assert list(memory.find_pages(MARK)) == [start + place for place in places if (start + place) % PAGE == 0]


def test_find_pages_with_the_prefix_further_in(file: Path, data: bytearray) -> None:
    memory = device(file, marked(data, 0x3008, 0x5009, BLOCK + 8))
    assert list(memory.find_pages(MARK, at=8)) == [0x3000, BLOCK]


def test_search_goes_on_behind_lost_pages(file: Path, data: bytearray) -> None:
    lost = (0, 0x3000, 0x4000, BLOCK - PAGE, BLOCK, 2 * BLOCK)
    places = [0x1000, 0x3000, 0x5000, BLOCK - 2 * PAGE, BLOCK, BLOCK + PAGE, 2 * BLOCK + PAGE]
    memory = device(file, marked(data, *places), lost=lost)
    found = [place for place in places if place not in lost]
    assert list(memory.find_pages(MARK)) == found
    assert list(memory.find(MARK)) == found


def test_find_pages_by_a_zero_is_refused(file: Path, data: bytearray) -> None:
    memory = device(file, data[:PAGE])
    for prefix in (b"", b"\0abc"):
        with pytest.raises(SourceError):
            list(memory.find_pages(prefix))


def test_search_reads_large_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    file.write_bytes(b"")
    os.truncate(file, 64 << 20)
    memory = Device(file, (0x1000, 64 << 20, 0))
    assert list(memory.find_pages(MARK)) == []
    assert memory.reads <= 32


# -- how far it is ----------------------------------------------------------------------------------------------


def test_progress_grows_and_comes_to_an_end(file: Path, data: bytearray) -> None:
    memory = device(file, data, (0, 5 << 14, 0), (1 << 30, 7 << 14, 5 << 14), lost=(0x3000,))
    said: list[tuple[int, int]] = []
    memory.on_progress = lambda done, total: said.append((done, total))
    list(memory.find_pages(MARK))
    assert said == sorted(said) and said[-1] == (SIZE, SIZE)
    assert len(said) > 3 and {total for _, total in said} == {SIZE}


def test_progress_of_a_search_that_is_given_up_ends_too(file: Path, data: bytearray) -> None:
    memory = device(file, marked(data, 0x1000))
    said: list[tuple[int, int]] = []
    memory.on_progress = lambda done, total: said.append((done, total))
    search = memory.find_pages(MARK)
    assert next(search) == 0x1000
    del search
    assert said[-1] == (SIZE, SIZE)
