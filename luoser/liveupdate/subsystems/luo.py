# SPDX-License-Identifier: MIT
"""LUO of the RFC v2 (15 May 2025), with which the 2025 PCI series registers.

It has one state for the whole machine, subsystems in the order of registration, and a devicetree with a value of each.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from luoser.abi.luo import FILE_DESCRIPTORS_NODE, SUBSYSTEMS_NODE
from luoser.errors import UsageError
from luoser.fdt import Fdt, Node, flatten, parse, repacked, sequential
from luoser.liveupdate.memory import Pages, get_order
from luoser.liveupdate.trace import Failure, Trace

__all__ = ["TREE", "Luo", "LuoState", "OtherSubsystem", "Subsystem"]

TREE = "LUO tree"
_RFC_TREE_SIZE = 1 << 20


class LuoState(StrEnum):
    """State of the whole machine. UPDATED: the next kernel is running, before finish."""

    NORMAL = "normal"
    PREPARED = "prepared"
    FROZEN = "frozen"
    UPDATED = "updated"


class Subsystem(Protocol):
    """struct liveupdate_subsystem. `data` is its 64-bit value in LUO's devicetree."""

    name: str

    def prepare(self) -> int:
        """Prepare. Returns the value for the next kernel. Raises Failure; then it has to clean up itself."""

    def freeze(self, data: int) -> int:
        """The last callback before the jump. Returns the new value. Raises Failure."""

    def cancel(self, data: int) -> None:
        """Undo prepare and freeze."""

    def finish(self, data: int) -> None:
        """End the live update in the next kernel."""


@dataclass(slots=True)
class Luo:
    """LUO, over both kernels.

    is_rfc:     the devicetree has 1 MiB and a node for files, as in the RFC. Otherwise it is one page, as in the
                kernels that wrote luoser's test dumps.
    is_fixed:   without its known bugs.
    subsystems: in the order of registration.
    values:     current value of each subsystem.
    fdt:        physical address of the devicetree for the next kernel. 0: none.
    incoming:   physical address of the devicetree of the previous kernel. 0: none.
    """

    trace: Trace
    pages: Pages
    is_rfc: bool = True
    is_fixed: bool = False
    subsystems: list[Subsystem] = field(default_factory=list)
    state: LuoState = LuoState.NORMAL
    values: dict[str, int] = field(default_factory=dict)
    fdt: int = 0
    incoming: int = 0

    # -- steps --

    def prepare(self) -> None:
        """Prepare all subsystems. Raises Failure; then those before the failing one are cancelled."""
        self._need(LuoState.NORMAL)
        self.values = {subsystem.name: 0 for subsystem in self.subsystems}
        self._set_up_tree()
        for index, subsystem in enumerate(self.subsystems):
            try:
                self.values[subsystem.name] = subsystem.prepare()
            except Failure as failure:
                self._log_failure(subsystem, "prepare", failure)
                self._cancel(index)
                self._forget_tree()
                raise
        self._commit()
        self._switch(LuoState.PREPARED)

    def freeze(self) -> None:
        """Freeze all subsystems. Raises Failure; then those before the failing one are cancelled, and the devicetree
        stays with its old values."""
        self._need(LuoState.PREPARED)
        for index, subsystem in enumerate(self.subsystems):
            try:
                self.values[subsystem.name] = subsystem.freeze(self.values[subsystem.name])
            except Failure as failure:
                self._log_failure(subsystem, "freeze", failure)
                self._cancel(index)
                if self.is_fixed:
                    self._destroy_tree()
                self._switch(LuoState.NORMAL)
                raise
        self._commit()
        self._switch(LuoState.FROZEN)

    def cancel(self) -> None:
        """Cancel all subsystems. Raises Failure in any other state than prepared or frozen."""
        if self.state not in (LuoState.PREPARED, LuoState.FROZEN):
            raise Failure(errno.EINVAL)
        self._cancel(len(self.subsystems))
        self._destroy_tree()
        self._switch(LuoState.NORMAL)

    def kexec(self) -> None:
        """Jump to the next kernel, which finds the devicetree."""
        self._need(LuoState.FROZEN)
        self.incoming, self.fdt, self.values = self.fdt, 0, {}
        self.state = LuoState.UPDATED
        self.trace.call("the next kernel finds a LUO tree: state updated")

    def finish(self) -> None:
        """Finish all subsystems. Raises Panic."""
        self._need(LuoState.UPDATED)
        handed = self.handed_over
        for subsystem in self.subsystems:
            if subsystem.name not in handed:
                raise self.trace.panic(f"LUO: the incoming tree has no value of {subsystem.name}")
        for subsystem in self.subsystems:
            subsystem.finish(handed[subsystem.name])
        if self.is_fixed:
            self.pages.restore(self.incoming)
            self.pages.free(self.incoming)
        elif self.is_rfc:
            self.trace.flaw(f"LUO never frees the tree of the previous kernel, {self.incoming:#x}")
        self.incoming = 0
        self._switch(LuoState.NORMAL)

    def _cancel(self, count: int) -> None:
        """Cancel the first `count` subsystems, in order."""
        for subsystem in self.subsystems[:count]:
            subsystem.cancel(self.values[subsystem.name])
            self.values[subsystem.name] = 0

    def _log_failure(self, subsystem: Subsystem, step: str, failure: Failure) -> None:
        self.trace.log(f"luo_subsystems: Subsystem '{subsystem.name}' {step} callback failed [{-failure.code}]")

    def _switch(self, state: LuoState) -> None:
        self.trace.log(f"luo_core: Switched from [{self.state}] to [{state}] state")
        self.state = state

    def _need(self, state: LuoState) -> None:
        if self.state is not state:
            raise UsageError(f"wrong state of LUO: expected {state}, found {self.state}")

    # -- the tree --

    @property
    def handed_over(self) -> Mapping[str, int]:
        """Value by subsystem, from the devicetree in memory: for the next kernel, else of the previous one.

        Empty without a devicetree.
        """
        address = self.fdt or self.incoming
        if not address:
            return {}
        node = parse(bytes(self.pages.folios[address].data)).root.node(SUBSYSTEMS_NODE)
        names = [name for name, value in reversed(node.properties if node is not None else []) if len(value) == 8]
        return {name.decode(): node.u64(name.decode()) or 0 for name in names if node is not None}

    def tree(self) -> Fdt:
        """The devicetree with the current values, as the kernel writes it."""
        values = [(name.encode(), struct.pack("<Q", value)) for name, value in self.values.items()]
        compatible = b"compatible"
        subsystems = Node(SUBSYSTEMS_NODE.encode(), [(compatible, b"subsystems-v1\0"), *values])
        root = Node(b"", [(compatible, b"luo-v1\0")], [subsystems])
        if not self.is_rfc:
            return sequential(root)
        subsystems.properties.reverse()  # libfdt inserts a new property in front of the others
        root.nodes.append(Node(FILE_DESCRIPTORS_NODE.encode(), [(compatible, b"file-descriptors-v1\0")]))
        return repacked(root, room=_RFC_TREE_SIZE)

    def _set_up_tree(self) -> None:
        size = _RFC_TREE_SIZE if self.is_rfc else 1
        self.fdt = self.pages.allocate(get_order(size), TREE)
        self._write("all values 0")
        try:
            self.pages.preserve(self.fdt)
        except Failure:
            self.pages.free(self.fdt)
            self.fdt = 0
            raise
        self.trace.memory(f"KHO: sub-tree LUO = {self.fdt:#x}")

    def _commit(self) -> None:
        self._write(", ".join(f"{name} = {value:#x}" for name, value in self.values.items()) or "no values")

    def _write(self, word: str) -> None:
        self.pages.write(self.fdt, 0, flatten(self.tree()), f"{TREE}: /{SUBSYSTEMS_NODE} {word}")

    def _destroy_tree(self) -> None:
        self.pages.unpreserve(self.fdt)
        self.pages.free(self.fdt)
        self.fdt = 0

    def _forget_tree(self) -> None:
        """After a failed prepare: the RFC loses the address of its devicetree."""
        if self.is_fixed:
            self._destroy_tree()
            return
        self.trace.flaw(f"LUO forgets its tree {self.fdt:#x}, which stays allocated and preserved")
        self.fdt = 0


@dataclass(slots=True)
class OtherSubsystem:
    """Another subsystem, which hands over a page. Its failures affect the PCI subsystem.

    faults: errno by (step, name).
    """

    trace: Trace
    pages: Pages
    name: str
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def prepare(self) -> int:
        """Preserve a page. Returns its physical address. Raises Failure."""
        self._check("prepare")
        address = self.pages.allocate(0, self.name)
        try:
            self.pages.preserve(address)
        except Failure:
            self.pages.free(address)
            raise
        return address

    def freeze(self, data: int) -> int:
        """Keep the page. Returns `data`. Raises Failure."""
        self._check("freeze", data)
        return data

    def cancel(self, data: int) -> None:
        """Un-preserve and free the page."""
        self.trace.call(f"subsystem {self.name} cancel({data:#x})")
        self.pages.unpreserve(data)
        self.pages.free(data)

    def finish(self, data: int) -> None:
        """Restore and free the page."""
        self.trace.call(f"subsystem {self.name} finish({data:#x})")
        self.pages.restore(data)
        self.pages.free(data)

    def _check(self, step: str, data: int | None = None) -> None:
        self.trace.call(f"subsystem {self.name} {step}({'' if data is None else f'{data:#x}'})")
        if (step, self.name) in self.faults:
            raise Failure(self.faults[step, self.name])
