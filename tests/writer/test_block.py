# SPDX-License-Identifier: MIT
"""Chains of blocks: entries in their slots, blocks up to their last byte, what is no place of an entry."""

from __future__ import annotations

import struct

import pytest

from luoser.errors import UsageError
from luoser.writer import Image
from luoser.writer.block import write_blocks
from tests.writer.helpers import built_luo, order_at, sessions


@pytest.mark.parametrize(("count", "counts"), [(0, []), (1, [1]), (51, [51]), (52, [51, 1]), (103, [51, 51, 1])])
def test_51_sessions_to_a_block(count: int, counts: list[int]) -> None:
    luo, state, image = built_luo({"sessions": sessions(count)})
    assert [struct.unpack("<QQ", image.read(block, 16))[1] for block in luo.session_blocks] == counts
    assert luo.session_area == (luo.session_blocks[0] if counts else None)
    assert image.read(luo.address + 16, 8) == struct.pack("<Q", luo.session_area or 0)
    assert [order_at(state, block) for block in luo.session_blocks] == [0] * len(counts)


@pytest.mark.parametrize(("count", "counts"), [(0, []), (63, [63]), (64, [63, 1]), (127, [63, 63, 1])])
def test_63_files_to_a_block(count: int, counts: list[int]) -> None:
    luo, state, image = built_luo({"sessions": sessions(1, count)})
    blocks = luo.sessions[0].blocks
    assert [struct.unpack("<QQ", image.read(block, 16))[1] for block in blocks] == counts
    assert image.read(luo.session_blocks[0] + 80, 16) == struct.pack("<QQ", blocks[0] if counts else 0, count)
    assert [order_at(state, block) for block in blocks] == [0] * len(counts)


# -- entries at given places ------------------------------------------------------------------------------

FIRST, SECOND = 0x40000000, 0x40010000


def written(*entries: tuple[int, bytes], size: int = 64, blocks: tuple[int, ...] = (FIRST, SECOND)) -> Image:
    image = Image(4096)
    write_blocks(image, blocks, entries, size, "entries")
    return image


def test_slots_between_entries_are_zeros_that_count() -> None:
    image = written((FIRST + 16, b"a" * 64), (FIRST + 16 + 2 * 64, b"c" * 64), (SECOND + 16, b"d" * 64))
    assert image.read(FIRST, 4096) == (struct.pack("<QQ", SECOND, 3) + b"a" * 64 + bytes(64) + b"c" * 64).ljust(
        4096, b"\0"
    )
    assert image.read(SECOND, 4096) == (struct.pack("<QQ", 0, 1) + b"d" * 64).ljust(4096, b"\0")


@pytest.mark.parametrize(("size", "last"), [(64, 62), (80, 50), (8, 509)])
def test_the_last_place_of_a_page_holds_an_entry(size: int, last: int) -> None:
    image = written((FIRST + 16 + last * size, b"z" * size), size=size)
    assert image.read(FIRST + 8, 8) == struct.pack("<Q", last + 1)
    assert image.read(FIRST + 16 + last * size, size) == b"z" * size


@pytest.mark.parametrize(
    ("size", "place"),
    [
        (64, FIRST + 16 + 63 * 64),  # 48 bytes before the end of the page
        (80, FIRST + 16 + 51 * 80),  # the next page, which is no block
        (16, FIRST),  # where the header is
        (64, FIRST + 17),
        (64, FIRST - 4096 + 16),
    ],
)
def test_what_is_no_place_of_an_entry_is_refused(size: int, place: int) -> None:
    with pytest.raises(UsageError, match="is no place of an entry"):
        written((place, b"x" * size), size=size)


def test_two_entries_at_one_place_are_refused() -> None:
    with pytest.raises(UsageError, match="two entries lie at"):
        written((FIRST + 16, b"a" * 64), (FIRST + 16, b"b" * 64))
