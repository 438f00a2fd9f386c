# SPDX-License-Identifier: MIT
"""Where a salvaged thing lies, and what the pointers of handovers lead to already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from luoser.state import Handover, Luo, MapStatus

__all__ = ["is_in_scratch", "place_words", "preserving", "proven"]


def proven(handovers: Sequence[Handover]) -> frozenset[int]:
    """The addresses of what pointers lead to, in all handovers and in the kernel's own lists."""
    return frozenset(address for handover in handovers for address in _addresses(handover) if address)


def _addresses(handover: Handover) -> Iterator[int | None]:
    yield handover.address
    yield from (subtree.address for subtree in handover.subtrees)
    yield from (address for devices in handover.pci for address in (devices.address, *devices.blocks))
    if handover.luo is not None:
        yield from _luo(handover.luo)
    if handover.pending is not None:
        for session in handover.pending.sessions:  # of its blocks only the pages are known, not what is written there
            yield from (file.memfd.address for file in session.files if file.memfd is not None)
        yield from (address for devices in handover.pending.lists for address in (devices.address, *devices.blocks))


def _luo(luo: Luo) -> Iterator[int | None]:
    yield from (luo.address, luo.session_area, luo.flb_area, *luo.session_blocks)
    for session in luo.sessions:
        yield from session.blocks
        yield from (file.memfd.address for file in session.files if file.memfd is not None)


def is_in_scratch(handovers: Sequence[Handover], address: int) -> Handover | None:
    """The handover in whose scratch areas an address lies. None: in no scratch area that is known."""
    for handover in handovers:
        if any(area.address <= address < area.address + area.size for area in handover.scratch or ()):
            return handover
    return None


def preserving(handovers: Sequence[Handover], address: int) -> Handover | None:
    """The handover with an intact map of which a block begins at an address. None: no such map has it."""
    for handover in handovers:
        intact = handover.preserved.map if handover.preserved.status is MapStatus.INTACT else None
        if intact is not None and intact.head(address) is not None:
            return handover
    return None


def place_words(handovers: Sequence[Handover], address: int) -> str:
    """Where an address lies, in words: in scratch, in memory that a map preserves, or in other memory."""
    scratch = is_in_scratch(handovers, address)
    if scratch is not None:
        return f"in scratch of the root {_name(scratch)}, where no kernel preserves anything"
    maps = [handover for handover in handovers if handover.preserved.map is not None]
    for handover in maps:
        if handover.preserved.map is not None and handover.preserved.map.find(address) is not None:
            return f"in memory that the root {_name(handover)} preserves"
    if maps:
        return f"in memory that {', '.join(f'the root {_name(one)}' for one in maps)} does not preserve"
    return "no map can be read: unknown whether it is preserved"


def _name(handover: Handover) -> str:
    return "?" if handover.address is None else f"{handover.address:#x}"
