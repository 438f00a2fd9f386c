# SPDX-License-Identifier: MIT
"""The vmalloc area of a folio array."""

from __future__ import annotations

import pytest

from luoser.errors import UsageError
from tests.writer.helpers import Json, built_file, read_file


@pytest.mark.parametrize(("pages", "blocks", "chunks"), [(0, 0, 0), (256, 1, 1), (257, 2, 1), (256 * 511 + 1, 512, 2)])
def test_the_array_of_folios_grows_by_pages_and_chunks(pages: int, blocks: int, chunks: int) -> None:
    found, _, image = built_file({"memfd": {"size": pages * 4096, "position": 5}})
    assert found.memfd is not None
    folios = found.memfd.folios
    assert (len(folios.pages), len(folios.chunks), folios.total_pages) == (blocks, chunks, blocks)
    read = read_file(image).memfd
    assert read is not None and read.folios == folios


def test_blocks_of_a_higher_order_hold_more_of_the_array() -> None:
    folios: Json = {"list": [[index, hex(0x40000000 + index * 4096), 3] for index in range(600)], "order": 2}
    folios |= {"total_pages": 4, "pages": ["0x50000000"], "chunks": ["0x50010000"]}
    found, _, image = built_file({"memfd": {"size": 600 * 4096, "folios": folios}})
    read = read_file(image).memfd
    assert found.memfd is not None and read is not None and read.folios == found.memfd.folios


@pytest.mark.parametrize("order", [20, 21])
def test_blocks_of_an_array_are_of_order_20_at_most(order: int) -> None:
    folios: Json = {"list": [], "count": 0, "order": order, "total_pages": 0, "pages": [], "chunks": []}
    if order == 20:
        built_file({"memfd": {"size": 0, "position": 5, "folios": folios}})
        return
    with pytest.raises(UsageError, match="expected blocks of order 20 or less, found order 21"):
        built_file({"memfd": {"size": 0, "position": 5, "folios": folios}})


def test_arrays_that_do_not_fit_are_refused() -> None:
    rows = [[index, hex(0x40000000 + index * 4096), 3] for index in range(600)]
    with pytest.raises(UsageError, match=r"files\[0\].memfd.folios.pages: expected 3 pages, found 1"):
        built_file({"memfd": {"size": "4M", "folios": {"list": rows, "pages": ["0x50000000"]}}})
    with pytest.raises(UsageError, match="expected blocks of order 20 or less, found order 30"):
        built_file({"memfd": {"size": "4M", "folios": {"list": rows, "order": 30, "pages": [], "chunks": []}}})
