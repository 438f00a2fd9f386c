# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/block.py."""

from __future__ import annotations

import struct

from luoser.abi import luo as abi
from luoser.abi.block import kho_block_header_ser
from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.luo import PANIC, form_of, luo_of
from luoser.writer.mutate.model import Cannot, mutation

__all__: list[str] = []


@mutation("LUO008", PANIC)
def chain_loop(image: Image, state: State) -> None:
    """The last session block points to itself."""
    luo = luo_of(state)
    if form_of(luo).sessions != "blocks" or not luo.session_blocks:
        raise Cannot("expected session blocks of LUO")
    last = luo.session_blocks[-1]
    image.patch(last + kho_block_header_ser.offset("next"), struct.pack("<Q", last))


@mutation("LUO009", PANIC)
def block_count(image: Image, state: State) -> None:
    """The count of the first session block becomes 0; that of a session area in older forms 820."""
    luo = luo_of(state)
    form = form_of(luo)
    if not luo.session_blocks or form.session is not abi.luo_session_ser:
        raise Cannot("expected session blocks of LUO")
    if form.sessions == "blocks":
        image.patch(luo.session_blocks[0] + kho_block_header_ser.offset("count"), struct.pack("<Q", 0))
    else:
        room = form.session_pages * image.page_size - abi.luo_session_header_ser.size
        image.patch(luo.session_blocks[0], struct.pack("<Q", room // abi.luo_session_ser.size + 1))
