# SPDX-License-Identifier: MIT
"""KHO block sets (7.2 and later): a growing array in a chain of preserved pages."""

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
    """size: bytes of an entry. what: whose it is, in words. blocks: addresses of the pages, in order."""

    pages: Pages
    size: int
    what: str
    blocks: list[int] = field(default_factory=list)
    is_incoming: bool = False

    @property
    def room(self) -> int:
        """Entries of one block."""
        return capacity(PAGE_SIZE, self.size)

    @property
    def head(self) -> int:
        """Address of the first block, 0 without one."""
        return self.blocks[0] if self.blocks else 0

    def grow(self, count: int) -> None:
        """Room for so many entries: a new page goes to the end of the chain. Raises Failure; then none was added."""
        before = len(self.blocks)
        while count > len(self.blocks) * self.room:
            try:
                self._add()
            except Failure:
                while len(self.blocks) > before:
                    self._drop_last()
                raise

    def shrink(self, count: int) -> None:
        """Give back the pages that so many entries do not need."""
        while self.blocks and count <= (len(self.blocks) - 1) * self.room:
            self._drop_last()

    def destroy(self) -> None:
        for block in self.blocks:
            self._free(block)
        self.blocks.clear()

    def clear(self) -> None:
        """No entries any more; the pages and their chain stay."""
        for block in self.blocks:
            self.pages.write(block, 8, bytes(PAGE_SIZE - 8), f"{self.what}: count = 0, entries zeroed")

    def reserve(self, number: int) -> int:
        """The address of entry `number`, which is the last one from now on. Raises Failure beyond the last block."""
        block, slot = divmod(number, self.room)
        if block >= len(self.blocks):
            raise Failure(errno.ENOSPC)
        self.pages.write(self.blocks[block], 8, (slot + 1).to_bytes(8, "little"), f"{self.what}: count = {slot + 1}")
        return self.place(number)

    def place(self, number: int) -> int:
        """The address of entry `number`."""
        block, slot = divmod(number, self.room)
        return self.blocks[block] + _HEADER + slot * self.size

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of what the blocks count."""
        for block in self.blocks:
            for slot in range(self.count(block)):
                place = block + _HEADER + slot * self.size
                yield place, self.pages.read(place, self.size)

    def count(self, block: int) -> int:
        return int.from_bytes(self.pages.read(block + 8, 8), "little")

    def restore(self, head: int) -> None:
        """Take over a chain of the kernel before. Raises Failure for one that cannot be."""
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
