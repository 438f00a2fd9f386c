# SPDX-License-Identifier: MIT
"""KHO serialization blocks: a chain of pages, each a header and entries of one size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.schema import Schema
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.walk import Subject, Walk

__all__ = ["BlockPage", "read_blocks"]


@dataclass(frozen=True, slots=True)
class BlockPage:
    """One page of a chain.

    address: physical.
    first:   physical address of the first entry.
    entries: bytes of the entries, without gaps.
    """

    address: int
    first: int
    entries: bytes


def read_blocks(walk: Walk, address: int, entry: Schema, subject: Subject) -> Iterator[BlockPage]:
    """The pages of a KHO block chain. A loop, a bad count or a bad pointer ends it, with a problem.

    walk:    the source.
    address: of the first block. 0: an empty chain.
    entry:   struct of an entry.
    subject: what problems are about.

    Source: kernel/liveupdate/kho_block.c; docs/abi/block.md.
    """
    seen: set[int] = set()
    schema = walk.form(kho_block_header_ser)
    most, head = capacity(walk.page_size, entry.size), schema.size
    before = address
    while address:
        if not walk.is_page_address(address):
            walk.problem("bad-pointer", before, subject, f"block pointer {address:#x} is not a page address")
            return
        if len(seen) >= LIMITS.chain:
            text = f"chain too long: only the first {len(seen)} blocks were read; {how_to_raise('chain')}"
            walk.problem("too-many", before, subject, text)
            return
        if address in seen:
            walk.problem("loop", before, subject, f"block {before:#x} leads back to {address:#x}")
            return
        seen.add(address)
        if not walk.claim(address, subject):
            return
        page = walk.read(address, walk.page_size, subject, kind=lambda raw: _is_block(walk, raw, entry))
        if page is None:
            return
        header = schema.parse(page)
        if not 1 <= header.count <= most:
            text = f"block: expected 1 to {most} entries, found {header.count}; reused memory?"
            walk.problem("bad-count", address, subject, text)
            return
        yield BlockPage(address, address + head, page[head : head + header.count * entry.size])
        before, address = address, header.next


def _is_block(walk: Walk, page: bytes, entry: Schema) -> bool:
    """Whether a page can be a block: a possible count, a possible next block, and a first entry."""
    schema = walk.form(kho_block_header_ser)
    header, first = schema.parse(page), schema.size
    is_next = header.next == 0 or walk.is_page_address(header.next)
    is_count = 1 <= header.count <= capacity(walk.page_size, entry.size)
    return is_next and is_count and any(page[first : first + entry.size])
