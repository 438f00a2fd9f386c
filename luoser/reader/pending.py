# SPDX-License-Identifier: MIT
"""What the running kernel will hand over, or was handed and did not finish: its own objects, by its own types.

Before the reboot call nothing of LUO is serialised; the sessions, files and FLBs are lists in the kernel's memory.

Source: kernel/liveupdate/luo_session.c, luo_file.c, luo_flb.c of 6.19 to 7.3. Members are found by their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from luoser.abi.luo import is_test_flb
from luoser.abi.pci import is_flb_name
from luoser.errors import MissingMemory
from luoser.kernel.objects import BrokenList, NoMember, Object, TooManyItems, list_items
from luoser.kernel.space import Unmapped
from luoser.kernel.types import Types, TypesError
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.kernel import Kernel, variable_type
from luoser.reader.memfd import is_memfd, read_memfd
from luoser.reader.pci import Lead, read_lists
from luoser.reader.walk import Subject, Walk
from luoser.state import Direction, Handover, Memfd, PciList, Pending, PendingFile, PendingFlb, PendingSession
from luoser.text import decode_name, safe_text

__all__ = ["read_pending", "why_unknown"]

_NOT_OPENED = "no session in the list: all are finished, or user space has not opened /dev/liveupdate yet"
"""Kernels make the list of what they were handed at the first open: luo_session_deserialize."""
_WORD = (1 << 64) - 1
_SIDES = {Direction.OUTGOING: "outgoing", Direction.INCOMING: "incoming"}


def read_pending(
    walk: Walk, kernel: Kernel | None, handovers: tuple[Handover, ...], named: frozenset[int]
) -> tuple[Handover, ...]:
    """The handovers, those of the running kernel with what its own objects say.

    walk:      the source.
    kernel:    the running one. None, or without types: nothing is added.
    handovers: all of the source.
    named:     addresses of the roots that the kernel's own variables name.
    """
    if kernel is None or kernel.types is None or kernel.address("luo_session_global") is None:
        return handovers
    made = []
    for one in handovers:
        side = _SIDES.get(one.direction)
        if side is not None and one.own and one.address in named:
            walk.begin_root(one.address, kernel.types)
            one = replace(one, pending=_Reader(walk, kernel, kernel.types, one, side).read())
            walk.at_root(None)
        made.append(one)
    return tuple(made)


def why_unknown(kernel: Kernel | None) -> str:
    """Why nothing is known of what is pending, in words. kernel: the running one. None: its symbols are not known."""
    what = "what the running kernel will hand over is not known"
    if kernel is None:
        return f"{what}: its symbols (kallsyms) are not in this source; --symbols System.map gives them"
    if kernel.types is None:
        return f"{what}: {kernel.symbols.path} has no BTF (CONFIG_DEBUG_INFO_BTF), or it is not in this source"
    if kernel.address("luo_session_global") is None:
        return f"{what}: {kernel.symbols.path} has no luo_session_global: no LUO, or symbols of functions only"
    return f"{what}: no root in this source is that of {kernel.symbols.path}"


class _Reader:
    """Reads one side of the kernel's objects. What cannot be read is noted, and `complete` is False from then on."""

    def __init__(self, walk: Walk, kernel: Kernel, types: Types, handover: Handover, side: str) -> None:
        self.walk, self.kernel, self.types, self.handover, self.side = walk, kernel, types, handover, side
        self.complete = True
        self.left = LIMITS.pending
        self.known: set[int] = set()
        self.knows_handlers = False
        self.held: set[int] = set()
        self.users: list[set[int]] = []
        """For each FLB the handlers whose files depend on it. Empty: not known."""
        self.files_of: list[int] = []
        """The handler of each file."""
        sessions = handover.luo.sessions if handover.luo is not None else ()
        self.memfds = {file.data: file.memfd for session in sessions for file in session.files if file.memfd}
        """What has been serialised already, by handle."""

    def read(self) -> Pending:
        handlers = tuple(self.handlers())
        self.knows_handlers = self.complete
        flbs, sessions = tuple(self.flbs()), tuple(self.sessions())
        self.depended(flbs)
        evidence = [f"{self.side} lists of {self.kernel.symbols.path}, by {self.types.where}"]
        if self.side == "incoming" and not sessions:
            evidence.append(_NOT_OPENED)
        return Pending(
            sessions=sessions,
            flbs=flbs,
            lists=self.lists(flbs),
            subtrees=tuple(subtree.name for subtree in self.handover.subtrees),
            handlers=handlers,
            evidence=tuple(evidence),
            complete=self.complete,
            blocks=tuple(self.blocks("", None)),
        )

    @contextmanager
    def noted(self, subject: Subject, *, needed: bool = True) -> Iterator[None]:
        """What cannot be read in here becomes a problem. needed: then not all that is pending is known."""
        try:
            yield
            return
        except MissingMemory as error:
            self.walk.missing(error, subject)
        except BrokenList as error:
            self.walk.problem("pending-broken", None, subject, str(error))
        except TooManyItems as error:
            self.walk.problem("too-many", None, subject, f"{error}; {how_to_raise('pending')}")
        except (Unmapped, NoMember, TypesError) as error:
            self.walk.problem("pending-unread", None, subject, str(error))
        self.complete = self.complete and not needed

    def variable(self, name: str, struct: str | None = None) -> Object:
        """A variable. struct: name of its type. None: that of its own name. Raises NoMember, Unmapped."""
        address, symbol = self.kernel.address(name), self.kernel.symbols.get(name)
        number = variable_type(self.types, struct or name)
        if address is None or symbol is None or number is None:
            raise NoMember(f"{self.kernel.symbols.path} has no {name}, or not its type")
        size, room = self.types.size(number), symbol.size
        if address % 8 or room < size:  # each has pointers
            raise Unmapped(f"{name} cannot be at {address:#x}: {size} bytes are expected, {room} to the next symbol")
        return Object(self.kernel.space, self.types, address, number)

    def items(self, head: Object, struct: str, link: str) -> Iterator[Object]:
        for item in list_items(head, struct, link, self.left):
            self.left -= 1
            yield item

    def counted(self, owner: Object, found: int, what: str) -> None:
        """Raise BrokenList if a list that could be read has another number of items than its owner says."""
        if self.complete and (count := owner.number("count")) != found:
            raise BrokenList(f"count is {count}, the list has {found} {what}")

    # -- sessions -----------------------------------------------------------------------------------------

    def sessions(self) -> Iterator[PendingSession]:
        subject, found, names = Subject("pending sessions", "pending.sessions"), 0, set[str]()
        with self.noted(subject):
            header = self.variable("luo_session_global").member(self.side)
            for item in self.items(header.member("list"), "luo_session", "list"):
                with self.noted(Subject(f"pending session {found}", f"pending.sessions[{found}]")):
                    session = self.session(item, found)
                    yield session
                    if not session.name or session.name in names:
                        raise BrokenList(f"its name {safe_text(session.name)!r} is empty, or that of another session")
                    names.add(session.name)
                    self.flagged(item)
                found += 1
            self.counted(header, found, "sessions")

    def flagged(self, item: Object) -> None:
        """Raise BrokenList for a session that says it was retrieved: only one that was handed over can be."""
        flag = item.number("retrieved") if item.has("retrieved") else 0
        if flag > (self.side == "incoming"):
            raise BrokenList(f"retrieved is {flag}, expected {'0 or 1' if self.side == 'incoming' else '0'}")

    def session(self, item: Object, index: int) -> PendingSession:
        owner = item.member("file_set") if item.has("file_set") else item
        return PendingSession(
            name=decode_name(item.text("name", is_name=True)),
            address=item.physical,
            files=tuple(self.files(owner, index)),
            blocks=tuple(self.blocks(f".sessions[{index}]", owner)),
            retrieved=bool(item.number("retrieved")) if item.has("retrieved") else False,
        )

    def files(self, owner: Object, index: int) -> Iterator[PendingFile]:
        subject, found = Subject(f"pending session {index}, files", f"pending.sessions[{index}].files"), 0
        tokens = set[int]()
        with self.noted(subject):
            for entry in self.items(owner.member("files_list"), "luo_file", "list"):
                with self.noted(Subject(f"{subject.name}[{found}]", f"{subject.path}[{found}]")):
                    file = self.file(entry, Subject(f"{subject.name}[{found}]", f"{subject.path}[{found}]"))
                    yield file
                    if file.token in tokens:
                        raise BrokenList(f"token {file.token:#x} is that of another file of the session")
                    tokens.add(file.token)
                    self.linked(entry, file)
                found += 1
            self.counted(owner, found, "files")

    def linked(self, entry: Object, found: PendingFile) -> None:
        """Raise BrokenList for a file whose handler is not registered, or that has no file or data to hand over."""
        handler = entry.number("fh")
        if not handler or (self.knows_handlers and handler not in self.known):
            raise BrokenList(f"its handler at {handler:#x} is not in the list of registered ones")
        self.files_of.append(handler)
        file = entry.follow("file", "file")
        if self.side == "outgoing" and file is None:
            raise BrokenList("it has no struct file")
        if file is not None and file.address in self.held and self.kernel.address("luo_preserved_files") is not None:
            raise BrokenList(f"its struct file at {file.address:#x} is that of another file")  # 7.1 and later refuse it
        self.held |= {file.address} if file is not None else set()
        if file is not None and not file.number("f_inode"):
            raise BrokenList(f"its struct file at {file.address:#x} has no inode")
        if self.side == "outgoing" and is_memfd(found.compatible) and not found.data:
            raise BrokenList("its handler has preserved nothing")

    def file(self, entry: Object, subject: Subject) -> PendingFile:
        handler = entry.follow("fh", "liveupdate_file_handler")
        file = entry.follow("file", "file")
        inode = file.follow("f_inode", "inode") if file is not None else None
        compatible = decode_name(handler.text("compatible")) if handler is not None else ""
        data = entry.number("serialized_data")
        return PendingFile(
            compatible=compatible,
            token=entry.number("token"),
            data=data,
            address=entry.physical,
            private=self.physical(entry.number("private_data")) if entry.has("private_data") else None,
            size=inode.number("i_size") & _WORD if inode is not None else None,
            position=file.number("f_pos") & _WORD if file is not None else None,
            memfd=self.memfd(compatible, data, subject),
        )

    def memfd(self, compatible: str, data: int, subject: Subject) -> Memfd | None:
        """What the handler of a memfd has preserved: it does so when user space asks for it."""
        if data in self.memfds or self.side == "incoming":  # what was handed over is freed as soon as it is retrieved
            return self.memfds.get(data)
        return read_memfd(self.walk, compatible, data, subject) if data and is_memfd(compatible) else None

    def blocks(self, path: str, owner: Object | None) -> Iterator[int]:
        """Addresses of the pages that are kept for entries.

        path:  of the owner in what is pending.
        owner: has the files of a session. None: the list of sessions.
        """
        subject = Subject(f"pages for the entries of pending{path}", f"pending{path}.blocks")
        with self.noted(subject, needed=False):
            area = "header_ser" if owner is None else "files"
            owner = owner or self.variable("luo_session_global").member(self.side)
            if owner.has("block_set"):
                for block in self.items(owner.member("block_set.blocks"), "kho_block", "list"):
                    yield self.kernel.space.physical(block.number("ser"))
            elif owner.has(area) and (start := owner.number(area)):  # before 7.2 one area of fixed size
                yield self.kernel.space.physical(start)

    def physical(self, virtual: int) -> int | None:
        try:
            return self.kernel.space.physical(virtual) if virtual else None
        except (Unmapped, MissingMemory):
            return None

    # -- FLBs and handlers --------------------------------------------------------------------------------

    def flbs(self) -> Iterator[PendingFlb]:
        name = "luo_flb_global"
        if self.types.struct(name) is None and self.kernel.address(name) is None:  # 6.19 has neither
            return
        found = 0
        with self.noted(Subject("pending FLBs", "pending.flbs")):
            head, addresses = self.variable("luo_flb_global"), list[int]()
            for item in self.items(head.member("list"), "luo_flb_private", "list"):
                found += 1
                owner, state = item.of("liveupdate_flb", "private"), item.member(self.side)
                flb = PendingFlb(
                    name=decode_name(owner.text("compatible")),
                    count=self.kernel.space.number(state.member("count").address, 4),
                    data=state.number("data"),
                    address=owner.physical,
                )
                addresses.append(owner.address)
                yield flb
                with self.noted(Subject(f"pending FLB {found - 1}", f"pending.flbs[{found - 1}]")):
                    self.coherent(flb)
            if head.has("count"):
                self.counted(head, found, "FLBs")
            if self.knows_handlers:
                self.users = [*self.users_of(addresses)]

    def coherent(self, flb: PendingFlb) -> None:
        """Raise BrokenList for data of an FLB that no file depends on: the kernel clears it with the last one."""
        if self.side == "outgoing" and flb.data and not flb.count:
            raise BrokenList(f"FLB {safe_text(flb.name)}: count is 0, and its data {flb.data:#x}, expected 0")

    def depended(self, flbs: tuple[PendingFlb, ...]) -> None:
        """Compare the count of each FLB with the files that depend on it, by the handlers' own lists of FLBs.

        Fewer than files: the count was damaged, or the lists. More: sessions were lost, or a driver holds the FLB
        itself (liveupdate_flb_get_outgoing()): not all is known. Where the handlers' lists are not in the source, a
        count without any file is compared, and with one handler each that is not 0.
        """
        if self.side != "outgoing" or not self.complete:
            return
        for index, flb in enumerate(flbs):
            users = self.users[index] if self.users else None
            files = len(self.files_of) if users is None else sum(handler in users for handler in self.files_of)
            subject = Subject(f"pending FLB {index}", f"pending.flbs[{index}]")
            text = f"FLB {safe_text(flb.name)}: count is {flb.count}, {files} files depend on it"
            may_differ = users is None and (not flb.count or (files and len(self.known) > 1))
            if users is not None and flb.count < files:
                with self.noted(subject):
                    raise BrokenList(text)
            elif flb.count != files and not may_differ:
                self.walk.problem("pending-unread", flb.address, subject, f"{text}; does a driver hold it?")
                self.complete = False

    def users_of(self, flbs: list[int]) -> Iterator[set[int]]:
        """For each FLB the handlers whose files depend on it. Nothing, if a list of these is not in the source.

        flbs: addresses of the FLBs.
        """
        found: dict[int, set[int]] = {}
        try:
            for address in self.known:
                number = self.types.struct("liveupdate_file_handler")
                handler = Object(self.kernel.space, self.types, address, number or 0)
                for link in self.items(handler.member("flb_list"), "luo_flb_link", "list"):
                    found.setdefault(link.number("flb"), set()).add(address)
        except (MissingMemory, NoMember, TypesError, TooManyItems):  # a cut can do without
            return
        if found.keys() - {*flbs}:
            raise BrokenList("a handler depends on an FLB that is not in the list of registered ones")
        yield from (found.get(address, set()) for address in flbs)

    def handlers(self) -> Iterator[str]:
        with self.noted(Subject("registered handlers", "pending.handlers")):
            head = self.variable("luo_file_handler_list", "list_head")
            for item in self.items(head, "liveupdate_file_handler", "list"):
                self.known.add(item.address)
                yield decode_name(item.text("compatible"))

    def lists(self, flbs: tuple[PendingFlb, ...]) -> tuple[PciList, ...]:
        """The lists of devices that the FLBs have built."""
        leads = [
            Lead(via=f"flb:{flb.name}", address=flb.data, path=f"pending.flbs[{index}]", certain=True)
            for index, flb in enumerate(flbs)
            if is_flb_name(flb.name) and flb.data and not is_test_flb(flb.data)
        ]
        return read_lists(self.walk, leads, self.handover.preserved.map)
