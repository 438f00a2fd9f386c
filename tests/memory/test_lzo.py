# SPDX-License-Identifier: MIT
"""LZO1X streams: those of a writer that uses every instruction, those of liblzo2, and broken ones."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from luoser.errors import FormatError
from luoser.memory.lzo import decompress
from tests.memory.conftest import Bounded
from tests.memory.writers import Kind, LzoWriter, lzo, lzo_literals

BIG = 1 << 20
KINDS: tuple[Kind, ...] = ("M1", "M1b", "M2", "M3", "M4")


def library() -> Any:
    name = ctypes.util.find_library("lzo2")
    if name is None:
        pytest.skip("liblzo2 is not installed")
    return ctypes.CDLL(name)


def by_library(stream: bytes, size: int) -> bytes | None:
    """What liblzo2 unpacks, None where it refuses."""
    out, length = ctypes.create_string_buffer(size), ctypes.c_size_t(size)
    if library().lzo1x_decompress_safe(stream, ctypes.c_size_t(len(stream)), out, ctypes.byref(length), None):
        return None
    return out.raw[: length.value]


def packed_by_library(data: bytes) -> bytes:
    work = ctypes.create_string_buffer(1 << 20)
    out, length = ctypes.create_string_buffer(len(data) * 2 + 1000), ctypes.c_size_t(0)
    assert not library().lzo1x_1_compress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(length), work)
    return out.raw[: length.value]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes without repetition, the same in every run."""
    import random

    return random.Random(seed).randbytes(size)


def assert_unpacks(stream: bytes, data: bytes) -> None:
    assert decompress(stream, BIG) == data
    assert decompress(stream, len(data)) == data


# -- every instruction by itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 18, 19, 237, 238, 239, 272, 273, 274, 528, 529, 4096, 70_000])
def test_literals_only(size: int) -> None:
    data = noise(size)
    assert_unpacks(lzo_literals(data), data)


def test_empty_stream() -> None:
    assert decompress(b"\x11\0\0", BIG) == b""


@pytest.mark.parametrize("size", [4, 5, 17, 18, 19, 273, 274, 4000])
def test_literals_behind_a_match(size: int) -> None:
    writer = LzoWriter()
    writer.literals(noise(20))
    writer.match("M2", 5, 9)
    writer.literals(noise(size, 2))
    assert_unpacks(writer.end(), bytes(writer.out))


EDGES: dict[Kind, tuple[list[int], list[int]]] = {
    "M1": ([2], [1, 2, 4, 5, 1023, 1024]),
    "M1b": ([3], [0x801, 0x802, 0x804, 0x805, 0xBFF, 0xC00]),
    "M2": ([3, 4, 5, 7, 8], [1, 2, 8, 9, 0x7FF, 0x800]),
    "M3": ([3, 4, 32, 33, 34, 288, 289, 290, 5000], [1, 2, 63, 64, 65, 0x3FFF, 0x4000]),
    "M4": ([3, 8, 9, 10, 264, 265, 266, 5000], [0x4001, 0x4002, 0x7FFF, 0x8000, 0x8001, 0xBFFE, 0xBFFF]),
}


@pytest.mark.parametrize("behind", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_match_at_the_edges_of_its_numbers(kind: Kind, behind: int) -> None:
    lengths, distances = EDGES[kind]
    for length in lengths:
        for distance in distances:
            writer = LzoWriter()
            writer.literals(noise(0xC100))
            writer.match("M2", 3, 7)
            writer.literals(noise(2 if kind == "M1" else 6, 3))
            writer.match(kind, length, distance)
            writer.literals(noise(behind, 4))
            assert_unpacks(writer.end(), bytes(writer.out))
            assert by_library(writer.end(), BIG) == bytes(writer.out)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_short_match_right_behind_the_first_literals(first: int) -> None:
    writer = LzoWriter()
    writer.literals(b"abc"[:first])
    writer.match("M1", 2, 1)
    assert_unpacks(writer.end(), bytes(writer.out))


@pytest.mark.parametrize("distance", [1, 2, 3, 7, 100])
def test_overlapping_match_repeats(distance: int) -> None:
    writer = LzoWriter()
    writer.literals(noise(distance + 4))
    writer.match("M3", 3000, distance)
    assert_unpacks(writer.end(), bytes(writer.out))
    assert writer.out[-3000:] == (writer.out[4 : 4 + distance] * 3001)[:3000]


# -- round trips -------------------------------------------------------------------------------------------

texts = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.tuples(st.binary(min_size=1, max_size=4), st.integers(1, 2000)).map(lambda pair: pair[0] * pair[1]),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(data=texts, longest=st.sampled_from([3, 8, 40, 1 << 16]))
def test_compressed_data_comes_back(data: bytes, longest: int) -> None:
    assert_unpacks(lzo(data, longest=longest), data)


@given(data=st.lists(st.sampled_from(b"ab\0"), max_size=600).map(bytes))
def test_compressed_data_of_few_symbols_comes_back(data: bytes) -> None:
    assert_unpacks(lzo(data), data)


@st.composite
def streams(draw: st.DrawFn) -> LzoWriter:
    """Any instructions in any order."""
    writer = LzoWriter()
    writer.literals(draw(st.binary(min_size=1, max_size=40)))
    if draw(st.booleans()):
        writer.match("M2", 3, 1)
        writer.literals(noise(draw(st.integers(4, 60_000)), draw(st.integers(0, 5))))
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(KINDS))
        lengths, distances = EDGES[kind]
        length = draw(st.one_of(st.sampled_from(lengths), st.integers(2, 400)))
        distance = draw(st.one_of(st.sampled_from(distances), st.integers(1, max(1, len(writer.out)))))
        if writer.fits(kind, length, distance):
            writer.match(kind, length, distance)
            writer.literals(draw(st.binary(max_size=25)))
    return writer


@given(streams())
def test_any_instructions(writer: LzoWriter) -> None:
    assert_unpacks(writer.end(), bytes(writer.out))


@given(writer=streams(), limit=st.integers(1, 5000))
def test_a_limit_gives_the_first_bytes(writer: LzoWriter, limit: int) -> None:
    assert decompress(writer.end(), limit) == writer.out[:limit]


@given(data=texts)
def test_streams_of_liblzo(data: bytes) -> None:
    assume(data)
    assert_unpacks(packed_by_library(data), data)


@given(data=texts)
def test_liblzo_reads_our_streams(data: bytes) -> None:
    """An oracle for the writer."""
    assert by_library(lzo(data), BIG) == data


# -- broken streams ----------------------------------------------------------------------------------------


def unpacked(stream: bytes, limit: int) -> bytes | None:
    try:
        out = decompress(stream, limit)
    except FormatError as error:
        assert "\n" not in str(error)
        return None
    assert isinstance(out, bytes)
    assert len(out) <= limit
    return out


@given(writer=streams(), cut=st.integers(1, 2000))
def test_stream_that_breaks_off(writer: LzoWriter, cut: int) -> None:
    whole = writer.end()
    assert unpacked(whole[: -min(cut, len(whole))], BIG) is None
    for limit in (4096, len(writer.out)):
        part = unpacked(whole[: -min(cut, len(whole))], limit)
        assert part is None or part == writer.out[:limit]


@given(
    writer=streams(), flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=4)
)
def test_changed_stream(writer: LzoWriter, flips: list[tuple[int, int]]) -> None:
    stream = bytearray(writer.end())
    for place, mask in flips:
        stream[place % len(stream)] ^= mask
    unpacked(bytes(stream), 4096)
    unpacked(bytes(stream), BIG)


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_any_bytes(data: bytes, limit: int) -> None:
    unpacked(data, limit)


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_as_liblzo_takes_them(data: bytes) -> None:
    """What the library unpacks whole, is unpacked to the same bytes."""
    theirs = by_library(data, 1 << 16)
    if theirs is not None:
        assert decompress(data, 1 << 16) == theirs


@pytest.mark.parametrize("stream", [b"", b"\0", b"\x11", b"\x11\0", b"\0" * 100, b"\x12", b"\xff", b"\x20\0\0\0\0"])
def test_short_garbage(stream: bytes) -> None:
    assert unpacked(stream, 4096) is None


@pytest.mark.parametrize("kind", KINDS)
def test_match_before_the_start(kind: Kind) -> None:
    writer = LzoWriter()
    writer.literals(b"abcd" if kind != "M1" else b"abc")
    writer.out += bytes(0xC000)  # the writer believes that there is more
    writer.match(kind, EDGES[kind][0][0], EDGES[kind][1][-1])
    assert unpacked(writer.end(), 4096) is None


@pytest.mark.parametrize("code", range(16))
def test_short_match_behind_many_first_literals_reaches_before_the_start(code: int) -> None:
    """There it is the form that copies from 2 KiB back, which the first run of literals cannot hold."""
    writer = LzoWriter()
    writer.literals(noise(200))
    stream = bytes(writer.stream) + bytes([code, 0]) + b"\x11\0\0" + bytes(4)
    assert unpacked(stream, 4096) is None
    assert by_library(stream, 4096) is None


def test_long_match_costs_no_more_than_the_limit(bounded: Bounded) -> None:
    writer = LzoWriter()
    writer.literals(b"abcd")
    stream = bytes(writer.stream) + b"\x20" + bytes(1 << 18) + b"\x01\0\0\x11\0\0"
    with bounded(lines=2_000_000, mib=8):  # 3 for each byte of the stream
        assert unpacked(stream, 4096) == (b"abcd" + b"d" * 4096)[:4096]


def test_long_literals_cost_no_more_than_the_stream(bounded: Bounded) -> None:
    with bounded(lines=2_000_000, mib=8):  # likewise
        assert unpacked(bytes(1 << 18) + b"\1", 4096) is None
