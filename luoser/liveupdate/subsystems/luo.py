# SPDX-License-Identifier: MIT
"""The orchestrator of 2025 that the PCI series registers with (LUO RFC v2, 15 May 2025): one state for the machine,
subsystems in the order in which they registered, and a devicetree with a value of each."""

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
    """is_rfc: its devicetree as the RFC lays it out, in 1 MiB and with a node for files; else in one page, as the
    lab's kernels wrote it. values: what each subsystem handed over last. fdt: address of the tree for the next
    kernel, 0 while there is none. incoming: that of the kernel before.
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
        """Raises Failure: those that were prepared are cancelled, the failing one is expected to clean up itself."""
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
        """Raises Failure: those before the failing one are cancelled, and the tree with its old values stays."""
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
        if self.state not in (LuoState.PREPARED, LuoState.FROZEN):
            raise Failure(errno.EINVAL)
        self._cancel(len(self.subsystems))
        self._destroy_tree()
        self._switch(LuoState.NORMAL)

    def kexec(self) -> None:
        """The next kernel begins, and finds the tree."""
        self._need(LuoState.FROZEN)
        self.incoming, self.fdt, self.values = self.fdt, 0, {}
        self.state = LuoState.UPDATED
        self.trace.call("the next kernel finds a LUO tree: state updated")

    def finish(self) -> None:
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
            self.trace.flaw(f"LUO never frees the tree of the kernel before, {self.incoming:#x}")
        self.incoming = 0
        self._switch(LuoState.NORMAL)

    def _cancel(self, count: int) -> None:
        """Those before the boundary, in order."""
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
            raise UsageError(f"LUO is in state {self.state}; this step takes {state}")

    # -- the tree --

    @property
    def handed_over(self) -> Mapping[str, int]:
        """The values in memory: of the tree for the next kernel, or of the one before; none without a tree."""
        address = self.fdt or self.incoming
        if not address:
            return {}
        node = parse(bytes(self.pages.folios[address].data)).root.node(SUBSYSTEMS_NODE)
        names = [name for name, value in reversed(node.properties if node is not None else []) if len(value) == 8]
        return {name.decode(): node.u64(name.decode()) or 0 for name in names if node is not None}

    def tree(self) -> Fdt:
        """The devicetree as the kernel writes it by now."""
        values = [(name.encode(), struct.pack("<Q", value)) for name, value in self.values.items()]
        compatible = b"compatible"
        subsystems = Node(SUBSYSTEMS_NODE.encode(), [(compatible, b"subsystems-v1\0"), *values])
        root = Node(b"", [(compatible, b"luo-v1\0")], [subsystems])
        if not self.is_rfc:
            return sequential(root)
        subsystems.properties.reverse()  # libfdt puts what it adds to a tree in front
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
        """After a failed prepare, which makes KHO abort."""
        if self.is_fixed:
            self._destroy_tree()
            return
        self.trace.flaw(f"LUO forgets its tree {self.fdt:#x}, which stays allocated and preserved")
        self.fdt = 0


@dataclass(slots=True)
class OtherSubsystem:
    """Another subsystem, to see what its failures do to PCI: it hands over a page of its own.

    faults: errno by (step, name).
    """

    trace: Trace
    pages: Pages
    name: str
    faults: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def prepare(self) -> int:
        self._check("prepare")
        address = self.pages.allocate(0, self.name)
        try:
            self.pages.preserve(address)
        except Failure:
            self.pages.free(address)
            raise
        return address

    def freeze(self, data: int) -> int:
        self._check("freeze", data)
        return data

    def cancel(self, data: int) -> None:
        self.trace.call(f"subsystem {self.name} cancel({data:#x})")
        self.pages.unpreserve(data)
        self.pages.free(data)

    def finish(self, data: int) -> None:
        self.trace.call(f"subsystem {self.name} finish({data:#x})")
        self.pages.restore(data)
        self.pages.free(data)

    def _check(self, step: str, data: int | None = None) -> None:
        self.trace.call(f"subsystem {self.name} {step}({'' if data is None else f'{data:#x}'})")
        if (step, self.name) in self.faults:
            raise Failure(self.faults[step, self.name])
