# SPDX-License-Identifier: MIT
"""A machine that goes through a live update of today: vfio-pci files in a session, the PCI core's FLB."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from luoser.errors import UsageError
from luoser.liveupdate.core import PciCore, VfioFiles
from luoser.liveupdate.drivers import driver_named
from luoser.liveupdate.memory import Folio, Pages
from luoser.liveupdate.scenario import STEPS, Scenario
from luoser.liveupdate.sessions import File, Session, Sessions
from luoser.liveupdate.trace import Failure, Panic, Trace
from luoser.liveupdate.tree import Tree, from_topology
from luoser.text import bdf_text

__all__ = ["SESSION", "CoreMachine"]

SESSION = "vm"
_FAULTS = ("allocate", "freeze", "prepare", "preserve")


@dataclass(slots=True)
class CoreMachine:
    """One machine over a kexec, run by a VMM that preserves what is requested in one session, tokens from 1 on.

    error: what stopped it.
    """

    scenario: Scenario
    trace: Trace = field(default_factory=Trace)
    error: Failure | Panic | None = None
    pages: Pages = field(init=False)
    tree: Tree = field(init=False)
    core: PciCore = field(init=False)
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        for step, _ in self.scenario.faults:
            if step not in _FAULTS:
                raise UsageError(f"faults: {step} is for the series v2; here expected one of {', '.join(_FAULTS)}")
        if self.scenario.changes:
            raise UsageError("changes: these are for the series v2")
        self.pages = Pages(self.trace, self.scenario.places, self.scenario.faults)
        self._boot(self.scenario.core)
        self.sessions = Sessions(self.trace, VfioFiles(self.core, self.scenario.faults), self.core)
        for name in self.scenario.requested:
            self.tree.find(name)

    def _boot(self, version: int) -> None:
        self.tree = from_topology(self.scenario.topology)
        for device in self.tree.enumerate():
            known = self.scenario.topology.device(device.domain, device.bdf)
            name = self.scenario.drivers.get(device.name, (known.driver if known is not None else "") or "")
            device.driver = driver_named(name) if name else None
        self.core = PciCore(trace=self.trace, pages=self.pages, tree=self.tree, version=version, accepts=version)

    def run(self, *, until: str = "finish") -> None:
        """All steps up to one. `cancel` closes the session instead of a reboot."""
        steps = ("prepare", "cancel") if until == "cancel" else tuple(step for step in STEPS if step != "cancel")
        for step in steps[: steps.index(until) + 1]:
            try:
                self.step(step)
            except (Failure, Panic) as error:
                self.error = error
                return

    def step(self, step: str) -> None:
        """Raises Failure or Panic."""
        if step == "prepare":
            self._prepare()
        elif step == "cancel":
            self.sessions.close()
        elif step == "freeze":
            self.sessions.serialize()
        elif step == "kexec":
            if not self.sessions.is_serialized:
                raise Failure(errno.EINVAL)
            self.sessions.kexec()
            self.pages.kexec()
            self.trace.call("the next kernel begins")
        elif step == "restore":
            self._restore()
        else:
            self.sessions.finish()

    def _prepare(self) -> None:
        session = self.sessions.create(SESSION)
        try:
            for token, name in enumerate(self.scenario.requested, 1):
                self.sessions.preserve(session, token, name)
        except Failure as failure:
            self.trace.call(f"the VMM gives up: {failure}")
            self.sessions.close()
            raise

    def _restore(self) -> None:
        self._boot(self.scenario.next_core)
        self.sessions.owner = self.core
        self.sessions.handler = VfioFiles(self.core, self.scenario.faults)
        if self.sessions.flb is not None:
            self.core.enumerate(self.sessions.flb.data)
        self.sessions.retrieve()

    # -- what came of it --

    def leaks(self) -> list[Folio]:
        """Folios that nobody will free: those still there when no session is."""
        return self.pages.left() if not self.sessions.sessions else []

    def flags_left(self) -> list[str]:
        """There are no marks in this series."""
        return []

    def document(self) -> dict[str, Any]:
        """What is handed over, as a state document for the writer. Raises UsageError where nothing is serialised."""
        if not self.sessions.is_serialized and not self.sessions.is_incoming:
            raise UsageError("nothing is serialised before the reboot call, so there is no image")
        flb = self.sessions.flb
        luo: dict[str, Any] = {
            "layout": "luo-v5",
            "sessions": [self._session(session) for session in self.sessions.sessions],
            "flbs": [{"name": "pci", "data": f"{flb.data:#x}", "count": flb.count}] if flb is not None else [],
        }
        lists = [self._list(flb.data)] if flb is not None else []
        direction = "incoming" if self.sessions.is_incoming else "outgoing"
        return {"handovers": [{"compatible": "kho-v4", "direction": direction, "luo": luo, "pci": lists}]}

    def _session(self, session: Session) -> dict[str, Any]:
        return {"name": session.name, "files": [self._file(file) for file in session.files]}

    def _file(self, file: File) -> dict[str, Any]:
        device = self.tree.find(file.name)
        fields = {"domain": device.domain, "bdf": device.bdf}
        readings = [{"layout": "vfio-pci-v1-domain32", "fields": fields}]
        detail = {"address": f"{file.data:#x}", "readings": readings}
        compatible = self.sessions.handler.compatible
        return {"compatible": compatible, "token": f"{file.token:#x}", "data": f"{file.data:#x}", "detail": detail}

    def _list(self, address: int) -> dict[str, Any]:
        core = self.core if self.core.address else PciCore(trace=Trace(), pages=self.pages, tree=self.tree)
        core.address = address
        rows = core.records()
        devices = [
            {"index": slot, "bdf": bdf_text(domain, bdf), "refcount": refcount}
            for slot, (domain, bdf, refcount) in enumerate(rows)
            if refcount
        ]
        return {
            "layout": f"pci-version-{core.head()[0]}",
            "address": f"{address:#x}",
            "via": ["flb:pci"],
            "devices": devices,
            "slots": len(rows),
            "blocks": [f"{block:#x}" for block in core.blocks()],
        }
