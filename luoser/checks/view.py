# SPDX-License-Identifier: MIT
"""One handover as the rules see it: what is known of it, and a Skip with the reason where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoser.checks.model import Skip
from luoser.state import (
    Area,
    Direction,
    File,
    Handover,
    Luo,
    MapStatus,
    PciList,
    PreservedMap,
    Problem,
    Session,
    State,
)
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.topology import Topology

__all__ = ["View"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """topology: the machine's PCI devices. next_release: the kernel that is to take over. ram: [start, end)
    ranges. drivers: further ones that take part in live update."""

    state: State
    handover: Handover
    topology: Topology | None = None
    next_release: str | None = None
    ram: tuple[tuple[int, int], ...] = ()
    drivers: frozenset[str] = frozenset()

    @property
    def page_size(self) -> int:
        return self.state.source.page_size

    @property
    def consumed(self) -> bool:
        """Whether the next kernel has taken over: what was handed over is freed bit by bit."""
        handover = self.handover
        return handover.direction is Direction.INCOMING or handover.preserved.status is MapStatus.STALE

    def need_unconsumed(self) -> None:
        if self.consumed:
            raise Skip("the next kernel has consumed this handover: its pages are freed as they are read")

    def map(self) -> PreservedMap:
        """The whole preserved map."""
        preserved = self.handover.preserved
        if preserved.map is None:
            raise Skip(f"the preserved map is {preserved.status.value}")
        if not preserved.map.complete:
            raise Skip("parts of the preserved map cannot be read")
        return preserved.map

    def luo(self) -> Luo:
        """LUO's state."""
        if self.handover.luo is None:
            raise Skip("LUO's state is not there or cannot be read")
        return self.handover.luo

    def serialised(self) -> Luo:
        """LUO's state once it was serialised."""
        luo = self.luo()
        if not luo.serialized:
            raise Skip("LUO has not serialised its state yet")
        return luo

    def lists(self) -> tuple[PciList, ...]:
        """The preserved device lists."""
        if not self.handover.pci:
            raise Skip("no preserved device list")
        return self.handover.pci

    def pci_topology(self) -> Topology:
        if self.topology is None:
            raise Skip("no --topology to compare with")
        return self.topology

    def target(self) -> str:
        """Release of the kernel that takes over."""
        if self.next_release is None:
            raise Skip("the release of the next kernel is not known; --next names it")
        return self.next_release

    def scratch(self) -> tuple[Area, ...]:
        """The scratch areas; the kernel never changes them, so an outgoing root has those of the incoming one."""
        known = [handover.scratch for handover in self.state.handovers if handover.scratch is not None]
        own = self.handover.scratch
        if own is None and len(known) == 1 and len(self.state.handovers) == 2:
            own = known[0]
        if own is None:
            raise Skip("the scratch areas cannot be found in this source")
        return own

    def problems(self, *codes: str, about: str | None = None) -> Iterator[Problem]:
        """What the reader met below this root, of some kinds. about: the path of the thing, None for any."""
        for problem in self.state.problems:
            if problem.code in codes and problem.root == self.handover.address and about in (None, problem.about):
                yield problem

    def subjects(self, *codes: str) -> dict[str, list[Problem]]:
        """The same by the path of what they are about."""
        found: dict[str, list[Problem]] = {}
        for problem in self.problems(*codes):
            found.setdefault(problem.about, []).append(problem)
        return found

    def subtree(self, name: str) -> int | None:
        """Where a sub-tree that this handover has lies."""
        found = next((subtree for subtree in self.handover.subtrees if subtree.name == name), None)
        if found is None:
            raise Skip(f"no sub-tree {name}")
        return found.address

    def sessions(self) -> Iterator[tuple[str, Session]]:
        """(where, session)."""
        luo = self.handover.luo
        for index, session in enumerate(luo.sessions if luo is not None else ()):
            yield f"luo.sessions[{index}]", session

    def files(self) -> Iterator[tuple[str, Session, File]]:
        """(where, session, file)."""
        for where, session in self.sessions():
            for index, file in enumerate(session.files):
                yield f"{where}.files[{index}]", session, file

    def name_of(self, session: Session, file: File) -> str:
        """How messages name a file."""
        return f"session {safe_text(session.name)}, file {file.token:#x}"
