# SPDX-License-Identifier: MIT
"""A preserved vmalloc area: the chain of chunks, then the bytes of the blocks they name."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from luoser.abi.vmalloc import chunk_capacity
from luoser.limits import LIMITS
from luoser.reader.walk import PHYSICAL_LIMIT, Walk

__all__ = ["Area", "read_area"]


@dataclass(frozen=True, slots=True)
class Area:
    """chunks: pages of the chain. pages: blocks of 2^order pages. data: as much as was asked for and is there."""

    chunks: tuple[int, ...]
    pages: tuple[int, ...]
    data: bytes


def read_area(walk: Walk, descriptor: Any, size: int, what: str) -> Area:
    """The first `size` bytes of the area that a kho_vmalloc describes; fewer, with a problem, where it is broken."""
    chunks, blocks = _walk_chunks(walk, descriptor, what)
    block_size = walk.page_size << min(descriptor.order, 20)
    parts: list[bytes] = []
    left = size = walk.take_array(size, what)
    for block in blocks:
        if left <= 0:
            break
        if block % block_size or block >= PHYSICAL_LIMIT:
            walk.problem(
                "bad-pointer", chunks[0], f"{what}: vmalloc block {block:#x} is not aligned to {block_size:#x}"
            )
            break
        if not walk.claim(block, f"{what}, vmalloc block"):
            break
        wanted = min(left, block_size)
        parts.append(walk.read_some(block, wanted, what))
        left -= len(parts[-1])
        if len(parts[-1]) < wanted:
            break
    data = b"".join(parts)
    if left > 0 and len(blocks) * block_size < size:
        walk.problem("short-list", descriptor.first, f"{what}: vmalloc area has {len(data)} bytes, expected {size}")
    return Area(tuple(chunks), tuple(blocks), data)


def _walk_chunks(walk: Walk, descriptor: Any, what: str) -> tuple[list[int], list[int]]:
    chunks: list[int] = []
    blocks: list[int] = []
    seen: set[int] = set()
    chunk, before = descriptor.first, descriptor.first
    capacity = chunk_capacity(walk.page_size)
    wanted = descriptor.total_pages >> min(descriptor.order, 31)
    while chunk and len(blocks) <= wanted and len(chunks) < LIMITS.vmalloc_chunks:
        if not walk.is_page_address(chunk):
            walk.problem("bad-pointer", before, f"{what}: vmalloc chunk pointer {chunk:#x} is no page address")
            break
        if chunk in seen:
            walk.problem("loop", before, f"{what}: vmalloc chunk {before:#x} leads back to {chunk:#x}")
            break
        seen.add(chunk)
        if not walk.claim(chunk, what):
            break
        page = walk.read(chunk, walk.page_size, what)
        if page is None:
            break
        chunks.append(chunk)
        before, chunk, *entries = chunk, *struct.unpack(f"<{capacity + 1}Q", page)
        used = entries.index(0) if 0 in entries else capacity
        blocks.extend(entries[:used])
    return chunks, blocks[:wanted]
