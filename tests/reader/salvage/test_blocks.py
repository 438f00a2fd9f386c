# SPDX-License-Identifier: MIT
"""All pages of a source, whole ones only, each once."""

from __future__ import annotations

from luoser.errors import PageState
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.reader.salvage.blocks import blocks
from tests import real
from tests.images import Image

PAGE = 4096


def addresses(memory: Overlay, page_size: int = PAGE) -> list[int]:
    """The addresses of all pages in the blocks, as they come."""
    found = []
    for block in blocks(memory, page_size):
        for offset in range(0, len(block.data), page_size):
            found.append(block.address(offset))
            assert block.data[offset : offset + page_size] == memory.read(found[-1], page_size)
    return found


def test_pages_of_a_cut_are_one_block() -> None:
    memory = real.overlay("7.3-chain/frozen2")
    held = [place for one in memory.segments for place in range(one.start, one.start + one.stored, PAGE)]
    assert len(held) > 100
    assert addresses(memory) == held
    assert len(list(blocks(memory, PAGE))) == 1


def test_pages_that_are_left_out_and_parts_of_pages_are_left_out() -> None:
    memory = Overlay(Image(pages=16).open())
    memory.remove(3 * PAGE, state=PageState.EXCLUDED)
    memory.remove(9 * PAGE, state=PageState.DAMAGED)
    assert addresses(memory) == [place * PAGE for place in range(16) if place not in (3, 9)]
    assert addresses(memory, 4 * PAGE) == [4 * PAGE, 12 * PAGE]


def test_a_search_is_bounded() -> None:
    memory = Overlay(Image(pages=16).open())
    with limited(Limits(salvage_bytes=5 * PAGE)):
        assert addresses(memory) == [place * PAGE for place in range(5)]
