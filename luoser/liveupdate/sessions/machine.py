# SPDX-License-Identifier: MIT
"""A machine with the LUO of 7.0 and later, whose user space preserves vfio-pci devices and memfds."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from luoser.abi.release import RELEASES
from luoser.errors import UsageError
from luoser.liveupdate.drivers import Driver
from luoser.liveupdate.machine import Machine
from luoser.liveupdate.memory import Folio
from luoser.liveupdate.scenario import Change, FileRequest, Scenario
from luoser.liveupdate.sessions.document import list_values, session_handover
from luoser.liveupdate.sessions.luo import Flb, Luo, Session
from luoser.liveupdate.sessions.memfd import MemfdFiles
from luoser.liveupdate.sessions.pci import PciCore
from luoser.liveupdate.sessions.series import SERIES
from luoser.liveupdate.sessions.vfio import VfioFiles
from luoser.liveupdate.trace import Failure
from luoser.liveupdate.tree import PciDevice

__all__ = ["SessionMachine"]

_KERNELS = tuple(kernel for kernel in RELEASES if kernel >= "7.0")
"""Releases that have FLBs."""
_OF_SESSIONS = ("close", "create", "preserve")


class SessionMachine(Machine):
    """A machine with sessions.

    core:   PCI core of the running kernel.
    luo:    LUO of the running kernel.
    memfds: file handler for memfds of the running kernel.
    """

    FAULTS = frozenset({"allocate", "freeze", "preserve", "retrieve"})
    CHANGES = frozenset({"add", "bind", "close", "create", "preserve", "remove", "unbind"})

    core: PciCore
    luo: Luo

    def __init__(self, scenario: Scenario, *, is_fixed: bool = False, own: Mapping[str, Driver] | None = None) -> None:
        if is_fixed:
            raise UsageError("--fixed: only for the 2025 series, whose bugs are modelled")
        if own:
            raise UsageError("drivers: only for the 2025 series, where drivers have callbacks")
        super().__init__(scenario)
        for change in scenario.changes:
            if change.what in _OF_SESSIONS and change.before in ("restore", "finish"):
                word = "only sessions of the first kernel can change, before prepare, freeze or kexec"
                raise UsageError(f"changes: {change.what} before {change.before}: {word}")
        self.kernel = scenario.kernel or SERIES[scenario.series].kernel
        if self.kernel not in _KERNELS:
            raise UsageError(f"kernel: expected one of {', '.join(_KERNELS)}, which have FLBs, found {self.kernel}")
        self.memfds: MemfdFiles
        self.boot()
        try:
            self.luo.set_up()
        except Failure as failure:
            raise UsageError(f"faults: {failure}: LUO is disabled without its own pages; omit this fault") from None
        self._handed: dict[str, Any] | None = None
        self._in_map: list[Folio] = []

    def boot(self) -> None:
        super().boot()
        series = SERIES[self.scenario.next_series or self.scenario.series if self.kernels > 1 else self.scenario.series]
        self.luo = Luo(trace=self.trace, pages=self.pages, kernel=self.kernel)
        self.core = PciCore(trace=self.trace, pages=self.pages, tree=self.tree, series=series, luo=self.luo)
        vfio = VfioFiles(self.core, self.faults)
        self.memfds = MemfdFiles(self.pages, RELEASES[self.kernel].memfd, self.faults)
        self.luo.handlers = [self.memfds, vfio]
        self.luo.flbs = [Flb(self.core, (vfio,))]

    # -- steps --

    def prepare(self) -> None:
        """User space creates its sessions and preserves their files. Raises Failure; then it closes the sessions."""
        try:
            for request in self.scenario.sessions:
                session = self.luo.create(request.name)
                for file in request.files:
                    self.luo.preserve(session, file)
        except Failure as failure:
            self.trace.call(f"user space closes its sessions: {failure}")
            self.cancel()
            raise

    def cancel(self) -> None:
        """User space closes its sessions."""
        for session in reversed(list(self.luo.outgoing)):
            self.luo.close(session)

    def freeze(self) -> None:
        """The reboot call: LUO serialises the sessions, then devices are shut down. Raises Failure."""
        self.luo.serialize()
        self.core.shut_down()

    def kexec(self) -> None:
        if not self.luo.is_serialized:
            raise Failure(errno.EINVAL)
        self._handed, self._in_map = self._handover(), list(self.pages.preserved())
        self.pages.kexec()
        self.trace.call("the next kernel begins")

    def restore(self) -> None:
        """The next kernel takes over, and user space retrieves all files.

        Raises Panic, or Failure for the first file that cannot be retrieved, after the others.
        """
        self.luo.take_over(self._root())
        self.core.enumerate()
        self.luo.open()
        failures: list[Failure] = []
        for session in self.luo.incoming:
            self.trace.call(f"LUO: retrieve session {session.name}")
            for file in session.files:
                try:
                    self.luo.retrieve(file)
                except Failure as failure:
                    self.trace.call(f"token {file.token:#x} cannot be retrieved: {failure}")
                    failures.append(failure)
        if failures:
            raise failures[0]

    def _root(self) -> int:
        assert self._handed is not None
        return int(self._handed["luo"]["address"], 16)

    def finish(self) -> None:
        """User space finishes all sessions.

        Raises Failure for the first one that cannot be finished, after the others.
        """
        failures: list[Failure] = []
        for session in list(self.luo.incoming):
            try:
                self.luo.finish(session)
            except Failure as failure:
                self.trace.call(f"session {session.name} cannot be finished: {failure}")
                failures.append(failure)
        if failures:
            raise failures[0]

    # -- changes --

    def change(self, change: Change) -> None:
        """Apply a change. A call of user space that fails is in the trace, but does not stop the machine."""
        if change.what not in _OF_SESSIONS:
            super().change(change)
            return
        try:
            self._call(change)
        except Failure as failure:
            self.trace.call(f"{change.what} {change.name} fails: {failure}")

    def _call(self, change: Change) -> None:
        if change.what == "create":
            self.luo.create(change.name)
        elif change.what == "close":
            self.luo.close(self.luo.session(change.name))
        else:
            request = FileRequest(token=change.token, device=change.name)
            self.luo.preserve(self.luo.session(change.session), request)

    def added(self, device: PciDevice) -> None:
        self.core.set_up(device)

    def removed(self, device: PciDevice, *, unlink: bool) -> None:
        self.core.remove(device)

    # -- the result --

    @property
    def sessions(self) -> list[Session]:
        """Outgoing sessions or, in the next kernel, incoming ones."""
        return self.luo.incoming if self.is_new else self.luo.outgoing

    @property
    def is_new(self) -> bool:
        """Whether the next kernel is running."""
        return self._handed is not None

    def carried(self) -> list[Folio]:
        return self._in_map if self.is_new else list(self.pages.preserved())

    def leaks(self) -> list[Folio]:
        """Folios that are left when there are no sessions, except those that LUO always needs."""
        if self.sessions or (self.is_new and self.kernels == 1):
            return []
        forever = {self.luo.incoming_flbs, self.luo.incoming_root}
        return [folio for folio in self.pages.left() if not folio.is_kept and folio.address not in forever]

    def document(self) -> dict[str, Any]:
        """The state document. In the next kernel the list of devices is current, and everything else is as handed over.

        Before the reboot call the sessions are not serialised yet.
        """
        handover = self._handed if self._handed is not None else self._handover()
        if self._handed is not None:
            table = self.core.handed or self.core.table
            lists = [list_values(table, self.core.name)] if table is not None else handover["pci"]
            handover = {**handover, "direction": "incoming", "scratch": None, "pci": lists}
        return {"handovers": [handover]}

    def _handover(self) -> dict[str, Any]:
        return session_handover(self.luo, self.core, self.memfds)
