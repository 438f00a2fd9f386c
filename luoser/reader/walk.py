# SPDX-License-Identifier: MIT
"""What every walker shares: the memory, its page size, and the problems met so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.schema import Schema
from luoser.errors import FormatError, MissingMemory, PageState
from luoser.fdt import MAGIC, Fdt, parse, parse_header
from luoser.limits import LIMITS
from luoser.memory.source import Memory
from luoser.state import Problem

__all__ = ["PHYSICAL_LIMIT", "BlockPage", "Walk", "is_name"]

PHYSICAL_LIMIT = 1 << 52
"""No x86-64 or arm64 machine has physical addresses at or above this."""


@dataclass(frozen=True, slots=True)
class BlockPage:
    """One page of a KHO block chain: its address and its entries, one behind the other."""

    address: int
    entries: bytes


@dataclass(slots=True)
class Walk:
    """Reads structures of one source and keeps the list of what was wrong. page_size: bytes."""

    memory: Memory
    page_size: int = 4096
    layouts: tuple[str, ...] = ()
    contents: bool = False
    problems: list[Problem] = field(default_factory=list)
    _owners: dict[int, str] = field(default_factory=dict)
    _trees: dict[int, Fdt] = field(default_factory=dict)
    _fdt_left: int = LIMITS.fdt_bytes
    _entries_left: int = LIMITS.entries
    _array_left: int = -1
    _root: int | None = None

    def claim(self, address: int, what: str) -> bool:
        """Take a page for one structure. A page that another has taken gives a problem: it is not read twice."""
        owner = self._owners.get(address)
        if owner is not None:
            self.problem("shared-page", address, f"{what}: page {address:#x} was read already, for {owner}")
            return False
        self._owners[address] = what
        return True

    def begin_root(self, root: int) -> None:
        """Forget what was claimed: each root is read by itself."""
        self._owners.clear()
        self._root = root

    def at_root(self, root: int | None) -> None:
        """Problems from here on belong to this root, or to none."""
        self._root = root

    def take_entries(self, count: int, what: str) -> int:
        """How many of `count` entries may still be taken from this source."""
        taken = min(count, self._entries_left)
        self._entries_left -= taken
        if taken < count:
            self.problem(
                "too-many", None, f"{what}: more than {LIMITS.entries} entries in this source; the rest was not read"
            )
        return taken

    def take_array(self, size: int, what: str) -> int:
        """How many of `size` bytes of array may still be read: LIMITS.array_bytes and the size of the source in all."""
        if self._array_left < 0:
            self._array_left = LIMITS.array_bytes + sum(segment.stored for segment in self.memory.segments)
        taken = min(size, self._array_left, LIMITS.list_size)
        self._array_left -= taken
        if taken < size:
            self.problem("too-many", None, f"{what}: array of {size} bytes, only {taken} were read")
        return taken

    def problem(self, code: str, address: int | None, message: str) -> None:
        """Note a problem; the same words about the same place once only."""
        found = Problem(code=code, address=self.place(address), message=message, root=self.place(self._root))
        if len(self.problems) < LIMITS.problems and found not in self.problems[-64:]:
            self.problems.append(found)

    def place(self, address: int | None) -> int | None:
        """The address, None for one that only stands for a thing whose place is not known."""
        return None if address in self.memory.placeless else address

    def read(self, address: int, size: int, what: str) -> bytes | None:
        """`size` bytes of memory, or None and a problem that names the page which is not there."""
        try:
            return self.memory.read(address, size)
        except MissingMemory as error:
            self.missing(error, what)
            return None

    def missing(self, error: MissingMemory, what: str) -> None:
        code = "excluded" if error.state is PageState.EXCLUDED else "missing"
        self.problem(code, error.page, f"{what}: {error}")

    def read_some(self, address: int, size: int, what: str) -> bytes:
        """The first part of [address, address + size) that is there; a problem when that is not all."""
        parts: list[bytes] = []
        end = address + size
        while address < end:
            take = min(end - address, self.page_size - address % self.page_size)
            try:
                parts.append(self.memory.read(address, take))
            except MissingMemory as error:
                self.missing(error, what)
                break
            address += take
        return b"".join(parts)

    def is_page_address(self, address: int) -> bool:
        """Whether a number can be the physical address of a page."""
        return 0 < address < PHYSICAL_LIMIT and address % self.page_size == 0

    def fdt(self, address: int, what: str, *, size: int | None = None) -> Fdt | None:
        """The devicetree at an address, or None and a problem. size: bytes that the blob may take at most."""
        if address in self._trees:
            return self._trees[address]
        head = self.read(address, 40, what)
        if head is None:
            return None
        if head[:4] != MAGIC:
            self.problem(
                "no-fdt", address, f"{what}: expected a devicetree (d00dfeed), found {head[:4].hex()}; reused memory?"
            )
            return None
        try:
            header = parse_header(head)
            if size is not None and header.totalsize > size:
                raise FormatError(f"totalsize {header.totalsize:#x} is larger than its place of {size:#x} bytes")
            if header.totalsize > self._fdt_left:
                raise FormatError(f"totalsize {header.totalsize:#x}, more than is left to read of all devicetrees")
            self._fdt_left -= header.totalsize
            data = self.read_some(address, header.totalsize, what)
            tree = parse(data, partial=True)
        except FormatError as error:
            self.problem("bad-fdt", address, f"{what}: {error}")
            return None
        if tree.fault:
            self.problem("bad-fdt", address, f"{what}: {tree.fault}")
        self._trees[address] = tree
        return tree

    def blocks(self, address: int, entry: Schema, what: str) -> Iterator[BlockPage]:
        """The pages of a KHO block chain; a loop, a bad count or a bad pointer ends it with a problem."""
        seen: set[int] = set()
        most = capacity(self.page_size, entry.size)
        before = address
        while address:
            if not self.is_page_address(address):
                self.problem("bad-pointer", before, f"{what}: block pointer {address:#x} is no page address")
                return
            if address in seen or len(seen) >= LIMITS.chain:
                self.problem("loop", before, f"{what}: block {before:#x} leads back to {address:#x}")
                return
            seen.add(address)
            if not self.claim(address, what):
                return
            page = self.read(address, self.page_size, what)
            if page is None:
                return
            header = kho_block_header_ser.parse(page)
            count = header.count
            if not 1 <= count <= most:
                self.problem(
                    "bad-count", address, f"{what}: block with {count} entries, expected 1 to {most}; reused memory?"
                )
                return
            first = kho_block_header_ser.size
            yield BlockPage(address, page[first : first + count * entry.size])
            before, address = address, header.next


def is_name(raw: bytes, *, empty: bool = False) -> bool:
    """Whether a fixed-size field holds a kernel name: NUL inside, nothing but zeros behind it."""
    name, nul, rest = raw.partition(b"\0")
    return bool(nul) and (bool(name) or empty) and not rest.strip(b"\0")
