# SPDX-License-Identifier: MIT
"""The orchestrator of 2025, which the PCI series registers with: one state, subsystems, a value of each."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from luoser.errors import UsageError
from luoser.liveupdate.trace import Failure, Trace

__all__ = ["Luo", "LuoState", "Subsystem"]


class LuoState(StrEnum):
    NORMAL = "normal"
    PREPARED = "prepared"
    FROZEN = "frozen"
    UPDATED = "updated"


class Subsystem(Protocol):
    """prepare and freeze give the value for the next kernel, or raise Failure."""

    name: str

    def prepare(self) -> int: ...
    def freeze(self, data: int) -> int: ...
    def cancel(self, data: int) -> None: ...
    def finish(self, data: int) -> None: ...


@dataclass(slots=True)
class Luo:
    """values: what each subsystem handed over last. tree: the properties of /subsystems as they are in memory,
    None while there is no devicetree. incoming: those of the kernel before.
    """

    trace: Trace
    subsystems: list[Subsystem] = field(default_factory=list)
    state: LuoState = LuoState.NORMAL
    values: dict[str, int] = field(default_factory=dict)
    tree: dict[str, int] | None = None
    incoming: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:
        """Raises Failure: those that were prepared are cancelled, the failing one is expected to clean up itself."""
        self._need(LuoState.NORMAL)
        self.tree = {subsystem.name: 0 for subsystem in self.subsystems}
        self.values = dict(self.tree)
        self._write()
        for index, subsystem in enumerate(self.subsystems):
            try:
                self.values[subsystem.name] = subsystem.prepare()
            except Failure:
                self._cancel(index)
                self.tree = None
                raise
        self._write()
        self._switch(LuoState.PREPARED)

    def freeze(self) -> None:
        """Raises Failure: those that were frozen are cancelled, and the tree with its old values stays in memory."""
        self._need(LuoState.PREPARED)
        for index, subsystem in enumerate(self.subsystems):
            try:
                self.values[subsystem.name] = subsystem.freeze(self.values[subsystem.name])
            except Failure:
                self._cancel(index)
                self._switch(LuoState.NORMAL)
                raise
        self._write()
        self._switch(LuoState.FROZEN)

    def cancel(self) -> None:
        if self.state not in (LuoState.PREPARED, LuoState.FROZEN):
            raise Failure(errno.EINVAL)
        self._cancel(len(self.subsystems))
        self.tree = None
        self._switch(LuoState.NORMAL)

    def kexec(self) -> None:
        """The next kernel begins; what it finds is the tree."""
        self._need(LuoState.FROZEN)
        self.incoming, self.tree, self.values = self.tree or {}, None, {}
        self._switch(LuoState.UPDATED)

    def finish(self) -> None:
        self._need(LuoState.UPDATED)
        for subsystem in self.subsystems:
            if subsystem.name not in self.incoming:
                raise self.trace.panic(f"LUO: the incoming tree has no value of {subsystem.name}")
            subsystem.finish(self.incoming[subsystem.name])
        self.incoming = {}
        self._switch(LuoState.NORMAL)

    def _cancel(self, count: int) -> None:
        """Those before the boundary, in order."""
        for subsystem in self.subsystems[:count]:
            subsystem.cancel(self.values[subsystem.name])

    def _write(self) -> None:
        assert self.tree is not None
        self.tree.update(self.values)
        for name, value in self.values.items():
            self.trace.memory(f"LUO: write /subsystems {name} = {value:#x}")

    def _switch(self, state: LuoState) -> None:
        self.trace.log(f"luo: Switched from [{self.state}] to [{state}] state")
        self.state = state

    def _need(self, state: LuoState) -> None:
        if self.state is not state:
            raise UsageError(f"LUO is in state {self.state}; this step takes {state}")
