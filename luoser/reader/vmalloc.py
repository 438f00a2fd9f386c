# SPDX-License-Identifier: MIT
"""A preserved vmalloc area: the chain of chunks, and the bytes of its blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from luoser.abi.vmalloc import chunk_capacity
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.walk import Subject, Walk

__all__ = ["Area", "read_area"]


class Area(NamedTuple):
    """A vmalloc area as read.

    chunks: addresses of the chunks.
    pages:  addresses of the blocks of 2^order pages.
    data:   the first bytes of the area, as many as were requested and could be read.
    """

    chunks: tuple[int, ...]
    pages: tuple[int, ...]
    data: bytes

    def pieces(self, size: int) -> Iterator[tuple[int, bytes]]:
        """(physical address, bytes) of the data in each block. size: of a block in bytes."""
        for place, address in zip(range(0, len(self.data), size), self.pages, strict=False):
            yield address, self.data[place : place + size]


def read_area(walk: Walk, descriptor: Any, size: int, subject: Subject) -> Area:
    """The first bytes of a vmalloc area; fewer, with a problem, if it is broken.

    walk:       the source.
    descriptor: a parsed kho_vmalloc.
    size:       bytes to read.
    subject:    what problems are about.

    Source: kernel/liveupdate/kexec_handover.c, kho_restore_vmalloc; docs/abi/vmalloc.md.
    """
    chunks, blocks = _walk_chunks(walk, descriptor, subject)
    block_size = walk.page_size << min(descriptor.order, 20)
    parts: list[bytes] = []
    left = size = walk.take_bytes("array_bytes", size, subject)
    for block in blocks:
        if left <= 0:
            break
        if block % block_size or block >= PHYSICAL_LIMIT:
            text = f"vmalloc block {block:#x} is not aligned to {block_size:#x}"
            walk.problem("bad-pointer", chunks[0], subject, text)
            break
        if not walk.claim(block, subject.part("vmalloc block", "")):
            break
        wanted = min(left, block_size)
        parts.append(walk.read_some(block, wanted, subject))
        left -= len(parts[-1])
        if len(parts[-1]) < wanted:
            break
    data = b"".join(parts)
    if left > 0 and len(blocks) * block_size < size:
        walk.problem("short-list", descriptor.first, subject, f"vmalloc area: expected {size} bytes, found {len(data)}")
    return Area(tuple(chunks), tuple(blocks), data)


def _walk_chunks(walk: Walk, descriptor: Any, subject: Subject) -> tuple[list[int], list[int]]:
    chunks: list[int] = []
    blocks: list[int] = []
    seen: set[int] = set()
    chunk, before = descriptor.first, descriptor.first
    capacity = chunk_capacity(walk.page_size)
    wanted = descriptor.total_pages >> min(descriptor.order, 31)
    while chunk and len(blocks) <= wanted:
        if len(chunks) >= LIMITS.vmalloc_chunks:
            text = f"chain too long: only the first {len(chunks)} chunks were read; {how_to_raise('vmalloc_chunks')}"
            walk.problem("too-many", before, subject, text)
            break
        if not walk.is_page_address(chunk):
            walk.problem("bad-pointer", before, subject, f"vmalloc chunk pointer {chunk:#x} is not a page address")
            break
        if chunk in seen:
            walk.problem("loop", before, subject, f"vmalloc chunk {before:#x} leads back to {chunk:#x}")
            break
        seen.add(chunk)
        if not walk.claim(chunk, subject):
            break
        page = walk.read(chunk, walk.page_size, subject, kind=lambda raw: _is_chunk(walk, raw))
        if page is None:
            break
        chunks.append(chunk)
        before, chunk, *entries = chunk, *struct.unpack(f"<{capacity + 1}Q", page)
        used = entries.index(0) if 0 in entries else capacity
        blocks.extend(entries[:used])
        for place in range(used + 1):
            word = (chunk, *entries)[place]
            if not word or walk.is_page_address(word):
                walk.memory.keep(before + 8 * place, 8)
    return chunks, blocks[:wanted]


def _is_chunk(walk: Walk, page: bytes) -> bool:
    """Whether a page can be a chunk: page addresses, then only zeros."""
    following, *entries = struct.unpack(f"<{walk.page_size // 8}Q", page)
    used = entries.index(0) if 0 in entries else len(entries)
    names = [*entries[:used], *([following] if following else [])]
    return used > 0 and not any(entries[used:]) and all(map(walk.is_page_address, names))
