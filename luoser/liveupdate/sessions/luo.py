# SPDX-License-Identifier: MIT
"""LUO of 7.0 to 7.3: sessions with preserved files, FLBs, and when they are written to memory.

Up to 7.1 sessions and files are in areas of adjacent pages. From 7.2 on they are in KHO blocks.

Source: kernel/liveupdate/luo_core.c, luo_session.c, luo_file.c, luo_flb.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from luoser.abi import luo as abi
from luoser.abi.release import RELEASES
from luoser.abi.struct_bytes import struct_bytes
from luoser.fdt import Node, flatten, parse, sequential
from luoser.liveupdate.memory import PAGE_SIZE, Pages, get_order
from luoser.liveupdate.scenario import FileRequest
from luoser.liveupdate.sessions.blocks import BlockSet
from luoser.liveupdate.trace import Failure, Trace, errno_name
from luoser.text import decode_name, encode_name

__all__ = ["ROOT", "File", "FileHandler", "FlbOwner", "Luo", "Session"]

ROOT = "LUO root"
_AREA, _FLBS = "LUO sessions", "LUO FLBs"
_SESSION_SIZE, _FILE_SIZE = abi.luo_session_ser.size, abi.luo_file_ser.size
_AREA_HEADER = abi.luo_session_header_ser.size
_AREA_FORM = next(form for form in abi.FORMS if form.name == RELEASES["7.0"].luo)
_AREA_SIZE, _ARRAY_SIZE = _AREA_FORM.session_pages * PAGE_SIZE, _AREA_FORM.file_pages * PAGE_SIZE
_MOST_SESSIONS = (_AREA_SIZE - _AREA_HEADER) // _SESSION_SIZE
_MOST_FILES = _ARRAY_SIZE // _FILE_SIZE


class FileHandler(Protocol):
    """struct liveupdate_file_ops of a kind of file. `data` is the 64-bit handle of a preserved file.

    None of the modelled handlers has an unfreeze callback.
    """

    @property
    def compatible(self) -> str:
        """The string that identifies the handler in the next kernel."""

    def can_preserve(self, request: FileRequest) -> bool:
        """Whether this handler is the one for a file."""

    def preserve(self, request: FileRequest) -> int:
        """Preserve a file. Returns its handle. Raises Failure; then nothing is left."""

    def freeze(self, name: str, data: int) -> int:
        """The last callback before the jump. Returns the handle to serialise. Raises Failure."""

    def unpreserve(self, name: str, data: int) -> None:
        """Undo `preserve`."""

    def retrieve(self, data: int) -> str:
        """Recreate a file in the next kernel. Returns its name. Raises Failure."""

    def can_finish(self, file: File) -> bool:
        """Whether the handler allows to finish the session of a file."""

    def finish(self, file: File) -> None:
        """Release what is left of a preserved file in the next kernel."""


class FlbOwner(Protocol):
    """struct liveupdate_flb_ops: data that exists while there are files of handlers that depend on it.

    `data` is the 64-bit handle of the FLB.
    """

    @property
    def name(self) -> str:
        """The string that identifies the FLB in the next kernel."""

    def flb_preserve(self) -> int:
        """Called with the first file. Returns the handle. Raises Failure."""

    def flb_unpreserve(self, data: int) -> None:
        """Undo `flb_preserve`, with the last file."""

    def flb_retrieve(self, data: int) -> bool:
        """Take over the data in the next kernel. Returns whether it succeeded. Raises Panic."""

    def flb_finish(self, data: int) -> None:
        """Release the data in the next kernel, when the last file was finished. Raises Panic."""


@dataclass(slots=True, eq=False)
class File:
    """A preserved file.

    name:   of the device or memfd. "" in the next kernel until the file is retrieved.
    data:   its 64-bit handle.
    status: in the next kernel. None: not retrieved. 0: retrieved. Otherwise the errno of the failed attempt.
    """

    name: str
    token: int
    data: int
    handler: FileHandler
    status: int | None = None


@dataclass(slots=True, eq=False)
class Session:
    """A session.

    blocks: entries of its files, from 7.2 on.
    area:   physical address of the pages with its files, up to 7.1. 0: none.
    files:  in the order in which they were preserved.
    """

    name: str
    blocks: BlockSet
    area: int = 0
    files: list[File] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Flb:
    """A file-lifecycle-bound object, FLB.

    handlers: file handlers that depend on it.
    data:     its 64-bit handle.
    count:    number of files that depend on it. In the next kernel it is 0 until the FLB is retrieved, which happens
              only when somebody needs it.
    """

    owner: FlbOwner
    handlers: tuple[FileHandler, ...]
    data: int = 0
    count: int = 0
    is_retrieved: bool = False
    is_finished: bool = False


@dataclass(slots=True, kw_only=True)
class Luo:
    """LUO of one kernel.

    kernel:        its release.
    number:        number of live updates so far.
    handlers:      file handlers in the order of registration.
    flbs:          in the order of registration.
    outgoing:      sessions of this kernel.
    incoming:      sessions of the previous kernel, after the device was opened.
    is_serialized: the reboot call has succeeded, so nothing can change any more.
    root:          physical address of LUO's page or devicetree for the next kernel.
    area:          physical address of the sessions, up to 7.1.
    flb_page:      physical address of the FLBs.
    blocks:        entries of the sessions, from 7.2 on.
    incoming_root: physical address of the previous kernel's root. 0: none, or freed.
    incoming_flbs: physical address of the previous kernel's FLBs. 0: none.
    """

    trace: Trace
    pages: Pages
    kernel: str
    number: int = 0
    handlers: list[FileHandler] = field(default_factory=list)
    flbs: list[Flb] = field(default_factory=list)
    outgoing: list[Session] = field(default_factory=list)
    incoming: list[Session] = field(default_factory=list)
    is_serialized: bool = False
    root: int = 0
    area: int = 0
    flb_page: int = 0
    blocks: BlockSet = field(init=False)
    incoming_root: int = 0
    incoming_flbs: int = 0
    _incoming_area: int = 0
    _is_open: bool = False

    def __post_init__(self) -> None:
        self.blocks = BlockSet(self.pages, _SESSION_SIZE, "LUO session block")

    @property
    def has_blocks(self) -> bool:
        """Whether sessions and files are in KHO blocks."""
        form = abi.form(RELEASES[self.kernel].luo or "")
        return form is not None and form.files == "blocks"

    @property
    def refuses_duplicates(self) -> bool:
        """Whether preserving a memfd twice is refused. 7.0 does not check it."""
        return self.kernel != "7.0"

    # -- boot --

    def set_up(self) -> None:
        """Allocate the pages that LUO always hands over. Raises Failure."""
        self.root = self._kept(0, ROOT)
        if self.has_blocks:
            self._write_root("compatible, liveupdate_num")
            self.flb_page = self._kept(0, _FLBS)
            self._write_root(f"flbs_pa = {self.flb_page:#x}")
        else:
            self.area = self._kept(get_order(_AREA_SIZE), _AREA)
            self.flb_page = self._kept(0, _FLBS)
            tree = sequential(_tree(self.number + 1, self.area, self.flb_page))
            self.pages.write(self.root, 0, flatten(tree), f"{ROOT}: devicetree luo-v1, number {self.number + 1}")
        self.pages.write(self.flb_page, 0, (1).to_bytes(8, "little"), f"{_FLBS}: pgcnt = 1")
        self.trace.memory(f"KHO: sub-tree LUO = {self.root:#x}")

    def _kept(self, order: int, what: str) -> int:
        address = self.pages.allocate_preserved(order, what)
        self.pages.folios[address].is_kept = True
        return address

    def _write_root(self, word: str, *, sessions: int = 0) -> None:
        fields = {
            "compatible": "luo-v5",
            "liveupdate_num": self.number + 1,
            "sessions_pa": sessions,
            "flbs_pa": self.flb_page,
        }
        self.pages.write(self.root, 0, struct_bytes(abi.luo_ser, fields, ROOT), f"{ROOT}: {word}")

    # -- sessions of this kernel --

    def session(self, name: str) -> Session:
        """The outgoing session of this name. Raises Failure if there is none."""
        for session in self.outgoing:
            if session.name == name:
                return session
        raise Failure(errno.ENOENT)

    def create(self, name: str) -> Session:
        """Create a session. Raises Failure."""
        self.trace.call(f"LUO: create session {name}")
        self._need_open()
        if not name or len(encode_name(name)) >= 64:
            raise Failure(errno.EINVAL)
        if not self.has_blocks and len(self.outgoing) == _MOST_SESSIONS:
            raise Failure(errno.ENOMEM)
        before = len(self.blocks.blocks)
        if self.has_blocks:
            self.blocks.grow(len(self.outgoing) + 1)
        if any(session.name == name for session in self.outgoing):
            if len(self.blocks.blocks) > before:
                self.trace.flaw(f"the empty block {self.blocks.blocks[-1]:#x} for the refused session is not freed")
            raise Failure(errno.EEXIST)
        made = Session(name, BlockSet(self.pages, _FILE_SIZE, f"file block of {name}"))
        self.outgoing.append(made)
        return made

    def preserve(self, session: Session, request: FileRequest) -> None:
        """Preserve a file in a session. Raises Failure; then nothing is left."""
        self._need_open()
        if any(file.token == request.token for file in session.files):
            raise Failure(errno.EEXIST)
        self._make_room(session, len(session.files) + 1)
        try:
            handler = next((handler for handler in self.handlers if handler.can_preserve(request)), None)
            if handler is None:
                raise Failure(errno.ENOENT)
            if self.refuses_duplicates and request.memfd and request.memfd in self.known_files():
                raise Failure(errno.EBUSY)
            data = self._preserve_with(handler, request)
        except Failure:
            self._give_back_room(session)
            raise
        session.files.append(File(request.name, request.token, data, handler))

    def known_files(self) -> set[str]:
        """Names of files that are preserved, or retrieved and not finished.

        LUO refuses such a memfd. A device can be open several times, as different files, so there only the PCI core
        can detect a duplicate.
        """
        return {file.name for session in (*self.outgoing, *self.incoming) for file in session.files}

    def _preserve_with(self, handler: FileHandler, request: FileRequest) -> int:
        held: list[Flb] = []
        try:
            for flb in self._flbs_of(handler):
                self._get_flb(flb)
                held.append(flb)
            self.trace.call(f"{handler.compatible} preserve({request.name})")
            return handler.preserve(request)
        except Failure:
            for flb in reversed(held):
                self._put_flb(flb)
            raise

    def _make_room(self, session: Session, count: int) -> None:
        if self.has_blocks:
            session.blocks.grow(count)
            return
        if count > _MOST_FILES:
            raise Failure(errno.ENOSPC)
        if not session.area:
            session.area = self.pages.allocate_preserved(
                get_order(_MOST_FILES * _FILE_SIZE), f"files of {session.name}"
            )

    def _give_back_room(self, session: Session) -> None:
        if self.has_blocks:
            session.blocks.shrink(len(session.files))
        elif session.area and not session.files:
            self.pages.unpreserve_free(session.area)
            session.area = 0

    def close(self, session: Session) -> None:
        """Close a session and un-preserve its files, the last one first. Raises Failure after the reboot call."""
        self._need_open()
        self.trace.call(f"LUO: close session {session.name}")
        while session.files:
            file = session.files.pop()
            self.trace.call(f"{file.handler.compatible} unpreserve({file.name}, {file.data:#x})")
            file.handler.unpreserve(file.name, file.data)
            for flb in reversed(list(self._flbs_of(file.handler))):
                self._put_flb(flb)
            if self.has_blocks:
                session.blocks.shrink(len(session.files))
        self._give_back_room(session)
        self.outgoing.remove(session)
        if self.has_blocks:
            self.blocks.shrink(len(self.outgoing))

    def _need_open(self) -> None:
        """Raises Failure after the reboot call. A kernel would block the caller forever."""
        if self.is_serialized:
            raise Failure(errno.EBUSY)

    # -- FLBs of this kernel --

    def _flbs_of(self, handler: FileHandler) -> Iterator[Flb]:
        return (flb for flb in self.flbs if handler in flb.handlers)

    def _get_flb(self, flb: Flb) -> None:
        if not flb.count:
            self.trace.call(f"FLB {flb.owner.name} preserve()")
            flb.data = flb.owner.flb_preserve()
        flb.count += 1

    def _put_flb(self, flb: Flb) -> None:
        flb.count -= 1
        if not flb.count:
            data, flb.data = flb.data, 0
            self.trace.call(f"FLB {flb.owner.name} unpreserve({data:#x})")
            flb.owner.flb_unpreserve(data)

    # -- the reboot call --

    def serialize(self) -> None:
        """The reboot call: freeze all files and serialise everything.

        Raises Failure; then what was written is zeroed, the last session first, and sessions can still be used.
        """
        self._need_open()
        done: list[Session] = []
        for index, session in enumerate(self.outgoing):
            try:
                self._serialize(index, session)
            except Failure:
                for earlier in reversed(done):
                    self._take_back(done.index(earlier), earlier)
                raise
            done.append(session)
        count = len(self.outgoing)
        if not self.has_blocks:
            self.pages.write(self.area, 0, count.to_bytes(8, "little"), f"{_AREA}: count = {count}")
        elif count:
            self._write_root(f"sessions_pa = {self.blocks.head:#x}", sessions=self.blocks.head)
        self.is_serialized = True
        self._write_flbs()

    def _serialize(self, index: int, session: Session) -> None:
        place = self.blocks.reserve(index) if self.has_blocks else self.area + _AREA_HEADER + index * _SESSION_SIZE
        for number, file in enumerate(session.files):
            where = session.blocks.reserve(number) if self.has_blocks else session.area + number * _FILE_SIZE
            self.trace.call(f"{file.handler.compatible} freeze({file.name}, {file.data:#x})")
            try:
                file.data = file.handler.freeze(file.name, file.data)
            except Failure as failure:
                token = f"{file.token:#x}" if file.token else "0"  # as %#llx prints it
                which = f"token[{token}] handler[{file.handler.compatible}]"
                self.trace.log(f"luo: Freeze failed for {which} err[{failure}]")
                self._clear_files(session)
                raise
            fields = {"compatible": file.handler.compatible, "data": file.data, "token": file.token}
            entry = struct_bytes(abi.luo_file_ser, fields, "file")
            self.pages.write(where, 0, entry, f"file: {file.name} token {file.token:#x} data {file.data:#x}")
        self._write_session(place, session, f"session: {session.name} {len(session.files)} files")

    def _write_session(self, place: int, session: Session, word: str, *, is_empty: bool = False) -> None:
        first = session.blocks.head if self.has_blocks else session.area
        files = {"files": first if session.files else 0, "count": len(session.files)}
        fields = {} if is_empty else {"name": session.name, "file_set_ser": files}
        self.pages.write(place, 0, struct_bytes(abi.luo_session_ser, fields, "session"), word)

    def _take_back(self, index: int, session: Session) -> None:
        self._clear_files(session)
        place = self.blocks.place(index) if self.has_blocks else self.area + _AREA_HEADER + index * _SESSION_SIZE
        self._write_session(place, session, f"session: {session.name} zeroed", is_empty=True)

    def _clear_files(self, session: Session) -> None:
        if self.has_blocks:
            session.blocks.clear()
        elif session.area:
            self.pages.write(session.area, 0, bytes(_ARRAY_SIZE), f"files of {session.name}: zeroed")

    def _write_flbs(self) -> None:
        used = [flb for flb in self.flbs if flb.count]
        for index, flb in enumerate(used):
            fields = {"name": flb.owner.name, "data": flb.data, "count": flb.count}
            place = abi.luo_flb_header_ser.size + index * abi.luo_flb_ser.size
            word = f"FLB: {flb.owner.name} data {flb.data:#x} count {flb.count}"
            self.pages.write(self.flb_page, place, struct_bytes(abi.luo_flb_ser, fields, "FLB"), word)
        self.pages.write(self.flb_page, 8, len(used).to_bytes(8, "little"), f"{_FLBS}: count = {len(used)}")

    # -- the next kernel --

    def take_over(self, root: int) -> None:
        """Take over LUO's root early at boot. Raises Panic for a root or a chain of sessions that is not accepted.

        root: physical address.
        """
        self.incoming_root = root
        data = self.pages.read(root, PAGE_SIZE)
        if self.has_blocks:
            if data[:8] != b"luo-v5\0\0":
                raise self.trace.panic(self._refused("LUO state is incompatible with 'luo-v5'", errno.EINVAL))
            ser = abi.luo_ser.parse(data)
            self.number, head, self.incoming_flbs = ser.liveupdate_num, ser.sessions_pa, ser.flbs_pa
        else:
            if data[:4] != b"\xd0\x0d\xfe\xed":
                raise self.trace.panic(self._refused("FDT 'LUO' is incompatible with 'luo-v1' [-9]", errno.EINVAL))
            tree = parse(data).root
            sessions, flbs = tree.node("luo-session"), tree.node("luo-flb")
            assert sessions is not None
            assert flbs is not None
            self.number, head = tree.u64("liveupdate-number") or 0, sessions.u64("luo-session-header") or 0
            self.incoming_flbs = flbs.u64("luo-flb-header") or 0
        self.trace.log(f"luo: Retrieved live update data, liveupdate number: {self.number}")
        self._incoming_area = head
        if self.has_blocks:
            try:
                self._incoming_blocks().restore(head)
            except Failure as failure:
                raise self.trace.panic(self._refused("", failure.code)) from None
            self.pages.restore_free(root)
            self.incoming_root = 0

    def _incoming_blocks(self) -> BlockSet:
        self.blocks = BlockSet(self.pages, _SESSION_SIZE, "LUO session block")
        return self.blocks

    def _refused(self, text: str, code: int) -> str:
        if text:
            self.trace.log(f"luo: {text}")
        return f"The incoming tree failed to initialize properly [{errno_name(code)}], disabling live update"

    def open(self) -> None:
        """Open /dev/liveupdate. The first time this deserialises the sessions. Raises Failure -EIO."""
        if self._is_open:
            return
        self._is_open = True
        self.trace.call("LUO: open the device")
        for entry in self._session_entries():
            ser = abi.luo_session_ser.parse(entry)
            session = Session(decode_name(ser.name), BlockSet(self.pages, _FILE_SIZE, "file block"))
            self.incoming.append(session)
            try:
                self._read_files(session, ser.file_set_ser.files, ser.file_set_ser.count)
            except Failure as failure:
                self.trace.log(f"luo: Failed to deserialize files for session [{session.name}] {failure}")
                if self.has_blocks:  # the kernel keeps the session without files
                    session.files.clear()
                    session.blocks.destroy()
                    self._free_sessions()
                raise Failure(errno.EIO) from None
        self._free_sessions()

    def _session_entries(self) -> list[bytes]:
        if self.has_blocks:
            return [entry for _, entry in self.blocks.entries()]
        count = int.from_bytes(self.pages.read(self._incoming_area, 8), "little")
        first = self._incoming_area + _AREA_HEADER
        return [self.pages.read(first + index * _SESSION_SIZE, _SESSION_SIZE) for index in range(count)]

    def _free_sessions(self) -> None:
        if self.has_blocks:
            self.blocks.destroy()
        else:
            self.pages.restore_free(self._incoming_area)

    def _read_files(self, session: Session, first: int, count: int) -> None:
        if not first:
            return
        if self.has_blocks:
            session.blocks.restore(first)
            entries = [entry for _, entry in session.blocks.entries()]
        else:
            session.area = first
            entries = [self.pages.read(first + index * _FILE_SIZE, _FILE_SIZE) for index in range(count)]
        for entry in entries:
            ser = abi.luo_file_ser.parse(entry)
            compatible = decode_name(ser.compatible)
            handler = next((one for one in self.handlers if one.compatible == compatible), None)
            if handler is None:
                self.trace.log(f"luo: No registered handler for compatible '{compatible}'")
                raise Failure(errno.ENOENT)
            session.files.append(File("", ser.token, ser.data, handler))
        if len(entries) != count:
            self.trace.log(f"luo: File count mismatch: expected {count}, found {len(entries)}")
            raise Failure(errno.EINVAL)

    def retrieve(self, file: File) -> None:
        """Retrieve a file, unless it was retrieved before. Raises Failure, also again after an earlier failure."""
        if file.status:
            raise Failure(file.status)
        if file.status == 0:
            return
        self.trace.call(f"{file.handler.compatible} retrieve({file.data:#x})")
        try:
            file.name = file.handler.retrieve(file.data)
        except Failure as failure:
            file.status = failure.code
            raise
        file.status = 0

    def finish(self, session: Session) -> None:
        """Finish a session and its files, the last one first. Raises Failure -EBUSY if a handler does not allow it."""
        self.trace.call(f"LUO: finish session {session.name}")
        if not all(file.handler.can_finish(file) for file in session.files):
            raise Failure(errno.EBUSY)
        while session.files:
            file = session.files.pop()
            self.trace.call(f"{file.handler.compatible} finish({file.name or f'{file.data:#x}'})")
            file.handler.finish(file)
            for flb in reversed(list(self._flbs_of(file.handler))):
                self._finish_flb(flb)
            if self.has_blocks:
                session.blocks.shrink(len(session.files))
        if session.area:
            self.pages.restore_free(session.area)
        self.incoming.remove(session)

    # -- FLBs of the previous kernel --

    def incoming_flb(self, name: str) -> Flb | None:
        """The FLB of an owner. It is retrieved at the first call.

        None if none of this name was handed over, if it could not be retrieved, or if it is finished.
        """
        flb = next((flb for flb in self.flbs if flb.owner.name == name), None)
        if flb is None or flb.is_finished or not self.incoming_flbs:
            return None
        if flb.is_retrieved:
            return flb
        entry = self._flb_entry(name)
        if entry is None:
            return None
        flb.data, flb.count, flb.is_retrieved = entry[0], entry[1], True
        self.trace.call(f"FLB {name} retrieve({flb.data:#x})")
        return flb if flb.owner.flb_retrieve(flb.data) else None

    def has_other_flbs(self, name: str) -> bool:
        """Whether the previous kernel handed over FLBs, but none of this name."""
        return bool(self.incoming_flbs) and self._flb_entry(name) is None

    def _flb_entry(self, name: str) -> tuple[int, int] | None:
        """(data, count) of an FLB in the incoming page. None if it is not there."""
        count = int.from_bytes(self.pages.read(self.incoming_flbs + 8, 8), "little")
        size, first = abi.luo_flb_ser.size, self.incoming_flbs + abi.luo_flb_header_ser.size
        for index in range(count):
            ser = abi.luo_flb_ser.parse(self.pages.read(first + index * size, size))
            if decode_name(ser.name) == name:
                return ser.data, ser.count
        return None

    def _finish_flb(self, flb: Flb) -> None:
        if not flb.is_retrieved:
            self.trace.flaw(f"FLB {flb.owner.name} was never retrieved, so its count is 0 and finish is not called")
            if self.kernel != "7.0":
                self.trace.log_once("refcount_t: underflow; use-after-free.")
            return
        flb.count -= 1
        if flb.count == 0:
            flb.is_finished = True
            self.trace.call(f"FLB {flb.owner.name} finish({flb.data:#x})")
            flb.owner.flb_finish(flb.data)


def _tree(number: int, sessions: int, flbs: int) -> Node:
    """LUO's devicetree up to 7.1."""
    compatible = b"compatible"
    area = (b"luo-session-header", sessions.to_bytes(8, "little"))
    page = (b"luo-flb-header", flbs.to_bytes(8, "little"))
    return Node(
        b"",
        [(compatible, b"luo-v1\0"), (b"liveupdate-number", number.to_bytes(8, "little"))],
        [
            Node(b"luo-session", [(compatible, b"luo-session-v2\0"), area]),
            Node(b"luo-flb", [(compatible, b"luo-flb-v1\0"), page]),
        ],
    )
