# SPDX-License-Identifier: MIT
"""A preserved vmalloc area: the chain of chunks with the addresses of its blocks, and the blocks."""

from __future__ import annotations

import struct

from luoser.abi.vmalloc import MAX_ORDER, chunk_capacity
from luoser.errors import UsageError
from luoser.writer.image import Image

__all__ = ["write_area"]


def write_area(
    image: Image, chunks: tuple[int, ...], pages: tuple[int, ...], order: int, data: bytes, what: str
) -> None:
    """Write a vmalloc area.

    image:  to write to.
    chunks: addresses of the chunks.
    pages:  addresses of the blocks.
    order:  of each block.
    data:   bytes of the area.
    what:   name of the area in errors.

    Raises UsageError if the bytes do not fit the blocks, or the blocks the chunks.
    """
    if order > MAX_ORDER:
        raise UsageError(f"{what}: expected blocks of order {MAX_ORDER} or less, found order {order}")
    most, size = chunk_capacity(image.page_size), image.page_size << order
    if len(pages) * size < len(data) or len(chunks) * most < len(pages):
        raise UsageError(
            f"{what}: {len(data)} bytes do not fit {len(pages)} blocks of order {order} in {len(chunks)} chunks"
        )
    for index, chunk in enumerate(chunks):
        names = pages[index * most : (index + 1) * most]
        following = chunks[index + 1] if index + 1 < len(chunks) else 0
        image.put(chunk, struct.pack(f"<{most + 1}Q", following, *names, *[0] * (most - len(names))), f"{what}, chunk")
    for index, page in enumerate(pages):
        block = data[index * size : (index + 1) * size]
        image.put(page, block.ljust(size, b"\0"), what)
