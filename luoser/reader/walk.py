# SPDX-License-Identifier: MIT
"""Shared by all walkers: the memory, its page size, and the problems met so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from luoser.abi.schema import Schema
from luoser.budget import Budget
from luoser.errors import FormatError, LimitError, MissingMemory, PageState
from luoser.fdt import HEADER_SIZE, MAGIC, Fdt, Node, parse, parse_header
from luoser.kernel.types import TooManyMembersError, Types, TypesError, members_budget
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.metered import Metered
from luoser.memory.source import Memory
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.state import Direction, Problem

__all__ = ["EM_X86_64", "KeepTree", "Kind", "Subject", "Walk"]

Kind = Callable[[bytes], bool]
"""Whether a page can be a structure of some kind."""
KeepTree = Callable[[int, bytes, Fdt], None]
"""Notes what of a devicetree is kept, by address, bytes and tree."""
T = TypeVar("T")
EM_X86_64 = 62
"""e_machine of ELF."""


class Subject(NamedTuple):
    """What a walker reads, and problems are about.

    name: in messages, such as `session vm, files`.
    path: in the state, relative to the root, such as `luo.sessions[1].files`. Rules and diff use only the path, as a
          dump may forge the name.
    """

    name: str
    path: str

    def part(self, name: str, path: str) -> Subject:
        """A part of it.

        name: of the part, appended to the name.
        path: from here to the part, such as `.files`.
        """
        return Subject(f"{self.name}, {name}", f"{self.path}{path}")


@dataclass(slots=True)
class Walk:
    """Reads structures of one source, and collects problems.

    memory:     the source. No more of it is read than its size is worth.
    page_size:  bytes.
    layouts:    names of layouts to use where several fit.
    contents:   whether to read the contents of driver pages and small files.
    directions: of roots by physical address, given by the user.
    problems:   met so far, in their order, each once.
    false_roots: pages that are not a root, so that equal ones are judged once.
    judged:     what was made of device lists, by their bytes and what is known of them.
    types:      of the kernel that has the root. None: not known.
    """

    memory: Memory
    page_size: int = 4096
    layouts: tuple[str, ...] = ()
    contents: bool = False
    directions: Mapping[int, Direction] = field(default_factory=dict)
    problems: dict[Problem, None] = field(default_factory=dict)
    false_roots: set[bytes] = field(default_factory=set)
    judged: dict[tuple[object, ...], Any] = field(default_factory=dict)
    types: Types | None = None
    _forms: dict[tuple[int, int], Schema] = field(default_factory=dict)
    _owners: dict[int, str] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _near: dict[Problem, int] = field(default_factory=dict)
    _trees: dict[int, Fdt] = field(default_factory=dict)
    _fdt_left: int = field(default_factory=lambda: LIMITS.fdt_bytes)
    _entries_left: int = field(default_factory=lambda: LIMITS.entries)
    _budgets: dict[str, Budget] = field(default_factory=dict)
    _root: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.memory, Metered):
            self.memory = Metered(self.memory)
        memory, page_size = self.memory, self.page_size  # not self: a cycle would keep the source

        def held() -> int:
            return memory.held

        self._budgets = {
            "array_bytes": Budget(LIMITS.array_bytes, held),
            "compared_members": members_budget(held),
            "list_bytes": Budget(LIMITS.list_bytes, held),
            "map_pages": Budget(LIMITS.map_pages, lambda: 2 * memory.held // page_size),
        }

    def claim(self, address: int, subject: Subject) -> bool:
        """Take a page for one structure. False, with a problem: another structure has it. No page is read twice.

        address: of the page.
        subject: the structure.
        """
        owner = self._owners.get(address)
        if owner is not None:
            self.problem("shared-page", address, subject, f"page {address:#x} already belongs to {owner}")
            return False
        self._owners[address] = subject.name
        return True

    def begin_root(self, root: int, types: Types | None = None) -> None:
        """Start reading a root: forget the claims, and assign problems to this root.

        root:  its address.
        types: of the kernel that has it. None: not known.
        """
        self._owners.clear()
        self._root, self.types = root, types

    def form(self, schema: Schema) -> Schema:
        """A struct with its members where the kernel that has the root has them. schema: of the registry."""
        if self.types is None:
            return schema
        from luoser.kernel.own import own_schema  # late: of most dumps the types are not known

        key = id(self.types), id(schema)
        if key not in self._forms:
            try:
                self._forms[key] = own_schema(self.types, schema) or schema
            except TypesError as error:  # others were said where the types were read
                self.many_members(error, None)
                self._forms[key] = schema
        return self._forms[key]

    def at_root(self, root: int | None) -> None:
        """Assign problems from here on to a root. root: its address. None: to no root."""
        self._root = root

    def take_entries(self, count: int, subject: Subject) -> int:
        """Number of entries that may be read, up to LIMITS.entries in one source. A problem if it is less than `count`.

        count:   of entries to read.
        subject: what the problem is about.
        """
        taken = min(count, self._entries_left)
        self._entries_left -= taken
        if taken < count:
            text = f"too many entries in this source: only the first {LIMITS.entries} were read"
            self.problem("too-many", None, subject, f"{text}; {how_to_raise('entries')}")
        return taken

    def take_bytes(self, limit: str, size: int, subject: Subject) -> int:
        """Bytes of an array or a list that may be read. A problem if it is less than `size`.

        limit:   `array_bytes` or `list_bytes`: that for all, in addition to what the source holds.
        size:    of it, or of its folio, in bytes.
        subject: what the problem is about.
        """
        taken = self._budgets[limit].take(size)
        if taken < size:
            what = limit.removesuffix("_bytes")
            text = f"{what} too large: only {taken} of {size} bytes were read; {how_to_raise(limit)}"
            self.problem("too-many", None, subject, text)
        return taken

    def first(self, limit: str, found: Iterable[T], what: str) -> Iterator[T]:
        """The first of what was found. A problem if there is more.

        limit: name of the limit of their number.
        found: in their order.
        what:  they are, in words.
        """
        for number, one in enumerate(found):
            if number >= getattr(LIMITS, limit):
                text = f"too many {what}: only the first {number} were looked at; {how_to_raise(limit)}"
                self.problem("too-many", None, None, text)
                return
            yield one

    @property
    def members_budget(self) -> Budget:
        """Members of structs that may be read by the kernel's own types."""
        return self._budgets["compared_members"]

    def many_members(self, error: TypesError, subject: Subject | None) -> None:
        """Note a problem if types were not looked at to their end. subject: what it is about. None: the source."""
        if isinstance(error, TooManyMembersError):
            self.problem("too-many", None, subject, str(error))

    def take_map_page(self) -> bool:
        """Whether one more page of a map may be read: LIMITS.map_pages of all, plus twice what the source holds."""
        return bool(self._budgets["map_pages"].take(1))

    def problem(self, code: str, address: int | None, subject: Subject | None, text: str) -> Problem:
        """Note a problem, and return it. An equal one is noted only once, and none beyond LIMITS.problems.

        code:    stable word for its kind.
        address: physical. None: no address.
        subject: what it is about. None: the source.
        text:    what is wrong.
        """
        found = Problem(
            code=code,
            address=self.place(address),
            message=text if subject is None else f"{subject.name}: {text}",
            root=self.place(self._root),
            about="" if subject is None else subject.path,
        )
        if len(self.problems) < LIMITS.problems:
            self.problems[found] = None
        return found

    def place(self, address: int | None) -> int | None:
        """The address. None: a placeholder for a blob whose physical address is unknown."""
        return None if address in self.memory.placeless else address

    def gap(self, address: int) -> PageState | None:
        """The state of a page that cannot be read. None: it can."""
        try:
            self.memory.read(address, 1)
        except MissingMemory as error:
            return error.state
        return None

    def read(self, address: int, size: int, subject: Subject, *, kind: Kind | None = None) -> bytes | None:
        """Bytes of memory. None, with a problem: a page is not in the source.

        address: physical.
        size:    bytes.
        subject: what the problem is about.
        kind:    tests whether a page is of the expected kind. If the page is absent, a problem reports such a page
                 at an address that is one bit off. None: no such test.
        """
        try:
            data = self.memory.read(address, size)
        except MissingMemory as error:
            self.missing(error, subject)
            if kind is not None and error.state is PageState.ABSENT:
                self.doubt(address, subject, kind, "absent")
            return None
        self._used.add(address)
        return data

    @property
    def keeps(self) -> bool:
        """Whether it matters what is kept: to make a cut, or to read one without contents."""
        return self.memory.is_recorded or bool(self.memory.withheld)

    def keep(self, address: int, size: int, subject: Subject) -> None:
        """Note that bytes belong to what is read: a cut without contents has these, if they are not names.

        address: physical.
        size:    bytes.
        subject: what a problem is about, if this is such a cut and has not all of them.
        """
        self.memory.keep(address, size)
        self.need(address, size, subject)

    def need(self, address: int, size: int, subject: Subject) -> None:
        """Note a problem if some bytes are left out of a cut, so that only what stands for them was read.

        The parameters are those of `keep`.
        """
        if self.memory.withholds(address, size):
            text = f"page {address // 4096 * 4096:#x} is not all in this cut, which was made without contents"
            self.problem("excluded", address, subject, text)

    def doubt(self, address: int, subject: Subject, kind: Kind, state: str) -> None:
        """Note a problem if a page that nothing leads to, at an address that is one bit off, is of the expected kind.

        address: of the page that a pointer leads to.
        subject: what the problem is about.
        kind:    as in `read`.
        state:   why that page may be wrong, in words.
        """
        for bit in range(self.page_size.bit_length() - 1, PHYSICAL_LIMIT.bit_length() - 1):
            near = address ^ 1 << bit
            try:
                page = self.memory.read(near, self.page_size)
            except MissingMemory:
                continue
            if near and kind(page):
                text = f"page {address:#x} is {state}, but {near:#x}, one bit off, is a page of this kind"
                self._near[self.problem("pointer-off", address, subject, text)] = near
                return

    def end(self) -> None:
        """End reading: a page that another pointer leads to, of any root, was not meant by one that is one bit off."""
        for problem, near in self._near.items():
            if near in self._used:
                self.problems.pop(problem, None)
        self._near.clear()
        if isinstance(self.memory, Metered) and self.memory.is_spent:
            text = f"too much was read of this source; the rest is left out; {how_to_raise('read_bytes')}"
            self.problem("too-many", None, None, text)
        if len(self.problems) >= LIMITS.problems:
            text = f"too many problems: only the first {LIMITS.problems} are kept; {how_to_raise('problems')}"
            self.problems[Problem(code="too-many", address=None, message=text)] = None

    def missing(self, error: MissingMemory, subject: Subject) -> None:
        """Note a problem: a page is not in the source; another one if its address has the bit of memory encryption.

        error:   from the source.
        subject: what the problems are about.
        """
        if isinstance(error, LimitError):
            self.problem("too-many", error.page, subject, str(error))
            return
        mask = self._encryption_mask
        if mask and error.page & mask:
            text = f"address {error.page:#x} has the bit of memory encryption, {mask:#x} (VMCOREINFO)"
            self.problem("pointer-encrypted", error.page, subject, text)
        if error.state is PageState.EXCLUDED:
            self.problem("excluded", error.page, subject, str(error))
        elif error.state is PageState.DAMAGED:
            self.problem("page-damaged", error.page, subject, str(error))
        else:
            self.problem("missing", error.page, subject, str(error))

    def read_some(self, address: int, size: int, subject: Subject, *, kind: Kind | None = None) -> bytes:
        """Bytes of memory up to the first page that is not in the source. A problem if there is such a page.

        address: physical.
        size:    bytes.
        subject: what the problem is about.
        kind:    as in `read`, for the first page.
        """
        with suppress(MissingMemory):  # else page by page
            data = self.memory.read(address, size)
            self._used.add(address)
            return data
        parts: list[bytes] = []
        end = address + size
        while address < end:
            take = min(end - address, self.page_size - address % self.page_size)
            try:
                parts.append(self.memory.read(address, take))
            except MissingMemory as error:
                self.missing(error, subject)
                if kind is not None and not parts and error.state is PageState.ABSENT:
                    self.doubt(address, subject, kind, "absent")
                break
            if not parts[1:]:
                self._used.add(address)
            address += take
        return b"".join(parts)

    @property
    def _encryption_mask(self) -> int:
        try:
            return int(self.memory.vmcoreinfo.get("NUMBER(sme_mask)", "0"), 0)
        except ValueError:
            return 0

    def is_page_address(self, address: int) -> bool:
        """Whether a number can be the physical address of a page: not 0, aligned, at most 52 bits."""
        return 0 < address < PHYSICAL_LIMIT and address % self.page_size == 0

    def is_zero_page(self, address: int) -> bool:
        """Whether a number is the address of a page that is in the source and all zeros."""
        try:
            return self.is_page_address(address) and not any(self.memory.read(address, self.page_size))
        except MissingMemory:
            return False

    def fdt(
        self, address: int, subject: Subject, *, size: int | None = None, keep: KeepTree | None = None
    ) -> Fdt | None:
        """The devicetree at an address. None, with a problem: there is none.

        address: physical.
        subject: what problems are about.
        size:    maximal size in bytes. None: no limit of its own.
        keep:    notes what of the tree is kept. None: only its header.
        """
        if address in self._trees:
            tree = self._trees[address]
            if keep is not None:
                keep(address, self.read_some(address, tree.header.totalsize, subject), tree)
            return tree
        head = self.read(address, HEADER_SIZE, subject, kind=lambda page: page.startswith(MAGIC))
        if head is None:
            return None
        if head[:4] != MAGIC:
            text = f"expected a devicetree (magic d00dfeed), found {head[:4].hex()}; reused memory?"
            self.problem("no-fdt", address, subject, text)
            return None
        try:
            header = parse_header(head)
            if size is not None and header.totalsize > size:
                raise FormatError(f"totalsize: expected at most {size:#x} bytes, found {header.totalsize:#x}")
            if header.totalsize > self._fdt_left:
                text = f"totalsize {header.totalsize:#x} exceeds what is read of all devicetrees"
                self.problem("too-many", address, subject, f"{text}; {how_to_raise('fdt_bytes')}")
                return None
            self._fdt_left -= header.totalsize
            self.memory.keep(address, HEADER_SIZE)
            if keep is None and self.memory.withholds(address, header.totalsize):
                return Fdt(header, Node(b""), b"")
            data = self.read_some(address, header.totalsize, subject)
            tree = parse(data, partial=True)
        except FormatError as error:
            self.problem("bad-fdt", address, subject, str(error))
            return None
        if tree.fault:
            self.problem("too-many" if tree.is_cut else "bad-fdt", address, subject, tree.fault)
        self._trees[address] = tree
        if keep is not None:
            keep(address, data, tree)
        return tree
