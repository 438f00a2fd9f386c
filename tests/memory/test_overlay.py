# SPDX-License-Identifier: MIT
"""The overlay: another source with bytes replaced and pages taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory, PageState
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from tests import real
from tests.images import Image

SIZE = 16 * 4096


@pytest.fixture(scope="module")
def below() -> Memory:
    image = Image(pages=16)
    for page in range(16):
        image.put(page * 4096, b"PAGE" + bytes([page]) * 4092)
    return image.open()


def test_nothing_changed_reads_like_the_source_below() -> None:
    name = "7.3-a/frozen"
    overlay, sound = real.overlay(name), real.dump(name)
    assert (overlay.segments, overlay.page_size, overlay.format) == (sound.segments, sound.page_size, sound.format)
    assert overlay.vmcoreinfo == sound.vmcoreinfo
    for segment in sound.segments:
        assert overlay.read(segment.start, segment.size) == sound.read(segment.start, segment.size)
    assert list(overlay.find_pages(b"\xd0\x0d\xfe\xed")) == list(sound.find_pages(b"\xd0\x0d\xfe\xed"))


def test_write_leaves_the_source_below_alone(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.write(0x1FFE, b"abcd")
    assert overlay.read(0x1FFC, 8) == b"\1\1abcdGE"
    assert below.read(0x1FFC, 8) == b"\1\1\1\1PAGE"


def test_removed_page_raises_with_its_state(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.remove(0x2000, state=PageState.EXCLUDED)
    overlay.remove(0x4000)
    for page, state in ((0x2000, PageState.EXCLUDED), (0x4000, PageState.ABSENT)):
        with pytest.raises(MissingMemory) as caught:
            overlay.read(page - 4, 8)
        assert (caught.value.address, caught.value.state) == (page, state)
        with pytest.raises(MissingMemory) as caught:
            overlay.read(page + 5, 1)
        assert (caught.value.address, caught.value.page) == (page + 5, page)
        assert overlay.page_state(page + 7) is state
    assert overlay.page_state(0x3000) is PageState.PRESENT


def test_remove_takes_every_page_of_a_range(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.remove(0x2FFF, 2)
    assert [overlay.page_state(page) for page in (0x1000, 0x2000, 0x3000, 0x4000)] == [
        PageState.PRESENT, PageState.ABSENT, PageState.ABSENT, PageState.PRESENT,
    ]  # fmt: skip


def test_write_brings_a_removed_page_back(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.remove(0x2000)
    overlay.write(0x2000, b"x")
    assert overlay.read(0x2000, 1) == b"x"


def test_write_where_the_source_has_nothing_makes_a_page_of_zeros(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.write(0x100010, b"x")
    assert overlay.read(0x100000, 0x20) == bytes(16) + b"x" + bytes(15)
    assert overlay.page_state(0x100000) is PageState.PRESENT
    with pytest.raises(MissingMemory):
        overlay.read(0x101000, 1)


def test_segments_show_the_changes(below: Memory) -> None:
    overlay = Overlay(below)
    assert overlay.segments is below.segments
    overlay.write(0x3000, b"x")
    overlay.write(0x100000, b"x")
    overlay.remove(0x5000, state=PageState.EXCLUDED)
    parts = overlay.segments
    assert [(part.start, part.end) for part in parts] == [
        (0, 0x3000), (0x3000, 0x4000), (0x4000, 0x5000), (0x5000, 0x6000), (0x6000, SIZE), (0x100000, 0x101000),
    ]  # fmt: skip
    for part in parts:
        assert (part.stored == part.size) == (overlay.page_state(part.start) is PageState.PRESENT)
    assert parts[3].rest is PageState.EXCLUDED


def test_remarks_that_come_later_are_seen_through_it(below: Memory) -> None:
    overlay = Overlay(below)
    below.remarks.append("damaged")
    assert overlay.remarks == ["damaged"]
    below.remarks.clear()


def test_find_pages_sees_the_changes(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.write(0x3000, b"xxxx")
    overlay.remove(0x5000)
    overlay.write(0x200000, b"PAGE")
    assert list(overlay.find_pages(b"PAGE")) == [p * 4096 for p in range(16) if p not in (3, 5)] + [0x200000]


def test_find_sees_the_changes(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.write(0x3000, b"xxxx")
    overlay.remove(0x5000)
    assert list(overlay.find(b"PAGE")) == [p * 4096 for p in range(16) if p not in (3, 5)]


def test_find_sees_every_match_of_a_changed_page(below: Memory) -> None:
    overlay = Overlay(below)
    overlay.write(0x3100, b"needle")
    overlay.write(0x3200, b"needle")
    assert list(overlay.find(b"needle")) == [0x3100, 0x3200]


changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=6000)),
        st.tuples(st.just("remove"), st.integers(0, SIZE - 1), st.integers(1, 9000)),
    ),
    max_size=6,
)


@given(changes=changes)
def test_any_changes_against_a_dictionary_of_pages(below: Memory, changes: list[tuple[str, int, bytes | int]]) -> None:
    overlay, model = Overlay(below), {page: bytearray(below.read(page * 4096, 4096)) for page in range(16)}
    for what, address, value in changes:
        if isinstance(value, bytes):
            overlay.write(address, value)
            for place, byte in enumerate(value, address):
                model.setdefault(place >> 12, bytearray(below_page(below, place >> 12)))[place & 4095] = byte
        else:
            assert what == "remove"
            overlay.remove(address, value)
            for page in range(address >> 12, (address + value - 1 >> 12) + 1):
                model.pop(page, None)
    for page in range(20):
        if page in model:
            assert overlay.read(page * 4096, 4096) == model[page]
        else:
            with pytest.raises(MissingMemory):
                overlay.read(page * 4096, 1)


def below_page(below: Memory, page: int) -> bytes:
    return below.read(page * 4096, 4096) if page < 16 else bytes(4096)
