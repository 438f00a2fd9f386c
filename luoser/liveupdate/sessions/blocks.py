# SPDX-License-Identifier: MIT
"""KHO block sets (7.2 and later): a growing array in a chain of preserved pages.

Source: kernel/liveupdate/kho_block.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.liveupdate.memory import PAGE_SIZE, Pages
from luoser.liveupdate.trace import Failure

__all__ = ["BlockSet"]

_HEADER = kho_block_header_ser.size
_MOST = 10_000


@dataclass(slots=True)
class BlockSet:
    """A block set.

    size:        of an entry in bytes.
    what:        its owner, in words.
    blocks:      physical addresses of the pages, in order.
    is_incoming: the previous kernel made it.
    """

    pages: Pages
    size: int
    what: str
    blocks: list[int] = field(default_factory=list)
    is_incoming: bool = False

    @property
    def room(self) -> int:
        """Number of entries that fit into one block."""
        return capacity(PAGE_SIZE, self.size)

    @property
    def head(self) -> int:
        """Physical address of the first block. 0 if there is none."""
        return self.blocks[0] if self.blocks else 0

    def grow(self, count: int) -> None:
        """Append blocks until `count` entries fit. Raises Failure; then no block was added."""
        before = len(self.blocks)
        while count > len(self.blocks) * self.room:
            try:
                self._add()
            except Failure:
                while len(self.blocks) > before:
                    self._drop_last()
                raise

    def shrink(self, count: int) -> None:
        """Remove the last blocks that `count` entries do not need."""
        while self.blocks and count <= (len(self.blocks) - 1) * self.room:
            self._drop_last()

    def destroy(self) -> None:
        """Free all blocks."""
        for block in self.blocks:
            self._free(block)
        self.blocks.clear()

    def clear(self) -> None:
        """Zero all entries and counts. The blocks and their chain stay."""
        for block in self.blocks:
            self.pages.write(block, 8, bytes(PAGE_SIZE - 8), f"{self.what}: count = 0, entries zeroed")

    def reserve(self, number: int) -> int:
        """Make entry `number` the last one. Returns its physical address. Raises Failure if it has no block."""
        block, slot = divmod(number, self.room)
        if block >= len(self.blocks):
            raise Failure(errno.ENOSPC)
        self.pages.write(self.blocks[block], 8, (slot + 1).to_bytes(8, "little"), f"{self.what}: count = {slot + 1}")
        return self.place(number)

    def place(self, number: int) -> int:
        """Physical address of entry `number`."""
        block, slot = divmod(number, self.room)
        return self.blocks[block] + _HEADER + slot * self.size

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """(physical address, bytes) of each entry, as many as the counts of the blocks say."""
        for block in self.blocks:
            for slot in range(self.count(block)):
                place = block + _HEADER + slot * self.size
                yield place, self.pages.read(place, self.size)

    def count(self, block: int) -> int:
        """The number of entries in the header of a block. block: its physical address."""
        return int.from_bytes(self.pages.read(block + 8, 8), "little")

    def restore(self, head: int) -> None:
        """Take over the chain of the previous kernel. Raises Failure for an invalid one.

        head: physical address of the first block. 0: an empty chain.
        """
        self.is_incoming = True
        while head:
            if head in self.blocks or not self.pages.has(head):
                self.pages.trace.log("luo: Block set is corrupted")
                raise Failure(errno.EINVAL)
            count = self.count(head)
            if not 0 < count <= self.room:
                self.pages.trace.log(f"luo: Block contains invalid entry count: {count}")
                raise Failure(errno.EINVAL)
            if len(self.blocks) >= _MOST:
                raise Failure(errno.ENOSPC)
            self.blocks.append(head)
            head = int.from_bytes(self.pages.read(head, 8), "little")

    def _add(self) -> None:
        what = f"{self.what} {len(self.blocks)}"
        if len(self.blocks) >= _MOST:
            raise Failure(errno.ENOSPC)
        page = self.pages.allocate_preserved(0, what)
        if self.blocks:
            self.pages.write(self.blocks[-1], 0, page.to_bytes(8, "little"), f"{self.what}: next = {page:#x}")
        self.blocks.append(page)

    def _drop_last(self) -> None:
        self._free(self.blocks.pop())
        if self.blocks:
            self.pages.write(self.blocks[-1], 0, bytes(8), f"{self.what}: next = 0x0")

    def _free(self, block: int) -> None:
        if self.is_incoming:
            self.pages.restore_free(block)
        else:
            self.pages.unpreserve_free(block)
