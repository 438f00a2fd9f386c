# SPDX-License-Identifier: MIT
"""One handover as the rules see it: what is known of it, and a Skip with the reason where it is not."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoser.checks.model import Cause, NotApplicable, NotJudged, NotLookedAt
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

__all__ = ["View", "cause_of"]


_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_CAUSES: dict[str, Cause] = {"missing": "missing", "excluded": "excluded", "page-damaged": "damaged"}
_FOR_MAP = "a sound copy of the map's pages, or a dump that holds them, decides"


def cause_of(problem: Problem) -> Cause:
    """Why what a problem is about could not be judged."""
    if problem.code in ("too-many", "map-too-large"):
        return "limit"
    return _CAUSES.get(problem.code, "damaged")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One handover as a rule sees it.

    topology: the machine's PCI devices. next_release: the kernel that is to take over. ram: [start, end) ranges of
    physical memory. drivers: further ones that take part in live update. handlers, flbs: further ones of the next
    kernel.
    """

    state: State
    handover: Handover
    topology: Topology | None = None
    next_release: str | None = None
    ram: tuple[tuple[int, int], ...] = ()
    drivers: frozenset[str] = frozenset()
    handlers: frozenset[str] = frozenset()
    flbs: frozenset[str] = frozenset()

    @property
    def page_size(self) -> int:
        """Bytes."""
        return self.state.source.page_size

    @property
    def consumed(self) -> bool:
        """Whether the next kernel has taken over: what was handed over is freed bit by bit."""
        handover = self.handover
        if handover.direction is Direction.OUTGOING:
            return False
        return handover.direction is Direction.INCOMING or handover.preserved.status is MapStatus.STALE

    def need_unconsumed(self) -> None:
        """Raises NotApplicable for a handover that the next kernel has taken over."""
        if self.consumed:
            raise NotApplicable("the next kernel has consumed this handover: its pages are freed as they are read")

    def known_map(self) -> PreservedMap:
        """The preserved map as far as it could be read; see `need_whole`. Raises NotApplicable or NotJudged."""
        preserved = self.handover.preserved
        if preserved.map is not None:
            return preserved.map
        if preserved.status is MapStatus.ABSENT:
            raise NotApplicable("the root names no map yet")
        if self.consumed:
            raise NotApplicable("the next kernel has consumed the preserved map")
        if preserved.status is MapStatus.STALE:
            raise NotJudged("the preserved map is stale", cause="open", about="preserved")
        if preserved.status is MapStatus.UNREAD:
            raise NotJudged("luoser does not decode this form of the map", cause="unread", about="preserved")
        problem = next(self.problems("missing", "excluded", "page-damaged", about="preserved"), None)
        said = problem.message if problem is not None else "the preserved map is not in the source"
        cause: Cause = cause_of(problem) if problem is not None else "missing"
        raise NotJudged(f"{said}; {_FOR_MAP}", cause=cause, about="preserved")

    def need_whole(self, found: PreservedMap) -> None:
        """Raises NotJudged where a part of the map could not be read, or its page size is in doubt."""
        doubt = next(iter(self.doubts()), None)
        if doubt is not None:
            raise NotJudged(f"{doubt.message}; --page-size decides", cause="open", about="preserved")
        if not found.complete:
            codes = ("map-garbage", "map-node-broken", "missing", "excluded", "page-damaged", "map-too-large")
            problem = next(self.problems(*codes, about="preserved"), None)
            said = problem.message if problem is not None else "parts of the map cannot be read"
            cause: Cause = cause_of(problem) if problem is not None else "missing"
            raise NotJudged(f"{said}; {_FOR_MAP}", cause=cause, about="preserved")

    def doubts(self) -> Iterator[Problem]:
        """What puts the page size of the whole source in doubt."""
        yield from (problem for problem in self.state.problems if problem.code == "page-size-doubt")

    def map(self) -> PreservedMap:
        """The whole preserved map. Raises NotApplicable or NotJudged."""
        found = self.known_map()
        self.need_whole(found)
        return found

    def luo(self) -> Luo:
        """LUO's state. Raises NotApplicable where there is none, NotJudged where it cannot be read."""
        if self.handover.luo is not None:
            return self.handover.luo
        tree = next((entry for entry in self.handover.subtrees if entry.name == "LUO"), None)
        if tree is None:
            raise NotApplicable("the root names no LUO")
        self.need_unconsumed()
        codes = ("missing", "excluded", "page-damaged", "luo-reused", "no-fdt", "bad-fdt", "bad-pointer")
        self.raise_unread("luo", codes, "LUO's root object cannot be read")
        raise NotJudged("LUO's root object cannot be read", cause="missing", about="luo")

    def serialised(self) -> Luo:
        """LUO's state once it was serialised. Raises NotApplicable before."""
        luo = self.luo()
        if not luo.serialized:
            raise NotApplicable("LUO has not serialised its state yet")
        return luo

    def lists(self) -> tuple[PciList, ...]:
        """The preserved device lists. Raises NotApplicable where there is none."""
        if not self.handover.pci:
            raise NotApplicable("no preserved device list")
        return self.handover.pci

    def pci_topology(self) -> Topology:
        """The machine's PCI devices. Raises NotApplicable where they were not given."""
        if self.topology is None:
            raise NotLookedAt("the machine's PCI devices; --topology names them")
        return self.topology

    def target(self) -> str:
        """Release of the kernel that takes over. Raises NotLookedAt where it was not given."""
        if self.next_release is None:
            raise NotLookedAt("whether the next kernel accepts it; --next names its release")
        return self.next_release

    def next_kernel(self) -> tuple[str, tuple[int, ...]]:
        """The next kernel's release, as written and as three numbers. Raises NotLookedAt or NotApplicable."""
        text = self.target()
        if self.handover.direction is Direction.INCOMING:
            raise NotApplicable("a kernel has taken this handover over already")
        match = _RELEASE.match(text)
        if match is None:
            raise NotLookedAt(f"whether {safe_text(text)} accepts it: that is not a release such as 7.3.4")
        return safe_text(text), tuple(int(part) for part in match.groups(default="0"))

    def known_ram(self) -> tuple[tuple[int, int], ...]:
        """[start, end) ranges of physical memory. Raises NotLookedAt where the source does not say."""
        if not self.ram:
            raise NotLookedAt("where the machine has RAM: the source does not say")
        return self.ram

    def scratch(self) -> tuple[Area, ...]:
        """The scratch areas; the kernel never changes them, so an outgoing root has those of the incoming one."""
        known = [handover.scratch for handover in self.state.handovers if handover.scratch is not None]
        own = self.handover.scratch
        if own is None and len(known) == 1 and len(self.state.handovers) == 2:
            own = known[0]
        if own is None:
            raise NotLookedAt("the scratch areas: no sane array of them is named in this source")
        return own

    def raise_unread(self, about: str, codes: Collection[str], what: str) -> None:
        """Raises NotJudged when the reader met one of these problems about a thing."""
        for problem in self.problems(*codes, about=about):
            raise NotJudged(f"{what}: {problem.message}", cause=cause_of(problem), about=about)

    def need_subtree(self, name: str, path: str) -> None:
        """Raises NotJudged when the sub-tree of that name could not be read to its end. path: of its owner."""
        codes = ("missing", "excluded", "page-damaged", "no-fdt", "bad-fdt", "bad-pointer", "short-list", "too-many")
        places = [f"subtrees[{index}]" for index, entry in enumerate(self.handover.subtrees) if entry.name == name]
        for about in (path, *places):
            self.raise_unread(about, codes, f"the sub-tree {name} cannot be read")

    def structures(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """(what, path, beginnings of rule ids) of each structure that is there and not consumed."""
        handover = self.handover
        yield "the root", "root", ("KHO",)
        if handover.luo is not None:
            yield "LUO", "luo", ("LUO",)
        if handover.pci:
            yield "the device lists", "pci", ("PCI",)
        if self.consumed:
            return
        if handover.preserved.status is not MapStatus.ABSENT:
            yield "the preserved map", "preserved", ("MAP",)
        if any(file.memfd is not None for _, _, file in self.files()):
            yield "the memfds", "luo.sessions", ("MFD",)

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
            raise NotApplicable(f"no sub-tree {name}")
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
