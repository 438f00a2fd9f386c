# SPDX-License-Identifier: MIT
"""The orchestrator of today (7.2, 7.3): sessions of preserved files, and data that lives as long as such files."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Protocol

from luoser.liveupdate.trace import Failure, Trace

__all__ = ["File", "FileHandler", "Flb", "FlbOwner", "Session", "Sessions"]


class FileHandler(Protocol):
    """preserve and freeze give the file's 64-bit handle, or raise Failure."""

    compatible: str

    def preserve(self, name: str) -> int: ...
    def freeze(self, name: str, data: int) -> int: ...
    def unfreeze(self, name: str, data: int) -> None: ...
    def unpreserve(self, name: str, data: int) -> None: ...
    def retrieve(self, name: str, data: int) -> None: ...
    def finish(self, name: str, data: int) -> None: ...


class FlbOwner(Protocol):
    """Data that is there while a file that depends on it is."""

    name: str

    def flb_preserve(self) -> int: ...
    def flb_unpreserve(self, data: int) -> None: ...
    def flb_finish(self, data: int) -> None: ...


@dataclass(slots=True)
class File:
    """name: what the file is of. data: the handler's handle."""

    name: str
    token: int
    data: int


@dataclass(slots=True)
class Session:
    name: str
    files: list[File] = field(default_factory=list)


@dataclass(slots=True)
class Flb:
    """count: files that depend on it."""

    data: int
    count: int = 0


@dataclass(slots=True)
class Sessions:
    """One handler and one FLB, which every file of the handler depends on.

    sessions: of this kernel, or from restore on of the kernel before. is_serialized: from a successful reboot call
    on, when nothing may change any more. is_incoming: the sessions are those of the kernel before.
    """

    trace: Trace
    handler: FileHandler
    owner: FlbOwner
    sessions: list[Session] = field(default_factory=list)
    flb: Flb | None = None
    is_serialized: bool = False
    is_incoming: bool = False

    def create(self, name: str) -> Session:
        """Raises Failure."""
        self._need_open()
        if any(session.name == name for session in self.sessions):
            raise Failure(errno.EEXIST)
        session = Session(name)
        self.sessions.append(session)
        self.trace.call(f"LUO: create session {name}")
        return session

    def preserve(self, session: Session, token: int, name: str) -> None:
        """Preserve a file. Raises Failure."""
        self._need_open()
        if any(file.token == token for file in session.files):
            raise Failure(errno.EEXIST)
        if any(file.name == name for one in self.sessions for file in one.files):
            raise Failure(errno.EBUSY)
        self._get_flb()
        self.trace.call(f"{self.handler.compatible} preserve({name})")
        try:
            data = self.handler.preserve(name)
        except Failure:
            self._put_flb(is_finish=False)
            raise
        session.files.append(File(name, token, data))

    def _get_flb(self) -> None:
        if self.flb is None:
            self.trace.call(f"FLB {self.owner.name} preserve()")
            self.flb = Flb(self.owner.flb_preserve())
        self.flb.count += 1

    def _put_flb(self, *, is_finish: bool) -> None:
        assert self.flb is not None
        self.flb.count -= 1
        if self.flb.count:
            return
        data, self.flb = self.flb.data, None
        self.trace.call(f"FLB {self.owner.name} {'finish' if is_finish else 'unpreserve'}({data:#x})")
        (self.owner.flb_finish if is_finish else self.owner.flb_unpreserve)(data)

    def unpreserve(self, session: Session, file: File) -> None:
        self._need_open()
        session.files.remove(file)
        self.trace.call(f"{self.handler.compatible} unpreserve({file.name}, {file.data:#x})")
        self.handler.unpreserve(file.name, file.data)
        self._put_flb(is_finish=False)

    def close(self) -> None:
        """All sessions are closed without a reboot: files go in reverse order."""
        for session in reversed(list(self.sessions)):
            for file in reversed(list(session.files)):
                self.unpreserve(session, file)
            self.sessions.remove(session)

    def serialize(self) -> None:
        """The reboot call. Raises Failure: what was frozen is unfrozen, and the sessions can be used on."""
        self._need_open()
        done: list[Session] = []
        for session in self.sessions:
            try:
                self._freeze(session)
            except Failure:
                for earlier in reversed(done):
                    self._unfreeze(earlier.files)
                raise
            done.append(session)
        self.is_serialized = True
        self.trace.memory(f"LUO: write {len(self.sessions)} sessions, {int(self.flb is not None)} FLBs")

    def _freeze(self, session: Session) -> None:
        for index, file in enumerate(session.files):
            self.trace.call(f"{self.handler.compatible} freeze({file.name}, {file.data:#x})")
            try:
                file.data = self.handler.freeze(file.name, file.data)
            except Failure:
                self._unfreeze(session.files[:index])
                raise

    def _unfreeze(self, files: list[File]) -> None:
        for file in files:
            self.trace.call(f"{self.handler.compatible} unfreeze({file.name}, {file.data:#x})")
            self.handler.unfreeze(file.name, file.data)

    def kexec(self) -> None:
        self.is_serialized, self.is_incoming = False, True

    def retrieve(self) -> None:
        for session in self.sessions:
            for file in session.files:
                self.trace.call(f"{self.handler.compatible} retrieve({file.name}, {file.data:#x})")
                self.handler.retrieve(file.name, file.data)

    def finish(self) -> None:
        """Session by session, each file in reverse order."""
        for session in list(self.sessions):
            for file in reversed(session.files):
                self.trace.call(f"{self.handler.compatible} finish({file.name}, {file.data:#x})")
                self.handler.finish(file.name, file.data)
                self._put_flb(is_finish=True)
            self.sessions.remove(session)
        self.is_incoming = False

    def _need_open(self) -> None:
        if self.is_serialized or self.is_incoming:
            raise Failure(errno.EBUSY)
