# SPDX-License-Identifier: MIT
"""One handover for the rules: each getter returns a part of it, or raises the reason why it is not available."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

from luoser.abi.other import TREES, TreeForm
from luoser.abi.release import release_numbers
from luoser.checks.model import Cause, NotApplicable, NotJudged, NotLookedAt
from luoser.fdt import Fdt
from luoser.state import (
    Area,
    File,
    Flb,
    Handover,
    Luo,
    MapStatus,
    Memfd,
    PciList,
    Pending,
    PendingSession,
    Preserved,
    PreservedMap,
    Problem,
    Record,
    Session,
    State,
)
from luoser.text import safe_text

if TYPE_CHECKING:
    from luoser.topology import Topology

__all__ = ["View", "cause_of"]


_CAUSES: dict[str, Cause] = {
    "missing": "missing", "excluded": "excluded", "page-damaged": "damaged", "map-unread": "unread",
}  # fmt: skip
_CHAINS = {
    "sessions and files": re.compile(r"(luo|pending)\.sessions(\[\d+\]\.files)?"),
    "FLBs": re.compile(r"luo\.flbs|pending\.flbs\[\d+\]"),
}
"""What rules ask for, and the paths of its chains: of the sessions, of the files of each session, of the FLBs."""
_UNSEEN = (
    "missing", "excluded", "page-damaged", "too-many", "shared-page", "bad-pointer", "loop", "bad-count", "bad-session",
    "bad-file", "bad-flb", "left-over",
)  # fmt: skip
"""Codes of problems of such a chain: not all of its entries were read."""
_FOR_MAP = "an undamaged copy of the map's pages, or a dump that has them, decides"


def _session(pending: PendingSession) -> Session:
    """A session as it will be serialised."""
    files = tuple(
        File(compatible=one.compatible, data=one.data, token=one.token, address=one.address, memfd=one.memfd)
        for one in pending.files
    )
    return Session(name=pending.name, address=pending.address, files=files, count=len(files), blocks=pending.blocks)


def cause_of(problem: Problem) -> Cause:
    """The cause to report for a rule that a problem keeps from judging."""
    if problem.code in ("too-many", "map-too-large"):
        return "limit"
    return _CAUSES.get(problem.code, "damaged")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One handover, and what rules need to judge it.

    state:        that the handover belongs to.
    handover:     to judge.
    topology:     PCI devices of the machine. None: unknown.
    next_release: release of the next kernel. None: unknown.
    ram:          [start, end) ranges of physical memory. Empty: unknown.
    drivers:      names of further drivers that are able to live update.
    handlers:     names of further file handlers of the next kernel.
    flbs:         names of further FLBs and sub-trees that the next kernel claims.
    pending_wanted: what is pending has to be judged.
    pending_moved: a second reading found other objects of the kernel.
    used:         what a rule has asked for: a key of `_CHAINS`.
    by_code:      (place, problem) of the problems below this root, by code. Filled at the first question.
    orders:       of the folios of each memfd, by its id, as `folio_orders` gives them. Filled as `by_code`.
    """

    state: State
    handover: Handover
    topology: Topology | None = None
    next_release: str | None = None
    ram: tuple[tuple[int, int], ...] = ()
    drivers: frozenset[str] = frozenset()
    handlers: frozenset[str] = frozenset()
    flbs: frozenset[str] = frozenset()
    pending_wanted: bool = False
    pending_moved: bool = False
    used: set[str] = field(default_factory=set, compare=False)
    by_code: dict[str, list[tuple[int, Problem]]] = field(default_factory=dict, compare=False)
    orders: dict[int, bytes] = field(default_factory=dict, compare=False)

    @property
    def page_size(self) -> int:
        """Of the kernel, in bytes."""
        return self.state.source.page_size

    def folio_orders(self, memfd: Memfd) -> bytes:
        """The order of the preserved block that starts with a folio, for each folio of a memfd; 0 if there is none.

        A byte each: five rules need them, of files with millions of folios.
        """
        found, folios = self.handover.preserved.map, memfd.folios.list
        if id(memfd) not in self.orders:
            heads = found.heads(folios.addresses()) if found is not None else repeat(0, len(folios))
            self.orders[id(memfd)] = bytes(order or 0 for order in heads)
        return self.orders[id(memfd)]

    @property
    def consumed(self) -> bool:
        """Whether the next kernel has taken over. It frees what was handed over step by step."""
        return self.handover.is_consumed

    def may_be_freed(self, about: str) -> bool:
        """As `Handover.may_be_freed`."""
        return self.handover.may_be_freed(about)

    def need_unconsumed(self) -> None:
        """Raise NotApplicable if the next kernel has taken over."""
        if self.consumed:
            raise NotApplicable("the next kernel has consumed this handover: it frees the pages that it has read")

    def need_kept(self, about: str) -> None:
        """As `need_unconsumed`, but not for a thing whose page no kernel frees. about: path of the thing."""
        if self.may_be_freed(about):
            self.need_unconsumed()

    def known_map(self) -> PreservedMap:
        """The preserved map as far as it could be read; see `need_whole`. Raises NotApplicable or NotJudged."""
        preserved = self.handover.preserved
        if preserved.map is not None:
            return preserved.map
        if preserved.status is MapStatus.ABSENT:
            raise NotApplicable("the root has no map yet")
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
        """Raise NotJudged if a part of the map could not be read, or the page size is in doubt."""
        doubt = next(self.source_problems("page-size-doubt", "address-doubt"), None)
        if doubt is not None:
            decides = "; --page-size decides" if doubt.code == "page-size-doubt" else ""
            raise NotJudged(f"{doubt.message}{decides}", cause="open", about="preserved")
        if not found.complete:
            codes = ("map-garbage", "map-node-broken", "missing", "excluded", "page-damaged", "map-too-large")
            problem = next(self.problems(*codes, about="preserved"), None)
            said = problem.message if problem is not None else "parts of the map cannot be read"
            cause: Cause = cause_of(problem) if problem is not None else "missing"
            raise NotJudged(f"{said}; {_FOR_MAP}", cause=cause, about="preserved")

    def map(self) -> PreservedMap:
        """The whole preserved map. Raises NotApplicable or NotJudged."""
        found = self.known_map()
        self.need_whole(found)
        return found

    def luo(self) -> Luo:
        """LUO's state. Raises NotApplicable without a sub-tree LUO, NotJudged if it cannot be read."""
        if self.handover.luo is not None:
            return self.handover.luo
        tree = next((entry for entry in self.handover.subtrees if entry.name == "LUO"), None)
        if tree is None:
            raise NotApplicable("the root has no sub-tree LUO")
        self.need_kept("luo")
        codes = ("missing", "excluded", "page-damaged", "luo-reused", "no-fdt", "bad-fdt", "bad-pointer")
        self.raise_unread("luo", codes, "LUO's root object cannot be read")
        raise NotJudged("LUO's root object cannot be read", cause="missing", about="luo")

    def serialised(self) -> Luo:
        """LUO's state after it was serialised. Raises NotApplicable before, else as `luo`."""
        luo = self.luo()
        if not luo.serialized:
            raise NotApplicable("LUO has not serialised its state yet")
        return luo

    def need_sessions(self) -> None:
        """Raise NotApplicable before LUO has serialised its state, unless what is pending is known; else as `luo`."""
        if not self._pending_sessions:
            self.serialised()

    def lists(self) -> tuple[PciList, ...]:
        """The preserved device lists. Raises NotApplicable if there is none."""
        found = self.device_lists()
        if not found:
            raise NotApplicable("no preserved device list")
        return found

    def device_lists(self) -> tuple[PciList, ...]:
        """As `lists`, but may be empty. Before LUO is serialised those that the running kernel's FLBs have built."""
        self.used.add("FLBs")
        return self.handover.pci or self._pending_lists

    @property
    def _pending_lists(self) -> tuple[PciList, ...]:
        pending = self._early
        return pending.lists if pending is not None else ()

    @property
    def _pending_sessions(self) -> tuple[Session, ...]:
        """The sessions of the running kernel before it serialises them."""
        pending = self._early
        return tuple(map(_session, pending.sessions)) if pending is not None else ()

    @property
    def pending_blocks(self) -> tuple[int, ...]:
        """Addresses of the pages that the running kernel keeps for sessions that it has not serialised yet."""
        return self._early.blocks if self._early is not None else ()

    @property
    def _early(self) -> Pending | None:
        """What is pending, if nothing is serialised yet."""
        luo = self.handover.luo
        is_early = luo is not None and not luo.serialized and not self.consumed
        return self.handover.pending if is_early else None

    def list_path(self, index: int) -> str:
        """Path of a device list in the state."""
        return f"pci[{index}]" if self.handover.pci else f"pending.devices[{index}]"

    def flb_entries(self) -> tuple[Flb, ...]:
        """The FLBs. Empty without LUO."""
        self.used.add("FLBs")
        return self.handover.luo.flbs if self.handover.luo is not None else ()

    def pci_topology(self) -> Topology:
        """The PCI devices of the machine. Raises NotLookedAt if they were not given."""
        if self.topology is None:
            raise NotLookedAt("the PCI devices of the machine; give them with --topology")
        return self.topology

    def target(self) -> str:
        """Release of the next kernel. Raises NotLookedAt if it was not given."""
        if self.next_release is None:
            raise NotLookedAt("whether the next kernel accepts it; give its release with --next")
        return self.next_release

    def next_kernel(self) -> tuple[str, tuple[int, ...]]:
        """(release of the next kernel, the same as three numbers).

        Raises NotLookedAt if it was not given, NotApplicable for an incoming root.
        """
        text = self.target()
        if self.handover.is_taken:
            raise NotApplicable("a kernel has already taken over this handover")
        numbers = release_numbers(text)
        assert numbers is not None  # `check` takes no other text
        return safe_text(text), numbers

    def known_ram(self) -> tuple[tuple[int, int], ...]:
        """[start, end) ranges of physical memory. Raises NotLookedAt if they are unknown."""
        if not self.ram:
            raise NotLookedAt("ranges of RAM, which are not in the source")
        return self.ram

    def scratch(self) -> tuple[Area, ...]:
        """The scratch areas. Those of the incoming root are used for the outgoing one, too: kernels do not change them.

        Raises NotLookedAt if they are unknown, NotJudged if the kernel's own pointer to them is damaged.
        """
        for problem in self.source_problems("scratch-unread"):
            raise NotJudged(problem.message, cause="damaged", about="scratch")
        known = [handover.scratch for handover in self.state.handovers if handover.scratch is not None]
        own = self.handover.scratch
        if own is None and len(known) == 1 and len(self.state.handovers) == 2:
            own = known[0]
        if own is None:
            raise NotLookedAt("the scratch areas, of which no sane array was found in this source")
        return own

    def raise_unread(self, about: str, codes: Collection[str], what: str) -> None:
        """Raise NotJudged if the reader met one of some problems about a thing.

        about: path of the thing.
        codes: of the problems.
        what:  what cannot be read, in words.
        """
        for problem in self.problems(*codes, about=about):
            raise NotJudged(f"{what}: {problem.message}", cause=cause_of(problem), about=about)

    def need_subtree(self, name: str, path: str) -> None:
        """Raise NotJudged if a sub-tree could not be read to its end.

        name: of the sub-tree.
        path: of what is read from it.
        """
        codes = ("missing", "excluded", "page-damaged", "bad-pointer", "short-list", "too-many")
        for about in (path, *self._places(name)):
            self.raise_unread(about, codes, f"sub-tree {name} cannot be read")

    def subtree_problems(self, name: str, *codes: str) -> Iterator[Problem]:
        """Problems that the reader met of a sub-tree itself. name: of the sub-tree. codes: to select."""
        for about in self._places(name):
            yield from self.problems(*codes, about=about)

    def _places(self, name: str) -> list[str]:
        return [f"subtrees[{index}]" for index, entry in enumerate(self.handover.subtrees) if entry.name == name]

    def structures(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """(what, path, prefixes of ids of its rules) of each structure that exists and is not consumed."""
        handover = self.handover
        yield "the root", "root", ("KHO",)
        if handover.luo is not None:
            yield "LUO", "luo", ("LUO",)
        if handover.pci or self._pending_lists:
            yield "the device lists", "pci", ("PCI",)
        if handover.pending is not None:
            yield "what is pending", "pending", ("PEN",)
        if self.consumed:
            return
        if handover.preserved.status is not MapStatus.ABSENT:
            yield "the preserved map", "preserved", ("MAP",)
        sessions = self._pending_sessions or (handover.luo.sessions if handover.luo is not None else ())
        if any(file.memfd is not None for session in sessions for file in session.files):
            yield "the memfds", "luo.sessions", ("MFD",)

    def problems(self, *codes: str, about: str | None = None) -> Iterator[Problem]:
        """Problems that the reader met below this root.

        codes: to select.
        about: path of the thing. None: any thing.
        """
        if not self.by_code:
            self.by_code[""] = []  # also if there is none
            for place, problem in enumerate(self.state.problems):
                if problem.root == self.handover.address:
                    self.by_code.setdefault(problem.code, []).append((place, problem))
        found = [entry for code in dict.fromkeys(codes) for entry in self.by_code.get(code, ())]
        for _, problem in sorted(found, key=lambda entry: entry[0]):
            if about in (None, problem.about):
                yield problem

    def source_problems(self, *codes: str) -> Iterator[Problem]:
        """Problems of the source as a whole. codes: to select."""
        return (problem for problem in self.state.problems if problem.code in codes)

    def subjects(self, *codes: str) -> dict[str, list[Problem]]:
        """Problems that the reader met below this root, by path of the thing. codes: to select."""
        found: dict[str, list[Problem]] = {}
        for problem in self.problems(*codes):
            found.setdefault(problem.about, []).append(problem)
        return found

    def subtree(self, name: str) -> int | None:
        """Address of a sub-tree, None if unknown. Raises NotApplicable if there is no sub-tree of this name."""
        found = next((subtree for subtree in self.handover.subtrees if subtree.name == name), None)
        if found is None:
            raise NotApplicable(f"no sub-tree {name}")
        return found.address

    def sessions(self) -> Iterator[tuple[str, Session]]:
        """(path, session) of each session. Before LUO is serialised those of the running kernel's own lists.

        Raises NotJudged at the end if these lists could not be read to their end.
        """
        self.used.add("sessions and files")
        luo, early = self.handover.luo, self._early
        for index, session in enumerate(self._pending_sessions):
            yield f"pending.sessions[{index}]", session
        if early is not None and not early.complete:
            raise NotJudged("not all of the kernel's own sessions can be read", cause="missing", about="pending")
        for index, session in enumerate(luo.sessions if luo is not None else ()):
            yield f"luo.sessions[{index}]", session

    def need_used(self) -> None:
        """Raise NotJudged if what a rule has asked for was not read to its end, so that it saw only a part.

        Of a handover that was taken over, the next kernel frees the pages.
        """
        if self.consumed or not self.used:
            return
        for problem in self.problems(*_UNSEEN):
            for what in sorted(self.used):
                if _CHAINS[what].fullmatch(problem.about):
                    reason = f"not all {what} can be read: {problem.message}"
                    raise NotJudged(reason, cause=cause_of(problem), about=problem.about)

    def files(self) -> Iterator[tuple[str, Session, File]]:
        """(path, session, file) of each file."""
        for where, session in self.sessions():
            for index, file in enumerate(session.files):
                yield f"{where}.files[{index}]", session, file

    def records(self) -> Iterator[tuple[str, str, Record]]:
        """(path, owner, struct) of each struct of a handler, an FLB or a sub-tree that has no class of its own."""
        for index, subtree in enumerate(self.handover.subtrees):
            if subtree.detail is not None:
                yield f"subtrees[{index}].detail", f"sub-tree {safe_text(subtree.name)}", subtree.detail
        for where, session, file in self.files():
            if file.detail is not None:
                yield f"{where}.detail", self.name_of(session, file), file.detail
        for index, flb in enumerate(self.handover.luo.flbs if self.handover.luo is not None else ()):
            if flb.detail is not None:
                yield f"luo.flbs[{index}].detail", f"FLB {safe_text(flb.name)}", flb.detail

    def trees(self) -> Iterator[tuple[str, TreeForm, Fdt]]:
        """(path, form, devicetree) of each sub-tree with a devicetree whose addresses are known.

        One with another compatible string is not among them.
        """
        forms = {(form.subtree, form.compatible.encode()): form for form in TREES}
        for index, subtree in enumerate(self.handover.subtrees):
            root = subtree.fdt.root if subtree.fdt is not None else None
            form = forms.get((subtree.name, root.text("compatible") or b"")) if root is not None else None
            if form is not None and subtree.fdt is not None:
                yield f"subtrees[{index}]", form, subtree.fdt

    def page_trees(self) -> Iterator[tuple[str, str, Preserved]]:
        """(name, path, tree) of each tree of pages that a sub-tree has."""
        for index, subtree in enumerate(self.handover.subtrees):
            if subtree.page_tree is not None:
                name = f"the page tree of sub-tree {safe_text(subtree.name)}"
                yield name, f"subtrees[{index}].page_tree", subtree.page_tree

    def name_of(self, session: Session, file: File) -> str:
        """Name of a file in messages.

        session: that holds it.
        file:    the file.
        """
        return f"session {safe_text(session.name)}, file {file.token:#x}"
