# SPDX-License-Identifier: MIT
"""The nodes of a handover whose bytes a report shows, by their paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luoser.errors import UsageError
from luoser.state import Handover, State
from luoser.state.where import Node, find_node

__all__ = ["Dump", "Dumps", "nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """The bytes of a node.

    where:  path of the node.
    layout: of the bytes, and how it was determined, in words.
    rows:   as `luoser hexdump` prints them.
    note:   what is not shown, in words. Empty: nothing.
    """

    where: str
    address: int
    layout: str
    rows: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumps:
    """The bytes of the nodes of a source. note: what is not shown, and why, in words. Empty: nothing."""

    shown: tuple[Dump, ...] = ()
    note: str = ""


def nodes(state: State) -> Iterator[tuple[str, Node]]:
    """(path, node) of everything that has bytes of its own, each address once, what matters most first."""
    seen = set[int]()
    for number, handover in enumerate(state.handovers):
        prefix = f"handovers[{number}]." if len(state.handovers) > 1 else ""
        for path in _paths(handover):
            try:
                node = find_node(state, prefix + path)
            except UsageError:
                continue
            if node.address not in seen:
                seen.add(node.address)
                yield prefix + path, node


def _paths(handover: Handover) -> Iterator[str]:
    yield from ("root", "luo")
    for index, devices in enumerate(handover.pci):
        yield f"pci[{index}]"
        yield from (f"pci[{index}].blocks[{block}]" for block in range(len(devices.blocks)))
    yield from (f"subtrees[{index}]" for index in range(len(handover.subtrees)))
    if handover.luo is not None:
        luo = handover.luo
        yield "luo.flb_area"
        yield from (f"luo.flbs[{index}]" for index in range(len(luo.flbs)))
        yield from (f"luo.session_blocks[{index}]" for index in range(len(luo.session_blocks)))
        for index, session in enumerate(luo.sessions):
            here = f"luo.sessions[{index}]"
            yield here
            yield from (f"{here}.blocks[{block}]" for block in range(len(session.blocks)))
            for file, entry in enumerate(session.files):
                yield f"{here}.files[{file}].{'memfd' if entry.memfd is not None else 'data'}"
    for index, devices in enumerate(handover.pci):
        for place, device in enumerate(devices.devices):
            if device.number("driver_data"):
                yield f"pci[{index}].devices[{place}].driver_data"
    yield from (f"preserved.nodes[{index}]" for index in range(len(handover.preserved.nodes)))
