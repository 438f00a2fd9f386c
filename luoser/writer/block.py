# SPDX-License-Identifier: MIT
"""KHO serialization blocks: a chain of pages, each a header and entries of one size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from luoser.abi.block import kho_block_header_ser
from luoser.errors import UsageError
from luoser.writer.image import Image

__all__ = ["write_blocks", "write_chain"]


def write_chain(image: Image, blocks: Sequence[int], pages: Sequence[bytes], size: int, what: str) -> None:
    """Write a chain of blocks.

    image:  to write to.
    blocks: addresses of the blocks.
    pages:  bytes of the entries of each block, without gaps.
    size:   bytes of an entry.
    what:   name of the blocks in errors.
    """
    for index, (block, rows) in enumerate(zip(blocks, pages, strict=True)):
        following = blocks[index + 1] if index + 1 < len(blocks) else 0
        head = kho_block_header_ser.build({"next": following, "count": len(rows) // size})
        image.put(block, (head + rows).ljust(image.page_size, b"\0"), what)


def write_blocks(
    image: Image, blocks: Sequence[int], entries: Iterable[tuple[int, bytes]], size: int, what: str
) -> None:
    """Write a chain of blocks, with entries at given addresses. Slots between entries are zeros.

    image:   to write to.
    blocks:  addresses of the blocks.
    entries: (physical address, bytes) of each entry.
    size:    bytes of an entry.
    what:    name of the entries in errors.

    Raises UsageError for an address that is not that of a slot in one of the blocks, or that is used twice.
    """
    first = kho_block_header_ser.size
    slots: dict[int, dict[int, bytes]] = {block: {} for block in blocks}
    for address, data in entries:
        block = address - address % image.page_size
        slot, rest = divmod(address - block - first, size)
        if block not in slots or rest or slot < 0 or first + (slot + 1) * size > image.page_size:
            raise UsageError(f"{what}: {address:#x} is not the address of an entry in its blocks")
        if slot in slots[block]:
            raise UsageError(f"{what}: two entries have the address {address:#x}")
        slots[block][slot] = data
    pages = [
        b"".join(used.get(slot, bytes(size)) for slot in range(max(used, default=-1) + 1)) for used in slots.values()
    ]
    write_chain(image, blocks, pages, size, f"{what}, block")
