# SPDX-License-Identifier: MIT
"""Folios of one file: they follow each other without holes, at multiples of their sizes."""

from __future__ import annotations

import struct

import pytest

from luoser.reader.salvage.folios import Frames, differs_from_map, does_not_tile, last_folio, spans, within
from luoser.state import Bitmap, FolioList, Folios, Memfd, PreservedMap

PAGE = 4096


def made(folios: list[tuple[int, int]], pages: int) -> Memfd:
    """A file of so many pages; (index, frame) of its folios."""
    data = b"".join(struct.pack("<QQ", frame, index) for index, frame in folios)
    folio_list = FolioList(data, page_size=PAGE)
    area = Folios(count=len(folios), address=0x1000, list=folio_list)
    return Memfd(layout="memfd-v2", address=0x2000, size=pages * PAGE - 5, position=0, seals=0, folios=area)


def test_a_folio_reaches_to_the_next_one_and_the_last_one_to_the_end() -> None:
    file = made([(0, 0x10), (1, 0x11), (2, 0x42), (4, 0x80)], 7)
    assert list(spans(file)) == [(0, 0x10000, 1), (1, 0x11000, 1), (2, 0x42000, 2), (4, 0x80000, 3)]
    assert last_folio(file) == (4, 0x80000, 3)
    assert does_not_tile(file) is None
    assert list(within([0xF000, 0x11000, 0x43000, 0x44000, 0x82000, 0x83000], file)) == [0x11000, 0x43000, 0x82000]


@pytest.mark.parametrize(
    ("folios", "pages", "told"),
    [
        ([(1, 0x10)], 2, "its first folio is not at its beginning"),
        ([(0, 0x10), (3, 0x20)], 4, "its folio 0 would have 3 pages, which is no power of two"),
        ([(0, 0x11), (2, 0x20)], 3, "its folio 0 cannot reach to the next one"),
        ([(0, 0x10), (1, 0x20), (3, 0x30)], 4, "its folio 1 cannot reach to the next one"),
        ([(0, 0x10), (1, 0x11)], 4, "its last folio ends before its size"),
        ([(0, 0)], 1 << 19, "its last folio ends before its size"),
    ],
)
def test_folios_that_cannot_be_all_pages_of_a_file(folios: list[tuple[int, int]], pages: int, told: str) -> None:
    assert told in (does_not_tile(made(folios, pages)) or "")


@pytest.mark.parametrize(
    ("orders", "differs"), [({0x10: 0, 0x42: 1}, False), ({0x10: 0, 0x42: 0}, True), ({0x42: 1}, True)]
)
def test_folios_are_blocks_of_the_map(orders: dict[int, int], differs: bool) -> None:
    bits = {order: bytearray(PAGE) for order in orders.values()}
    for frame, order in orders.items():
        bits[order][frame >> order >> 3] |= 1 << (frame >> order & 7)
    preserved = PreservedMap([Bitmap(order, 0, bytes(data)) for order, data in bits.items()], page_size=PAGE)
    file = made([(0, 0x10), (1, 0x42)], 3)
    assert (differs_from_map(file, preserved) is not None) is differs


def test_frames_are_added_once() -> None:
    frames = Frames()
    assert [frames.add(frame) for frame in (0, 1, 511, 512, 1, 1 << 40, 512)] == [False] * 4 + [True, False, True]
