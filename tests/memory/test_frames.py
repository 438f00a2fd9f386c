# SPDX-License-Identifier: MIT
"""Bitmaps of page frames, against counting bit by bit."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.memory.flattened import Flattened
from luoser.memory.frames import FrameBitmap
from tests.memory.conftest import Bounded
from tests.memory.writers import FLAT_HEADER

HEAD = 100
BLOCK = 32768
"""Frames of one block of the index."""
frames_near = st.integers(0, 3 * BLOCK) | st.sampled_from([0, 7, 8, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK])


def bits(frames: set[int], size: int) -> bytes:
    out = bytearray(-(-size // 8))
    for frame in frames:
        out[frame >> 3] |= 1 << (frame & 7)
    return bytes(HEAD) + bytes(out)


def merged(bitmap: FrameBitmap, first: int, last: int) -> list[int]:
    return [frame for start, count in bitmap.runs(first, last) for frame in range(start, start + count)]


@given(frames=st.sets(frames_near, max_size=30), size=frames_near, asked=st.lists(frames_near, min_size=2, max_size=5))
def test_all_answers_are_those_of_a_set(frames: set[int], size: int, asked: list[int]) -> None:
    """The file holds bits beyond the size that is asked for: they do not count."""
    bitmap = FrameBitmap(bits(frames, 3 * BLOCK + 1), HEAD, size)
    own = sorted(frame for frame in frames if frame < size)
    assert (bitmap.size, bitmap.count) == (size, len(own))
    assert [bitmap.frame_of(rank) for rank in range(len(own))] == own
    for frame in asked:
        assert (frame in bitmap) == (frame in own)
        assert bitmap.rank(frame) == sum(known < frame for known in own)
    first, last = sorted(asked[:2])
    assert merged(bitmap, first, last) == [frame for frame in own if first <= frame < last]


@given(frames=st.sets(frames_near, max_size=30), cut=st.integers(0, 3 * BLOCK // 8 + 1))
def test_bits_that_a_cut_file_lost_are_not_known(frames: set[int], cut: int) -> None:
    bitmap = FrameBitmap(bits(frames, 3 * BLOCK + 1)[: HEAD + cut], HEAD, 3 * BLOCK + 1)
    assert bitmap.size == min(8 * cut, 3 * BLOCK + 1)
    assert merged(bitmap, 0, 4 * BLOCK) == sorted(frame for frame in frames if frame < bitmap.size)
    assert bitmap.rank(4 * BLOCK) == bitmap.count


def test_a_bitmap_beyond_the_file_knows_nothing() -> None:
    bitmap = FrameBitmap(bytes(10), 1 << 40, 1 << 30)
    assert (bitmap.size, bitmap.count, 0 in bitmap, list(bitmap.runs())) == (0, 0, False, [])


def flat(*pieces: tuple[int, bytes], end: bool = True) -> Flattened:
    records = b"".join(struct.pack(">qq", offset, len(data)) + data for offset, data in pieces)
    return Flattened("x", FLAT_HEADER.ljust(4096, b"\0") + records + (struct.pack(">qq", -1, -1) if end else b""))


def test_gaps_of_a_flattened_file_cost_nothing(bounded: Bounded) -> None:
    """4 GiB of bits, of which two are stored."""
    with bounded(mib=1):
        bitmap = FrameBitmap(flat((0, b"\1"), ((4 << 30) - 1, b"\x80")), 0, 8 * (4 << 30))
        assert list(bitmap.runs()) == [(0, 1), (8 * (4 << 30) - 1, 1)]
        assert bitmap.rank(8 * (4 << 30) - 1) == 1
        assert bitmap.frame_of(1) == 8 * (4 << 30) - 1


def test_bits_behind_a_lost_piece_are_not_known() -> None:
    pieces = (0, b"\xff" * 16), (32, b"\xff" * 16)
    assert FrameBitmap(flat(*pieces), 0, 400).count == 256
    lost = FrameBitmap(flat(*pieces, end=False), 0, 400)
    assert (lost.size, lost.count) == (128, 128)
    assert FrameBitmap(flat((32, b"\xff" * 16), end=False), 0, 400).size == 0


@pytest.mark.parametrize("size", [1, 9, BLOCK, BLOCK + 9])
def test_bitmaps_that_differ_in_one_bit_do_not_agree(size: int) -> None:
    one, other = FrameBitmap(bits({0}, size), HEAD, size), FrameBitmap(bits({0, size - 1}, size), HEAD, size)
    assert one.agrees(one) and one.agrees(other) == other.agrees(one) == (one.count == other.count)


def test_bits_that_one_does_not_know_are_not_compared() -> None:
    whole = FrameBitmap(bits({3, 70}, 100), HEAD, 100)
    cut = FrameBitmap(bits({3}, 100)[: HEAD + 8], HEAD, 100)
    assert cut.size == 64 and whole.agrees(cut) and cut.agrees(whole)
